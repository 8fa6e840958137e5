"""One verb on many jobs: what's done, what's left alone, and that it ends beside others' work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import pytest

from django_kue import Backoff, Job, bulk, get_queue, job, registry, signals
from django_kue import listing as listing_room
from django_kue.errors import EnqueueError, IllegalTransition, StoreUnavailable
from django_kue.listing import Listing
from django_kue.states import State
from django_kue.store import ask, moves
from tests.conftest import redis_client
from tests.test_engine.hands import CANCELLED, Hands, failed, job_of, put, wait_until
from tests.test_engine.test_listing import fail, ids_of

FAILED = Listing(state=State.FAILED)


@pytest.fixture
def remembered() -> Iterator[list[Job]]:
    told: list[Job] = []

    def note(sender: object, job: Job, **kwargs: object) -> None:
        told.append(job)

    for signal in (signals.job_enqueued, signals.job_cancelled, signals.job_removed, signals.job_promoted):
        signal.connect(note)
    yield told
    for signal in (signals.job_enqueued, signals.job_cancelled, signals.job_removed, signals.job_promoted):
        signal.disconnect(note)


@pytest.fixture
def receipt() -> Iterator[object]:
    @job(name="tests.receipt", title="Receipt {order}")
    def receipt(order: int, *, copy: bool = False) -> None: ...

    yield receipt
    registry.unregister(receipt)


def past(moment: datetime) -> None:
    """What's made from now on is of a later millisecond."""
    wait_until(lambda: datetime.now(UTC) - moment > timedelta(milliseconds=2))


def test_failed_jobs_of_all_queues_are_retried() -> None:
    fail(1200)
    fail(3, "email")

    assert bulk.apply(Listing(state=State.FAILED), "retry") == bulk.Tally(done=1203)
    assert get_queue("default").counts()["waiting"] == 1200
    assert get_queue("email").counts() == {**get_queue("other").counts(), "waiting": 3}


def test_only_what_matches_is_touched() -> None:
    [chosen, _other] = fail(2)
    fail(2, message="disk full")

    assert bulk.apply(Listing(ids=(chosen,)), "retry").done == 1
    assert bulk.apply(Listing(text="disk full"), "remove").done == 2
    assert get_queue("default").counts()["failed"] == 1


def test_what_cannot_be_done_is_counted_and_left_alone() -> None:
    fail(2)
    put("default", 3)

    assert bulk.apply(Listing(queue="default"), "retry") == bulk.Tally(done=2, skipped=3)
    assert bulk.apply(Listing(ids=("default.AAAAAAAAAAAAAAAAAAAAAA", "?")), "remove").done == 0


def test_each_verb_does_what_it_says() -> None:
    put("default", 2, delay=60_000)
    assert bulk.apply(Listing(state=State.DELAYED), "promote").done == 2
    assert bulk.apply(Listing(state=State.WAITING), "set_priority", "high").done == 2
    assert {one.priority for one in get_queue("default").jobs("waiting")} == {10}
    assert bulk.apply(Listing(state=State.WAITING), "cancel").done == 2
    assert bulk.apply(Listing(), "remove").done == 2
    assert sum(get_queue("default").counts().values()) == 0


def test_what_failed_after_the_list_was_shown_is_not_retried() -> None:
    fail(2)
    shown = datetime.now(UTC)
    past(shown)
    late = fail(2)

    assert bulk.apply(Listing(state=State.FAILED), "retry", until=shown).done == 2
    assert sorted(ids_of(get_queue("default").jobs("failed"))) == sorted(late)


def test_none_that_failed_is_left_alone_because_this_hosts_clock_is_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(minutes=5)

    fail(2)
    monkeypatch.setattr(bulk, "datetime", Behind)
    assert bulk.apply(FAILED, "retry") == bulk.Tally(done=2)


