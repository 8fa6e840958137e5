"""Queues as people see them: every method, its bad input, and its twin for asyncio."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_kue import Job, JobDoesNotExist, Queue, aget_queue, aqueues, get_queue, handover, job, queues
from django_kue import queue as queue_module
from django_kue.signals import job_promoted, queue_paused, queue_resumed
from django_kue.states import State
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, completed, failed, job_of, put, put_one, rescue, retried

QUEUE = Queue("default")
EMPTY = dict.fromkeys(("delayed", "waiting", "active", "completed", "failed", "cancelled"), 0)


@job(name="tests.queued", search_keys=("order_id",))
def queued(order_id: int) -> None: ...


def one_of_each() -> dict[str, str]:
    """A job in each state; keys by state."""
    hands = Hands()
    keys = {}
    for state, outcome in {"completed": completed(), "failed": failed(), "active": None}.items():
        keys[state] = put_one(priority=50)
        assert hands.take(1) == [keys[state]]
        if outcome:
            hands.settle(keys[state], outcome)
    keys["cancelled"] = put_one()
    job_of(keys["cancelled"]).cancel()
    keys["waiting"] = put_one()
    keys["delayed"] = put_one(delay=3_600_000)
    return keys


# ── reading ──


def test_counts_tell_all_six_states() -> None:
    assert QUEUE.counts() == EMPTY
    one_of_each()
    assert QUEUE.counts() == dict.fromkeys(EMPTY, 1)
    put(count=2_500)
    assert QUEUE.counts() == {**dict.fromkeys(EMPTY, 1), "waiting": 2_501}


def test_jobs_of_each_state_are_listed_by_its_name_and_by_kues() -> None:
    keys = one_of_each()
    for state, key in keys.items():
        assert [job.key for job in QUEUE.jobs(state)] == [key]
        assert [job.key for job in QUEUE.jobs(State(state))] == [key]
    assert [job.key for job in QUEUE.jobs("inactive")] == [keys["waiting"]]
    assert [job.key for job in QUEUE.jobs("complete")] == [keys["completed"]]


def test_finished_jobs_are_listed_by_when_they_finished_and_paged() -> None:
    keys = put(count=20)
    hands = Hands()
    for _ in keys:
        hands.settle(hands.take_one(), completed())
        time.sleep(0.002)
    assert [job.key for job in QUEUE.jobs("completed", newest_first=False)] == keys
    assert [job.key for job in QUEUE.jobs("completed", offset=5, limit=3)] == keys[::-1][5:8]
    assert QUEUE.jobs("completed", offset=20) == QUEUE.jobs("completed", limit=0) == []


def test_active_jobs_are_listed_by_when_they_were_claimed_and_paged() -> None:
    keys = put(count=5)
    hands = Hands()
    for _ in keys:
        hands.take_one()
        time.sleep(0.002)
    assert [job.key for job in QUEUE.jobs("active", newest_first=False)] == keys
    assert [job.key for job in QUEUE.jobs("active", offset=1, limit=2)] == keys[::-1][1:3]


@pytest.mark.parametrize("wrong", ["done", "", "WAITING", None, 3])
def test_an_unknown_state_is_refused_with_those_that_there_are(wrong: Any) -> None:
    for ask in (QUEUE.jobs, QUEUE.clean):
        with pytest.raises(ValueError, match="delayed, waiting, active, completed, failed, cancelled"):
            ask(wrong)


def test_rates_tell_how_many_ended_in_each_minute() -> None:
    put(count=5)
    hands = Hands()
    for outcome in (completed(), completed(), failed(), retried(60_000), completed()):
        hands.settle(hands.take_one(), outcome)
    rates = QUEUE.rates(120)
    assert len(rates) == 120
    assert (sum(rate.completed for rate in rates[-2:]), sum(rate.failed for rate in rates[-2:])) == (3, 1)
    assert all(rate.completed == rate.failed == 0 for rate in rates[:-2])
    assert {second.minute - first.minute for first, second in pairwise(rates)} == {timedelta(minutes=1)}
    assert timedelta(0) <= datetime.now(UTC) - rates[-1].minute < timedelta(seconds=80)


def test_the_longest_waiting_is_the_oldest_of_what_comes_next_in_each_priority() -> None:
    assert QUEUE.oldest_waiting() is None
    put_one()
    time.sleep(0.05)
    put_one(priority=10)
    found = QUEUE.oldest_waiting()
    assert found is not None
    assert 0.03 < found < 20
    Hands().take(5)
    assert QUEUE.oldest_waiting() is None


def test_the_age_of_a_cancelled_entry_does_not_count() -> None:
    old = put_one()
    time.sleep(0.05)
    put_one()
    job_of(old).cancel()
    found = QUEUE.oldest_waiting()
    assert found is not None
    assert found < 0.05


def test_a_job_is_found_in_its_queue_only() -> None:
    handle = queued.enqueue(17)
    assert QUEUE.get(handle.id) == handle.refresh()
    with pytest.raises(JobDoesNotExist):
        get_queue("other").get(handle.id)
    assert get_queue("other").find(order_id=17) == []


WRONG = [
    (lambda q: q.jobs("waiting", limit=None), TypeError, "limit is a whole number from 0 to 1000"),
    (lambda q: q.jobs("waiting", limit="5"), TypeError, "limit is a whole number"),
    (lambda q: q.jobs("waiting", limit=1001), ValueError, "limit is a whole number from 0 to 1000, not 1001"),
    (lambda q: q.jobs("waiting", offset=1.5), TypeError, "offset is a whole number, 0 or more, not 1.5"),
    (lambda q: q.jobs("waiting", offset=-1), ValueError, "offset is a whole number, 0 or more, not -1"),
    (lambda q: q.jobs("waiting", offset=float("nan")), TypeError, "not nan"),
    (lambda q: q.jobs("waiting", limit=-1), ValueError, "from 0 to 1000, not -1"),
    (lambda q: q.rates(0), ValueError, "from 1 to 1440, not 0"),
    (lambda q: q.rates("60"), TypeError, "minutes is a whole number from 1 to 1440, not '60'"),
    (lambda q: q.rates(True), TypeError, "not True"),
    (lambda q: q.rates(1441), ValueError, "from 1 to 1440, not 1441"),
    (lambda q: q.clean("failed", "1h"), TypeError, "number of seconds or a timedelta, not '1h'"),
    (lambda q: q.clean("failed", None), TypeError, "older_than is a number of seconds"),
    (lambda q: q.clean("failed", float("nan")), ValueError, "not NaN"),
    (lambda q: q.clean("failed", float("inf")), ValueError, "from 0 to ten years, not inf"),
    (lambda q: q.clean("failed", 10**400), ValueError, "from 0 to ten years"),
    (lambda q: q.clean("failed", -1), ValueError, "from 0 to ten years, not -1"),
    (lambda q: q.find(order_id={1, 2}), ValueError, r"find\(order_id=…\): set can't"),
    (lambda q: get_queue(["email"]), TypeError, r"a queue's name is a string, .*not \['email'\]"),
    (lambda q: get_queue(q), TypeError, "a queue's name is a string"),
    (lambda q: get_queue(None), TypeError, "a queue's name is a string"),
    (lambda q: Queue("a}b"), ValueError, "letters, digits, _ and -, not 'a}b'"),
    (lambda q: Queue(None), TypeError, "a queue's name is a string, .*not None"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "error", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_a_wrong_argument_is_told_with_what_was_expected(
    ask: Callable[[Queue], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        ask(QUEUE)


# ── steering ──


def test_pause_and_resume_say_whether_they_changed_anything_and_send_a_signal_then() -> None:
    told: list[tuple[str, Any]] = []

    def paused(queue: Any, **kwargs: Any) -> None:
        told.append(("paused", queue))

    def resumed(queue: Any, **kwargs: Any) -> None:
        told.append(("resumed", queue))

    queue_paused.connect(paused)
    queue_resumed.connect(resumed)
    assert not QUEUE.is_paused
    assert QUEUE.pause()
    assert not QUEUE.pause()
    assert QUEUE.is_paused
    assert not get_queue("other").is_paused
    assert QUEUE.resume()
    assert not QUEUE.resume()
    assert not QUEUE.is_paused
    assert told == [("paused", QUEUE), ("resumed", QUEUE)]


def test_empty_removes_all_that_waits_and_nothing_else() -> None:
    one_of_each()
    put(count=2_500, priority=3)
    put(count=1_200, delay=60_000)
    assert QUEUE.empty() == 3_702
    assert QUEUE.counts() == {**dict.fromkeys(EMPTY, 1), "waiting": 0, "delayed": 0}
    assert QUEUE.empty() == 0


def test_clean_removes_what_finished_before() -> None:
    keys = put(count=4)
    hands = Hands()
    hands.take(4)
    for key in keys[:2]:
        hands.settle(key, failed())
    time.sleep(0.1)
    for key in keys[2:]:
        hands.settle(key, failed())
    assert QUEUE.clean("failed", older_than=60) == 0
    assert QUEUE.clean("failed", older_than=timedelta(seconds=0.08)) == 2
    assert {job.key for job in QUEUE.jobs("failed")} == set(keys[2:])
    assert QUEUE.clean("failed") == 2
    assert QUEUE.clean("completed") == QUEUE.clean("cancelled") == 0


def test_clean_removes_more_than_one_batch() -> None:
    put(count=2_300)
    hands = Hands()
    while taken := hands.take(1_000):
        hands.turn(0, dict.fromkeys(taken, failed()))
    assert QUEUE.clean("failed") == 2_300


@pytest.mark.parametrize("state", ["waiting", "delayed", "active"])
def test_clean_is_only_for_what_has_finished(state: str) -> None:
    with pytest.raises(ValueError, match=r"empty\(\)"):
        QUEUE.clean(state)


@pytest.mark.parametrize("wrong", [-1, "soon", None])
def test_clean_takes_seconds(wrong: Any) -> None:
    put_one()
    hands = Hands()
    hands.settle(hands.take_one(), failed())
    with pytest.raises((ValueError, TypeError)):
        QUEUE.clean("failed", older_than=wrong)
    assert QUEUE.counts()["failed"] == 1


def test_retry_failed_runs_all_that_have_failed_until_now() -> None:
    keys = put(count=1_100)
    hands = Hands()
    while taken := hands.take(200):
        hands.turn(0, dict.fromkeys(taken, failed()))
    assert QUEUE.retry_failed() == 1_100
    assert QUEUE.counts() == {**EMPTY, "waiting": 1_100}
    assert sorted(hands.run_all(300)) == sorted(keys)
    assert QUEUE.retry_failed() == 0


def test_promote_delayed_makes_all_run_now_that_are_delayed_in_the_order_of_their_times() -> None:
    later, sooner = put_one(delay=7_200_000), put_one(delay=3_600_000)
    put(count=1_100, delay=10_000_000)
    failing = put_one()
    hands = Hands()
    hands.settle(hands.take_one(), failed())
    assert QUEUE.promote_delayed() == 1_102
    assert QUEUE.counts() == {**EMPTY, "waiting": 1_102, "failed": 1}
    assert hands.run_all(300)[:2] == [sooner, later]
    assert job_of(failing).state is State.FAILED
    assert QUEUE.promote_delayed() == 0


def test_who_listens_hears_of_each_promoted_job() -> None:
    told: list[tuple[str, State]] = []

    def promoted(job: Job, **kwargs: Any) -> None:
        told.append((job.key, job.state))

    job_promoted.connect(promoted)
    keys = put(count=3, delay=60_000)
    put_one()
    try:
        assert QUEUE.promote_delayed() == 3
    finally:
        job_promoted.disconnect(promoted)
    assert sorted(told) == sorted((key, State.WAITING) for key in keys)


# ── which queues there are ──


def test_declared_queues_and_those_that_once_had_jobs_are_listed_by_name(settings: Any) -> None:
    put_one("other")
    settings.KUE = {**settings.KUE, "QUEUES": {"zebra": {}}}
    assert [str(queue) for queue in queues()] == ["default", "other", "zebra"]
    assert get_queue("other").counts()["waiting"] == 1
    assert get_queue() == QUEUE
    with pytest.raises(LookupError, match=r"No queue 'zebar' is declared. Did you mean 'zebra'\?"):
        get_queue("zebar")


def test_a_queue_joins_the_registry_with_its_first_job() -> None:
    assert not redis_client().exists("{kue}:queues")
    put_one("other")
    assert redis_client().smembers("{kue}:queues") == {b"other"}


# ── the twins ──


def _twins() -> list[str]:
    return sorted(
        name
        for name in vars(Queue)
        if name.startswith("a") and inspect.iscoroutinefunction(getattr(Queue, name))
    )


def test_every_method_that_talks_to_redis_has_a_twin() -> None:
    public = {name for name in vars(Queue) if not name.startswith("_")} - {"name", "is_paused", *_twins()}
    assert {f"a{name}" for name in public} | {"ais_paused"} == set(_twins())
    verbs = {
        "get",
        "refresh",
        "logs",
        "runs",
        "events",
        "retry",
        "promote",
        "cancel",
        "remove",
        "set_priority",
    }
    assert all(callable(getattr(Job, f"a{verb}")) for verb in verbs)
    assert inspect.iscoroutinefunction(Job.await_result)


CALLS: dict[str, tuple[Any, ...]] = {
    "counts": (), "oldest_waiting": (), "work_time": (), "rates": (5,), "pause": (), "resume": (),
    "empty": (), "retry_failed": (), "promote_delayed": (), "jobs": ("failed",), "clean": ("completed",),
}  # fmt: skip


def _state_of_all() -> tuple[Any, ...]:
    return (QUEUE.counts(), QUEUE.is_paused, [job.state for job in QUEUE.jobs("waiting")])


@pytest.mark.parametrize("name", CALLS)
async def test_a_twin_does_and_answers_the_same(name: str) -> None:
    answers = []
    for method in (sync_to_async(getattr(QUEUE, name)), getattr(QUEUE, f"a{name}")):
        await sync_to_async(redis_client().flushall)()
        handover._known.clear()  # so that the queue joins the registry again
        await sync_to_async(one_of_each)()
        answer = await method(*CALLS[name])
        if name == "jobs":
            answer = [job.state for job in answer]
        elif name == "oldest_waiting":
            answer = answer is not None and 0 <= answer < 60
        answers.append((answer, await sync_to_async(_state_of_all)()))
    assert answers[0] == answers[1]


async def test_the_other_twins_answer_the_same() -> None:
    handle = await queued.aenqueue(17)
    assert await QUEUE.aget(handle.id) == await sync_to_async(QUEUE.get)(handle.id)
    assert await QUEUE.afind(order_id=17) == await sync_to_async(QUEUE.find)(order_id=17) != []
    assert await QUEUE.ais_paused() is False
    await QUEUE.apause()
    assert await QUEUE.ais_paused() is True
    assert await aqueues() == await sync_to_async(queues)()
    with pytest.raises(ValueError):
        await QUEUE.ajobs("done")
    with pytest.raises(ValueError):
        await QUEUE.afind()


async def test_queues_are_found_without_threads(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    await sync_to_async(put_one)("other")
    settings.KUE = {**settings.KUE, "QUEUES": {"zebra": {}}}
    monkeypatch.setattr(queue_module, "sync_to_async", None)
    monkeypatch.setattr(queue_module, "ask", None)
    assert await aget_queue("other") == Queue("other")
    assert [str(queue) for queue in await aqueues()] == ["default", "other", "zebra"]
    with pytest.raises(LookupError, match=r"No queue 'zebar' is declared. Did you mean 'zebra'\?"):
        await aget_queue("zebar")
    with pytest.raises(TypeError, match="a queue's name is a string"):
        await aget_queue(17)  # type: ignore[arg-type]
    monkeypatch.setattr(queue_module, "aask", None)
    assert await aget_queue() == await aget_queue("default") == QUEUE


def test_sweeping_an_unused_queue_does_no_harm() -> None:
    assert rescue("other") == []
    assert Hands("other").turn(5).keys == []
