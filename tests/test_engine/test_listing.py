"""Which jobs a list shows, in which order, and how far it says it has looked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest

from django_kue import get_queue, ids, job, registry, searching, sources
from django_kue import listing as listing_room
from django_kue.handover import submit
from django_kue.listing import LOOKED_AT, Listing, at_of, queue_names, tally
from django_kue.records import NewJob
from django_kue.states import State
from django_kue.store import ask, reads, transport
from tests.conftest import redis_client
from tests.test_engine.hands import NAME, Hands, completed, error_text, failed, put


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine looks as far as a quick one; tests of the patience itself set their own."""
    monkeypatch.setattr(listing_room, "PATIENCE", 60)


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
    assert len(keys) == count, "something else takes jobs, too"
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


def test_all_states_are_merged_by_when_they_finished_started_or_were_enqueued_and_then_what_is_due() -> None:
    put("default", 2)
    put("email", 1, delay=60_000)
    fail(1, "other")
    put("other", 1, delay=90_000)

    for newest_first in (True, False):
        jobs = Listing(newest_first=newest_first).jobs()
        states = [job.state for job in jobs]
        assert states[3:] == ["delayed", "delayed"]
        for part in (jobs[:3], jobs[3:]):
            times = [at_of(job) for job in part]
            assert times == sorted(times, reverse=newest_first)


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


def test_many_queues_and_states_are_merged_by_time_on_every_page() -> None:
    hands = {name: Hands(name) for name in ("default", "email", "other")}
    for turn in range(8):
        for name, hand in hands.items():
            put(name, 40)
            put(name, 5, delay=60_000 + turn)
            hand.take(30)
            hand.settle_all(failed() if turn % 2 else completed())
    for newest_first in (True, False):
        listing = Listing(newest_first=newest_first)
        pages = [listing.jobs(offset, 100) for offset in range(0, listing.count() + 100, 100)]
        jobs = list(chain.from_iterable(pages))
        assert len(jobs) == len(set(ids_of(jobs))) == listing.count() == 3 * 8 * 45
        for part in (jobs[: 3 * 8 * 40], jobs[3 * 8 * 40 :]):  # delayed ones come last
            times = [at_of(job) for job in part]
            assert times == sorted(times, reverse=newest_first)


def test_jobs_of_one_moment_are_on_one_page_each() -> None:
    """They stand in another order than their keys' texts would sort in, which no page may depend on."""
    for name in ("default", "email", "other"):
        keys = [key[:8] + f"{number * 37 % 150:014}".encode() for number, key in enumerate(ids.new_keys(150))]
        submit(name, [NewJob(key=key, name=NAME) for key in keys])
    listing = Listing(state=State.WAITING)
    pages = [listing.jobs(offset, 25) for offset in range(0, 450, 25)]
    assert len({job.id for page in pages for job in page}) == 450


def test_waiting_jobs_of_all_priorities_are_merged_by_time() -> None:
    keys = []
    for number in range(300):
        keys += put("default", 1, priority=[0, 10, -10][number % 3])
        time.sleep(0.0011)  # each has a millisecond of its own

    assert [job.key for job in Listing(state=State.WAITING, text="noop").jobs(0, 300)] == keys[::-1]
    put("email", 1)
    assert [job.key for job in Listing(state=State.WAITING).jobs(0, 300)][1:] == keys[:0:-1]
    assert [job.key for job in Listing().jobs(0, 60)][1:] == keys[: 300 - 60 : -1]


def test_no_script_is_asked_for_more_than_a_thousand_keys(monkeypatch: Any) -> None:
    put("default", 3_000, priority=10)
    put("default", 3_000)
    fail(1_200, "email")
    sizes: list[int] = []
    real = transport.ServerLink._replies

    def spied(link: Any, calls: Any, *how: Any) -> Any:
        for call in calls:
            if call.script.name in ("heads", "lights", "read", "having"):
                sizes.append(int(call.arguments[2]) if call.script.name == "heads" else len(call.arguments))
        return real(link, calls, *how)

    monkeypatch.setattr(transport.ServerLink, "_replies", spied)
    assert Listing(text="nothing has this").count() == 0
    assert len(list(Listing(state=State.WAITING).keys())) == 6
    assert len(Listing().jobs(7_000, 500)) == 200
    assert max(sizes) <= 1_000


def test_a_search_stops_when_its_time_is_over_and_says_how_far_it_got(monkeypatch: Any) -> None:
    put("default", 3_000)
    monkeypatch.setattr(listing_room, "PATIENCE", -1.0)

    listing = Listing(text="noop")

    assert listing.count() == 0
    assert listing.scope() == (0, 3_000, False)


def test_a_list_is_looked_through_once_for_its_count_its_page_and_its_scope(monkeypatch: Any) -> None:
    put("default", 10)
    looks: list[int] = []
    real = listing_room.lights

    def spied(entries: Any) -> Any:
        looks.append(len(entries))
        return real(entries)

    monkeypatch.setattr(listing_room, "lights", spied)
    listing = Listing(text="noop")
    assert (listing.count(), len(listing.jobs()), listing.scope()) == (10, 10, (10, 10, True))
    assert sum(looks) == 10
    assert Listing(text="noop") == listing


