"""One verb on many jobs: what's done, what's left alone, and that it ends beside others' work."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from django_kue import Job, bulk, get_queue, job, registry, signals
from django_kue.errors import EnqueueError, IllegalTransition
from django_kue.listing import Listing
from django_kue.states import State
from tests.test_engine.hands import Hands, failed, put
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
    while datetime.now(UTC).timestamp() * 1000 < shown.timestamp() * 1000 + 2:
        pass
    late = fail(2)

    assert bulk.apply(Listing(state=State.FAILED), "retry", until=shown).done == 2
    assert sorted(ids_of(get_queue("default").jobs("failed"))) == sorted(late)


def test_a_job_that_is_retried_and_fails_at_once_is_not_retried_again() -> None:
    fail(1100)
    hands = Hands()

    def fail_them_again(done: int, total: int) -> None:
        hands.take(2000)
        hands.settle_all(failed(message="again"))

    tally = bulk.apply(Listing(state=State.FAILED), "retry", on_progress=fail_them_again)

    assert tally.done == 1100
    assert get_queue("default").counts()["failed"] == 1100


def test_none_is_missed_among_those_that_stay() -> None:
    """Jobs whose unique key another one holds can't be retried, and stay in the list that's walked."""
    held = put("default", 700, unique="a" * 22)[:1]
    hands = Hands()
    hands.take(10)
    hands.settle_all(failed())
    put("default", 1, unique="a" * 22)  # the holder
    free = fail(1300)

    tally = bulk.apply(Listing(state=State.FAILED), "retry")

    assert (tally.done, tally.skipped) == (len(free), len(held))


def test_it_ends_beside_a_producer_that_never_stops() -> None:
    put("default", 600)

    tally = bulk.apply(
        Listing(state=State.WAITING), "cancel", on_progress=lambda done, total: put("default", 600)
    )

    assert tally.done <= 600 + 500
    assert get_queue("default").counts()["cancelled"] == tally.done >= 500


def test_progress_is_told_after_each_batch() -> None:
    fail(1100)
    told: list[tuple[int, int]] = []

    bulk.apply(Listing(state=State.FAILED), "remove", on_progress=lambda *numbers: told.append(numbers))

    assert told == [(500, 1100), (1000, 1100), (1100, 1100)]


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

    with pytest.raises(ValueError):
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