@pytest.mark.parametrize(
    "listing",
    [
        Listing(queue="default"),
        Listing(state=State.WAITING),
        Listing(text="noop"),
        Listing(name="tests.noop"),
    ],
)
def test_what_came_after_the_list_was_shown_is_left_alone(listing: Listing) -> None:
    put("default", 3)
    shown = datetime.now(UTC)
    past(shown)
    put("default", 2)
    put("default", 2, delay=60_000)
    listing = replace(listing, _memo={})

    assert bulk.apply(listing, "cancel", until=shown) == bulk.Tally(done=3)
    assert get_queue("default").counts()["cancelled"] == 3


def test_a_job_that_is_retried_and_fails_at_once_is_not_retried_again() -> None:
    fail(1100)
    hands = Hands()

    def fail_them_again(done: int, total: int) -> None:
        hands.take(2000)
        hands.settle_all(failed(message="again"))

    tally = bulk.apply(Listing(state=State.FAILED), "retry", on_progress=fail_them_again)

    assert tally.done == 1100
    assert get_queue("default").counts()["failed"] == 1100


@pytest.mark.parametrize(
    ("verb", "argument"), [("cancel", None), ("remove", None), ("set_priority", 10), ("run_again", None)]
)
def test_it_ends_beside_a_producer_that_never_stops_and_misses_none(
    verb: str, argument: object, receipt: Any
) -> None:
    wanted = {one.id for one in receipt.enqueue_many([(number,) for number in range(600)])}
    shown = datetime.now(UTC)
    past(shown)
    priorities = cycle([-10, 0, 10])

    tally = bulk.apply(
        Listing(state=State.WAITING), verb, argument, until=shown,
        on_progress=lambda done, total: put("default", 600, priority=next(priorities)) and None,
    )  # fmt: skip

    assert tally == bulk.Tally(done=len(wanted))


def test_it_goes_on_beside_a_worker_that_takes_and_fails_what_is_retried() -> None:
    fail(1100)
    fail(1100, "email")
    told: list[str] = []
    hands = {name: Hands(name) for name in ("default", "email")}

    def fail_them_again(done: int, total: int) -> None:
        for hand in hands.values():
            told.extend(hand.take(300))
            hand.settle_all(failed(message="again"))

    assert bulk.apply(Listing(state=State.FAILED), "retry", on_progress=fail_them_again).done == 2200
    assert len(told) == len(set(told))


def ask_all(verb: str, keys: list[str]) -> None:
    for first in range(0, len(keys), 500):
        ask(moves.verb(verb, "default", keys[first : first + 500]))


def test_none_is_missed_in_a_list_with_many_stale_entries() -> None:
    keys = put("default", 30_000)
    ask_all("remove", keys[16_000:])

    assert bulk.apply(Listing(state=State.WAITING), "remove") == bulk.Tally(done=16_000)


def test_none_is_missed_while_a_list_is_compacted() -> None:
    keys = put("default", 2_000)
    ask_all("remove", [*keys[::2], *keys[1:21:2]])
    left = get_queue("default").counts()["waiting"]
    assert redis_client().exists("kue:{default}:w:0", "kue:{default}:w:0:front") == 2

    assert bulk.apply(Listing(state=State.WAITING), "cancel") == bulk.Tally(done=left)


def test_all_active_jobs_are_asked_to_stop() -> None:
    put("default", 1_500)
    hands = Hands()
    for _ in range(3):
        hands.take(500)

    assert bulk.apply(Listing(state=State.ACTIVE), "cancel") == bulk.Tally(done=1_500)
    assert len(hands.beat().to_stop) == 1_500
    hands.settle_all(CANCELLED)


def test_none_is_missed_when_many_have_one_time() -> None:
    """Jobs of one delay, of which some are taken away by somebody else meanwhile."""
    due = int(time.time() * 1000) + 3_600_000
    keys = put("default", 1_700, run_at=due)
    held = put("default", 1_200, run_at=due - 1)

    def somebody(done: int, total: int) -> None:
        ask(moves.verb("remove", "default", [keys.pop() for _ in range(20)]))

    tally = bulk.apply(Listing(state=State.DELAYED), "set_priority", "low", on_progress=somebody)
    assert 2_900 - 20 * 16 <= tally.done < 2_900
    keys_left = get_queue("default").counts()["delayed"]
    assert bulk.apply(Listing(state=State.DELAYED), "set_priority", "high") == bulk.Tally(done=keys_left)
    done = bulk.apply(Listing(state=State.DELAYED), "promote", on_progress=somebody)
    counts = get_queue("default").counts()
    assert counts["delayed"] == 0
    assert counts["waiting"] <= done.done
    assert held


