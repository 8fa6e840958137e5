"""Which jobs a list shows, in which order, and how far it says it has looked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from django_kue import get_queue, job, registry
from django_kue.listing import LOOKED_AT, Listing, at_of, tally
from django_kue.states import State
from tests.test_engine.hands import Hands, completed, failed, put


@pytest.fixture
def functions() -> Iterator[None]:
    @job(name="tests.receipt", title="Receipt {order}", search_keys=("order", "password"))
    def receipt(order: int, password: str = "") -> None: ...

    @job(name="tests.letter", queue="email", search_keys=("order",))
    def letter(order: int) -> None: ...

    yield
    registry.unregister(receipt)
    registry.unregister(letter)


def ids_of(jobs: list) -> list[str]:
    return [job.id for job in jobs]


def fail(count: int, queue: str = "default", message: str = "it broke") -> list[str]:
    put(queue, count)
    hands = Hands(queue)
    keys = hands.take(count)
    hands.settle_all(failed(message=message))
    return [f"{queue}.{key}" for key in keys]


def test_a_state_of_one_queue_is_exact_on_every_page() -> None:
    fail(30)
    listing = Listing(state=State.FAILED, queue="default")

    pages = [ids_of(listing.jobs(offset, 7)) for offset in range(0, 35, 7)]

    assert listing.count() == 30
    assert list(chain.from_iterable(pages)) == ids_of(get_queue("default").jobs("failed", limit=100))
    assert listing.scope().is_exact


@pytest.mark.parametrize("state", list(State))
def test_each_state_is_listed_as_its_queue_lists_it(state: State) -> None:
    put("default", 3)
    put("default", 3, delay=60_000)
    fail(2)
    hands = Hands("default")
    hands.take(2)
    hands.settle(next(iter(hands.leases)), completed())
    get_queue("default").jobs("waiting", limit=1)[0].cancel()

    for newest_first in (True, False):
        listing = Listing(state=state, queue="default", newest_first=newest_first)
        jobs = get_queue("default").jobs(state, newest_first=newest_first)
        assert ids_of(listing.jobs()) == ids_of(jobs)
        assert listing.count() == len(jobs)


def test_queues_are_merged_by_time() -> None:
    first, second, third = fail(1), fail(1, "email"), fail(1, "other")

    assert ids_of(Listing(state=State.FAILED).jobs()) == third + second + first
    assert ids_of(Listing(state=State.FAILED, newest_first=False).jobs()) == first + second + third


def test_all_states_are_merged_by_when_they_finished_are_due_started_or_were_enqueued() -> None:
    put("default", 2)
    put("email", 1, delay=60_000)
    fail(1, "other")

    jobs = Listing().jobs()

    assert len(jobs) == 4
    assert [at_of(job) for job in jobs] == sorted(map(at_of, jobs), reverse=True)


def test_a_span_of_time_begins_with_since_and_ends_before_until() -> None:
    fail(3)
    middle = get_queue("default").jobs("failed")[1]
    at = at_of(middle)

    for state, queue in ((State.FAILED, "default"), (None, None)):
        since = Listing(state=state, queue=queue, since=at)
        until = Listing(state=state, queue=queue, until=at)
        assert middle.id in ids_of(since.jobs())
        assert middle.id not in ids_of(until.jobs())
        assert since.count() + until.count() == 3


def test_failed_jobs_of_a_function_are_found_by_an_index(functions: None) -> None:
    registry.get("tests.receipt").enqueue(1)
    hands = Hands("default")
    hands.take_one()
    hands.settle_all(failed())
    fail(3)

    listing = Listing(state=State.FAILED, name="tests.receipt")

    assert listing.count() == 1
    assert [job.name for job in listing.jobs()] == ["tests.receipt"]
    assert listing.scope().is_exact
    assert tally(Listing(state=State.FAILED), "name") == {"tests.receipt": 1, "tests.noop": 3}


def test_jobs_of_a_function_are_found_among_the_newest(functions: None) -> None:
    receipt = registry.get("tests.receipt")
    wanted = [receipt.enqueue(number).id for number in range(3)]
    put("default", 5)

    listing = Listing(name="tests.receipt")

    assert sorted(ids_of(listing.jobs())) == sorted(wanted)
    assert listing.scope() == (8, 8, True)


def test_a_list_says_how_far_it_looked(functions: None) -> None:
    old = registry.get("tests.receipt").enqueue(1)
    put("default", LOOKED_AT)

    listing = Listing(name="tests.receipt")

    assert listing.count() == 0
    assert listing.scope() == (LOOKED_AT, LOOKED_AT + 1, False)
    assert ids_of(Listing(text=old.id).jobs()) == [old.id]


def test_pages_of_a_merged_list_end_where_it_says() -> None:
    put("default", LOOKED_AT)
    put("email", 5)

    listing = Listing(state=State.WAITING)

    assert listing.count() == LOOKED_AT + 5
    assert not listing.scope().is_exact
    assert len(listing.jobs(LOOKED_AT - 3, 25)) == 3


@pytest.mark.parametrize("text", ["receipt 17", "RECEIPT", "tests.rec"])
def test_text_is_found_in_titles_and_functions(functions: None, text: str) -> None:
    wanted = registry.get("tests.receipt").enqueue(17)
    put("default", 3)

    assert ids_of(Listing(text=text).jobs()) == [wanted.id]


def test_text_is_found_in_errors_and_in_given_titles() -> None:
    [broken] = fail(1, message="The Disk is full")
    fail(1, message="no route to host")
    [key] = put("default", 1, options={"title": "A special one"})

    assert ids_of(Listing(text="disk is").jobs()) == [broken]
    assert ids_of(Listing(text="special").jobs()) == [f"default.{key}"]
    assert Listing(text="nothing has this").jobs() == []


def test_search_keys_are_found_among_all_jobs_in_all_queues(functions: None) -> None:
    first = registry.get("tests.receipt").enqueue(4711)
    second = registry.get("tests.letter").enqueue(4711)
    put("default", LOOKED_AT + 10)

    for text in ("4711", "order=4711", "order = 4711"):
        assert sorted(ids_of(Listing(text=text).jobs())) == sorted([first.id, second.id])
    assert ids_of(Listing(text="order=4711", queue="email").jobs()) == [second.id]


def test_secret_search_keys_are_no_way_to_find_jobs(functions: None) -> None:
    registry.get("tests.receipt").enqueue(1, "swordfish")

    assert Listing(text="swordfish").jobs() == []
    assert Listing(text="password=swordfish").jobs() == []


def test_ids_are_read_as_they_are_and_filtered() -> None:
    gone = "default.AAAAAAAAAAAAAAAAAAAAAA"
    [broken] = fail(1)
    [key] = put("default", 1)

    assert ids_of(Listing(ids=(broken, gone, "no id")).jobs()) == [broken]
    assert Listing(ids=(broken, f"default.{key}"), state=State.FAILED).count() == 1


def test_a_listing_is_the_same_after_a_journey_through_a_job(functions: None) -> None:
    listing = Listing(
        state=State.FAILED,
        queue="email",
        since=datetime.now(UTC),
        text="x",
        ids=("email.a",),
        newest_first=False,
    )

    assert Listing.from_dict(listing.as_dict()) == listing
    assert Listing.from_dict(Listing().as_dict()) == Listing()


def test_keys_come_in_batches_and_each_once() -> None:
    fail(25)
    put("email", 12)

    batches = list(Listing().keys(10))

    assert max(map(len, batches)) == 10
    flat = list(chain.from_iterable(batches))
    assert len(flat) == len(set(flat)) == 37


def test_tallies_by_queue_and_state_are_exact() -> None:
    fail(3)
    put("email", 2)

    assert tally(Listing(), "queue") == {"default": 3, "email": 2}
    assert tally(Listing(), "state") == {"failed": 3, "waiting": 2}
    assert tally(Listing(text="it broke"), "state") == {"failed": 3}


def test_a_record_that_is_no_record_is_listed_and_no_search_stumbles_over_it() -> None:
    from tests.conftest import redis_client

    [key] = put("default", 1)
    redis_client().hset("kue:{default}:d", key, b"\xff\xfe")

    assert ids_of(Listing().jobs()) == [f"default.{key}"]
    assert Listing(text="word").jobs() == []


def test_what_has_left_the_list_meanwhile_is_not_shown() -> None:
    fail(2)
    listing = Listing(state=State.FAILED, text="it broke")
    assert listing.count() == 2

    get_queue("default").retry_failed()

    assert listing.jobs() == []


def test_a_time_is_read_from_the_state() -> None:
    put("default", 1, delay=60_000)
    [later] = get_queue("default").jobs("delayed")

    assert at_of(later) == later.run_at
    assert at_of(later) - later.created_at >= timedelta(seconds=59)