def test_queues_beyond_the_first_500_are_left_out(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {f"q{number}": {} for number in range(520)}}
    put("q3", 2)
    put("q510", 2)

    assert len(queue_names()) == 500
    assert Listing().count() == 2
    assert Listing(queue="q510").count() == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (error_text('no "route" to\nhost'), 'ValueError: no "route" to\nhost'),
        (error_text("Größe ✓ {x}"), "ValueError: Größe ✓ {x}"),
        (error_text("a\\b"), "ValueError: a\\b"),
        (
            b'{"type":"django_kue.errors.JobExpired","message":"not started in time"}',
            "JobExpired: not started",
        ),
        (error_text("é" * 2_000), "ValueError: ééé"),
        (b"", ""),
        (b"no JSON", ""),
        (b'{"type":"a.B","message":"\\x"}', "B: \\x"),
    ],
)
def test_an_error_is_read_from_the_beginning_of_an_outcome(error: bytes, text: str) -> None:
    for length in (1024, 151):
        found = searching.error_text((b"f|1|2|w|" + error)[:length])
        assert found.startswith(text[:14])
        assert "\\u" not in found
    assert searching.error_text(b"f|1|2|w|" + error).startswith(text)


def test_tracebacks_and_long_errors_do_not_match_by_their_form() -> None:
    fail(1, message="x" * 3_000)

    for text in ("traceback", "message", '"type"'):
        assert Listing(text=text).count() == 0
    assert Listing(text="xxxxx").count() == 1


def test_a_title_is_found_however_the_arguments_were_given() -> None:
    @job(name="tests.many", title="{a}-{b}-{c}-{token}")
    def many(a: int, b: int = 2, *rest: int, c: int = 3, token: str = "t") -> None: ...

    try:
        handles = [
            many.enqueue(1), many.enqueue(1, 5), many.enqueue(1, 5, 6, 7), many.enqueue(a=1, c=9),
            many.enqueue(1, c=None), many.enqueue([1], 2), many.enqueue(1, token="swordfish"),
        ]  # fmt: skip
        for handle in handles:
            title = handle.title
            record = searching.readable(redis_client().hget("kue:{default}:d", handle.key))
            assert searching.title_of(record) == title
            assert handle.id in ids_of(Listing(text=title).jobs())
        assert Listing(text="swordfish").count() == 0
        redis_client().hset("kue:{default}:d", handles[0].key, b"|tests.many|[]")
        assert Listing(text="tests.many").count() == len(handles)
    finally:
        registry.unregister(many)


def test_what_is_secret_in_a_title_is_not_searched() -> None:
    @job(name="tests.secretive", title="{a} with {token}")
    def secretive(a: int, token: str) -> None: ...

    try:
        secretive.enqueue(1, "swordfish")
        assert Listing(text="swordfish").count() == 0
        assert Listing(text="1 with •••").count() == 1
    finally:
        registry.unregister(secretive)


def test_jobs_that_expired_are_found_by_that() -> None:
    [key] = put("default", 1, expires=1)
    time.sleep(0.005)
    Hands().take(1)

    assert [job.key for job in Listing(text="jobexpired: not started").jobs()] == [key]


def test_arguments_that_the_title_does_not_show_are_not_searched(functions: None) -> None:
    registry.get("tests.letter").enqueue(123_456_789)

    assert Listing(text="23456").count() == 0
    assert Listing(text="123456789").count() == 1  # by its search key


def test_huge_records_are_cut_and_found_by_their_function() -> None:
    [key] = put("default", 1, arguments=b'["' + b"x" * 50_000 + b'"]')

    assert [job.key for job in Listing(text="tests.noop").jobs()] == [key]
    [(record, _)] = ask(reads.lights("default", [key.encode()]))
    assert len(record) == reads.LIGHT


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


@pytest.mark.foreign_data
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


def test_the_time_in_a_key_is_read_quickly_as_it_is_slowly() -> None:
    for key in (ids.new_keys(1)[0], b"-_-_-_-_" + b"A" * 14, b"A" * 22):
        assert sources._created(key) == ids.created_ms(key.decode())
    assert sources._created(b"?") == sources._created(b"") == sources._created(b"A") == 0


def test_titles_of_jobs_with_long_arguments_are_searched_too(functions: None) -> None:
    receipt = registry.get("tests.receipt")
    wanted = receipt.enqueue(4712, "x" * 5_000)
    receipt.enqueue_many([(number, "x" * 5_000) for number in range(130)])

    listing = Listing(text="Receipt 4712")

    assert ids_of(listing.jobs()) == [wanted.id]
    assert listing.scope() == (131, 131, True)


def test_what_there_was_no_time_to_read_whole_was_not_looked_at(functions: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(listing_room, "PATIENCE", 0.2)
    registry.get("tests.receipt").enqueue_many([(number, "x" * 5_000) for number in range(130)])
    put("default", 3)
    real = listing_room.lights

    def slow(entries: Any) -> Any:
        time.sleep(listing_room.PATIENCE)
        return real(entries)

    monkeypatch.setattr(listing_room, "lights", slow)
    assert Listing(text="Receipt 4").scope() == (3, 133, False)


def test_a_time_beyond_the_calendar_is_one_at_its_end() -> None:
    keys = put("default", 3, delay=60_000)
    redis_client().zadd("kue:{default}:z", {keys[0]: 1e17, keys[1]: "inf", keys[2]: "-inf"})

    entries = Listing(state=State.DELAYED, queue="default").entries(0, 3)
    assert [entry.at_ms for entry in entries] == [reads.LAST_MS, reads.LAST_MS, 0]
    assert Listing(since=datetime(2000, 1, 1, tzinfo=UTC)).count() == 2
    assert Listing().count() == len(Listing().jobs()) == 3