def test_a_job_whose_unique_key_is_held_does_not_hide_those_of_its_time() -> None:
    stuck = []
    hands = Hands()
    for number in range(600):
        [key] = put("default", 1, unique=f"{number:022d}")
        stuck.append(key)
    free = put("default", 900)
    while taken := hands.take(500):
        hands.turn(0, dict.fromkeys(taken, failed()))
    redis_client().zadd("kue:{default}:f", dict.fromkeys([*stuck, *free], 5_000))
    redis_client().zadd("kue:{default}:fn:tests.noop", dict.fromkeys([*stuck, *free], 5_000))
    for number in range(600):
        put("default", 1, unique=f"{number:022d}")

    assert bulk.apply(FAILED, "retry") == bulk.Tally(done=900, skipped=600)


def test_progress_is_told_after_each_batch() -> None:
    fail(450)
    told: list[tuple[int, int]] = []

    bulk.apply(Listing(state=State.FAILED), "remove", on_progress=lambda *numbers: told.append(numbers))

    assert told == [(200, 450), (400, 450), (450, 450)]


@pytest.mark.parametrize(
    ("verb", "argument", "state"),
    [
        ("retry", None, "failed"),
        ("cancel", None, "waiting"),
        ("remove", None, "failed"),
        ("promote", None, "delayed"),
    ],
)
def test_receivers_hear_of_each_job(remembered: list[Job], verb: str, argument: object, state: str) -> None:
    wanted = {
        "failed": lambda: fail(3),
        "waiting": lambda: [f"default.{key}" for key in put("default", 3)],
        "delayed": lambda: [f"default.{key}" for key in put("default", 3, delay=60_000)],
    }[state]()

    bulk.apply(Listing(state=State(state)), verb, argument)

    assert sorted(ids_of(remembered)) == sorted(wanted)


def test_running_again_makes_copies(receipt) -> None:
    receipt.using(priority="high", title="A special one").enqueue(1, copy=True)
    receipt.enqueue(2)
    put("default", 1)  # no such function here

    assert bulk.apply(Listing(state=State.WAITING), "run_again") == bulk.Tally(done=2, skipped=1)
    copies = [one for one in get_queue("default").jobs("waiting") if one.name == "tests.receipt"]
    seen = sorted((one.title, one.priority, one.args, tuple(one.kwargs.items())) for one in copies)
    assert seen == sorted(2 * [("A special one", 10, (1,), (("copy", True),)), ("Receipt 2", 0, (2,), ())])


def test_a_copy_has_the_options_of_its_job(receipt: Any) -> None:
    first = receipt.using(
        attempts=7, timeout=30, keep=60, backoff=Backoff.fixed(5), title="A special one", queue="other"
    ).enqueue(1)

    copy = bulk.copy_of(first)

    assert copy.id != first.id
    assert copy.refresh().queue == "other"
    assert copy.refresh()._options == first.refresh()._options
    assert copy.attempts == 7
    assert bulk.copy_of(first, priority=3).priority == 3


def test_no_copy_is_made_of_options_that_cannot_be_read(receipt: Any) -> None:
    [key] = put("default", 1)
    text = b'o16|tests.receipt|{"timeout":"no"}[1]'
    redis_client().hset("kue:{default}:d", key, text)

    with pytest.raises(IllegalTransition, match="again: .*timeout must be"):
        bulk.copy_of(job_of(key))


def test_a_store_that_is_away_is_not_taken_for_a_job_that_cannot_be_copied(
    receipt: Any, monkeypatch: Any
) -> None:
    receipt.enqueue(1)

    def away(*args: object, **kwargs: object) -> Any:
        raise EnqueueError("away") from StoreUnavailable("away")

    monkeypatch.setattr(bulk, "copy_of", away)
    with pytest.raises(StoreUnavailable, match="away"):
        bulk.apply(Listing(state=State.WAITING), "run_again")


def test_each_job_is_copied_once_wherever_it_goes_meanwhile(receipt: Any) -> None:
    receipt.using(delay=60).enqueue_many([(number,) for number in range(700)])

    def promote(done: int, total: int) -> None:
        get_queue("default").promote_delayed()

    assert bulk.apply(Listing(), "run_again", on_progress=promote) == bulk.Tally(done=700)
    assert get_queue("default").counts()["waiting"] == 1_400


def test_a_copy_may_have_other_arguments_which_have_to_fit(receipt) -> None:
    first = receipt.enqueue(1)

    assert bulk.copy_of(first, args=(5,)).title == "Receipt 5"
    with pytest.raises(EnqueueError, match="missing a required argument: 'order'"):
        bulk.copy_of(first, args=())
    registry.unregister(receipt)
    with pytest.raises(IllegalTransition, match="no function 'tests.receipt' is known"):
        bulk.copy_of(first)


@pytest.mark.parametrize(
    ("verb", "argument"), [("explode", None), ("set_priority", "very"), ("set_priority", 101)]
)
def test_mistakes_are_told_before_anything_is_done(verb: str, argument: object) -> None:
    fail(1)

    with pytest.raises(ValueError, match="no verb 'explode'|very|101"):
        bulk.start(Listing(), verb, argument)
    assert get_queue("default").counts()["failed"] == 1


def test_few_jobs_are_done_at_once_and_many_too_when_no_worker_runs(monkeypatch) -> None:
    fail(20)
    assert bulk.start(Listing(state=State.FAILED), "retry") == bulk.Tally(done=20)

    monkeypatch.setattr(bulk, "INLINE", 10)
    assert bulk.start(Listing(state=State.WAITING), "cancel") == bulk.Tally(done=20)


def test_many_jobs_are_done_by_a_job(monkeypatch) -> None:
    from tests.worker_process import WorkerProcess, wait_for

    monkeypatch.setattr(bulk, "INLINE", 10)
    fail(1100, "other")
    with WorkerProcess("--processes", "1", "--queues", "default") as worker:
        worker.wait_started()
        wait_for(bulk._served_queue, 10, "a worker in the list")
        started = bulk.start(Listing(state=State.FAILED, queue="other"), "retry")

        assert isinstance(started, Job)
        assert started.title == "Retry 1,100 jobs"
        assert started.wait(20) == {"done": 1100, "skipped": 0}
    assert started.refresh().progress_data == {"done": 1100, "of": 1100}
    assert get_queue("other").counts()["waiting"] == 1100


def test_work_on_what_was_searched_for_takes_the_time_that_it_needs(monkeypatch: Any) -> None:
    put("default", 1_200)
    monkeypatch.setattr(listing_room, "PATIENCE", -1.0)
    found = Listing(text="noop")

    assert found.count() == 0
    assert bulk.apply(found, "cancel") == bulk.Tally(done=1_200)
    assert found.count() == 0  # what people see stays as it was


@pytest.mark.parametrize("verb", ["retry", "run_again"])
def test_work_on_many_jobs_is_not_done_again_along_with_others(verb: str, receipt: Any) -> None:
    """Who may retry jobs may not remove them, as that work may do."""
    bulk.bulk_job.enqueue(Listing().as_dict(), "remove", None, datetime.now(UTC))
    receipt.enqueue(1)
    hands = Hands()
    hands.take(2)
    hands.settle_all(failed())

    assert bulk.apply(FAILED, verb) == bulk.Tally(done=1, skipped=1)
    assert [one.name for one in get_queue("default").jobs("waiting")] == ["tests.receipt"]


def test_times_beyond_the_calendar_hinder_no_work() -> None:
    keys = put("default", 1_200, delay=60_000)
    redis_client().zadd("kue:{default}:z", dict.fromkeys(keys[:700], 1e17) | {keys[700]: "inf"})

    assert bulk.apply(Listing(state=State.DELAYED), "set_priority", 7) == bulk.Tally(done=1_200)
    assert bulk.apply(Listing(state=State.DELAYED), "promote") == bulk.Tally(done=1_200)
