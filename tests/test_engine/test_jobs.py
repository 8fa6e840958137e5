"""A job as people see it: reading it, waiting for it, its logs, runs and events."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from django_kue import Job, JobDoesNotExist, JobFailed, following, job
from django_kue.events import Event, alisten, awatch, listen, send_as_signals, watch
from django_kue.queue import Queue
from django_kue.signals import job_completed, job_failed, job_retrying, queue_paused
from django_kue.states import State
from django_kue.store import ask, moves
from tests.conftest import redis_client
from tests.test_engine.hands import (
    CANCELLED,
    Hands,
    completed,
    completed_kept,
    crashed,
    error_text,
    failed,
    job_of,
    parked,
    put,
    put_one,
    rescue,
    retried,
    wait_until,
)  # fmt: skip

QUEUE = Queue("default")


@job(name="tests.described", title="Order {order_id}", attempts=4)
def described(order_id: int, *, when: datetime | None = None, password: str = "") -> None: ...


@contextmanager
def heard() -> Iterator[None]:
    """Somebody listens, so that events are published."""
    key = "kue:{default}:h"
    redis_client().hset(key, "ev", int(time.time() * 1000) + 60_000)
    yield


@contextmanager
def in_background(action: Callable[[], Any], *, listeners: int = 1) -> Iterator[None]:
    """Run an action in a thread once somebody has subscribed to the queue's events."""

    def wait_and_act() -> None:
        channel = "kue:{default}:ev"
        wait_until(lambda: redis_client().pubsub_numsub(channel)[0][1] >= listeners)
        wait_until(lambda: redis_client().hexists("kue:{default}:h", "ev"))
        action()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join(15)
        assert not thread.is_alive()


# ── reading ──


def test_a_job_tells_what_it_was_made_of() -> None:
    when = datetime(2030, 1, 2, tzinfo=UTC)
    handle = described.using(priority="high").enqueue(17, when=when)
    for one in (handle, Job.get(handle.id), handle.refresh(), QUEUE.get(handle.id)):
        assert one.id == f"default.{one.key}" == handle.id
        assert (one.queue, one.name, one.state, one.priority) == (
            "default",
            "tests.described",
            State.WAITING,
            10,
        )
        assert (one.args, one.kwargs) == ((17,), {"when": when})
        assert (one.title, one.attempts, one.attempts_made) == ("Order 17", 4, 0)
        assert (one.result, one.error, one.progress, one.progress_data) == (None, None, 0, None)
        assert (one.run_at, one.started_at, one.finished_at, one.worker) == (None, None, None, "")
        assert abs(one.created_at - datetime.now(UTC)) < timedelta(seconds=20)
        assert not one.is_finished


def test_an_active_job_tells_who_runs_it_since_when() -> None:
    handle = described.enqueue(17)
    Hands(name="host-1/2").take_one()
    running = handle.refresh()
    assert (running.state, running.worker) == (State.ACTIVE, "host-1/2")
    assert running.started_at is not None
    assert abs(running.started_at - datetime.now(UTC)) < timedelta(seconds=20)


def test_a_completed_job_tells_its_result_and_its_times() -> None:
    handle = described.enqueue(17)
    hands = Hands(name="host-1/2")
    hands.take_one()
    started = int(time.time() * 1000)
    hands.settle(handle.key, completed({"rows": [1, 2]}, started=started))
    done = handle.refresh()
    assert (done.state, done.result, done.progress, done.attempts_made) == (
        State.COMPLETED,
        {"rows": [1, 2]},
        100,
        1,
    )
    assert done.started_at == datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=started)
    assert done.finished_at is not None
    assert done.finished_at >= done.started_at
    assert done.worker == "host-1/2"
    assert done.is_finished


def test_a_failed_job_tells_its_error() -> None:
    handle = described.enqueue(17)
    hands = Hands()
    hands.settle(hands.take_one(), failed(message="Zeile ü | 3"))
    done = handle.refresh()
    assert done.state is State.FAILED
    assert done.error is not None
    assert (done.error.type, done.error.message) == ("builtins.ValueError", "Zeile ü | 3")
    assert done.error.traceback == "Traceback: …"
    assert str(done.error) == "builtins.ValueError: Zeile ü | 3"
    assert done.attempts_made == 1


def test_a_job_that_backs_off_tells_its_last_error_and_when_it_runs_again() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.settle(key, retried(60_000, "first"))
    waiting = job_of(key)
    assert waiting.state is State.DELAYED
    assert waiting.error is not None
    assert waiting.error.message == "first"
    assert waiting.run_at is not None
    assert timedelta(seconds=40) < waiting.run_at - datetime.now(UTC) < timedelta(seconds=70)


def test_a_retried_job_begins_anew() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.report(key, "p", b"[50,null]")
    hands.settle(key, failed())
    again = job_of(key).retry()
    for one in (again, again.refresh()):
        assert (one.state, one.attempts_made, one.progress, one.result, one.finished_at) == (
            State.WAITING, 0, 0, None, None,
        )  # fmt: skip
    assert hands.take_one() == key
    hands.settle(key, completed(5))
    assert job_of(key).result == 5
    assert job_of(key).attempts_made == 1


def _waits() -> str:
    return put_one()


def _is_delayed() -> str:
    return put_one(delay=60_000)


def _failed_after_a_crash() -> str:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.settle(key, crashed())
    hands.take_one()
    hands.report(key, "p", b'[50,{"rows":3}]')
    hands.settle(key, failed())
    return key


def _is_parked() -> str:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.settle(key, parked(60_000))
    return key


def _runs() -> str:
    put_one()
    return Hands().take_one()


@pytest.mark.parametrize(
    ("verb", "make"),
    [
        ("retry", _failed_after_a_crash), ("promote", _is_delayed), ("promote", _is_parked),
        ("cancel", _waits), ("cancel", _is_delayed), ("cancel", _is_parked), ("cancel", _runs),
        ("set_priority", _waits), ("set_priority", _runs),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_async", [False, True])
def test_a_verb_returns_the_job_as_it_is_then(verb: str, make: Callable[[], str], *, is_async: bool) -> None:
    job = job_of(make())
    arguments = ("high",) if verb == "set_priority" else ()
    if is_async:
        after = async_to_sync(getattr(job, f"a{verb}"))(*arguments)
    else:
        after = getattr(job, verb)(*arguments)
    assert asdict(after) == asdict(job_of(job.key))


def test_a_parked_job_says_so_and_uses_no_attempt() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.settle(key, parked(60_000))
    job = job_of(key)
    assert (job.state, job.is_parked, job.attempts_made) == (State.DELAYED, True, 0)
    job.promote()
    hands.take_one()
    assert not job_of(key).is_parked


def test_logs_and_runs_are_in_their_order_and_survive_the_end() -> None:
    key = put_one()
    hands = Hands(name="host/1")
    for number in (1, 2):
        hands.take_one()
        hands.report(key, "l", b"run %d" % number)
        hands.settle(key, retried(0, f"error {number}"))
    hands.take_one()
    hands.settle(key, completed())
    job = job_of(key)
    assert [str(line) for line in job.logs()] == ["run 1", "run 2"]
    assert [str(line) for line in job.logs(most=1)] == ["run 2"]
    assert all(abs(line.at - datetime.now(UTC)) < timedelta(seconds=20) for line in job.logs())
    runs = job.runs()
    assert [(run.attempt, run.outcome, run.worker, run.delay) for run in runs] == [
        (1, "retried", "host/1", 0.0), (2, "retried", "host/1", 0.0),
    ]  # fmt: skip
    assert [run.error.message for run in runs if run.error] == ["error 1", "error 2"]
    assert job.attempts_made == 3


def test_a_job_is_the_same_job_however_it_has_changed() -> None:
    """As a model's instances are: by what they're the record of, not by what it says just now."""
    job, other = Job.get(f"default.{put_one()}"), Job.get(f"default.{put_one()}")
    changed = job.set_priority(50)
    assert changed == job == job.refresh()
    assert changed.priority != job.priority
    assert len({job, changed, job.refresh()}) == 1
    assert job != other
    assert job != job.id
    assert job in QUEUE.jobs("waiting")


async def test_the_async_twins_read_the_same() -> None:
    key = await sync_to_async(put_one)()
    hands = Hands()
    await sync_to_async(hands.take_one)()
    await sync_to_async(hands.report)(key, "l", b"a line")
    await sync_to_async(hands.settle)(key, retried(60_000))
    job = await Job.aget(f"default.{key}")
    again = (await job.arefresh(), await sync_to_async(job.refresh)(), await QUEUE.aget(job.id))
    assert [asdict(one) for one in again] == [asdict(job)] * 3
    assert await job.alogs() == await sync_to_async(job.logs)()
    assert await job.aruns() == await sync_to_async(job.runs)()
    assert len(await job.aruns()) == 1


@pytest.mark.parametrize(
    ("most", "error"), [(0, ValueError), (-5, ValueError), (1.5, TypeError), (None, TypeError)]
)
def test_a_number_of_log_lines_is_one_or_more(most: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="most is a whole number, 1 or more, not"):
        Job.get(f"default.{put_one()}").logs(most)


# ── waiting ──


WRONG_TIMES = [
    ("soon", TypeError), (b"1", TypeError), (True, TypeError), (float("nan"), ValueError),
]  # fmt: skip


@pytest.mark.parametrize(("timeout", "error"), WRONG_TIMES)
def test_what_is_no_time_to_wait_is_told_at_once(timeout: Any, error: type[Exception]) -> None:
    job = Job.get(f"default.{put_one()}")
    for wait in (job.wait, lambda timeout: list(job.events(timeout))):
        with pytest.raises(error, match="timeout is a number of seconds or a timedelta, not"):
            wait(timeout)


@pytest.mark.parametrize(("timeout", "error"), WRONG_TIMES)
async def test_so_it_is_where_it_is_awaited(timeout: Any, error: type[Exception]) -> None:
    job = await Job.aget(f"default.{await sync_to_async(put_one)()}")
    with pytest.raises(error, match="timeout is a number of seconds or a timedelta, not"):
        await job.await_result(timeout)


def test_a_time_to_wait_may_be_a_timedelta_and_very_long() -> None:
    job = Job.get(f"default.{put_one()}")
    with pytest.raises(TimeoutError):
        job.wait(timedelta(milliseconds=1))
    hands = Hands()
    hands.take_one()
    hands.settle(job.key, completed())
    job.wait(timeout=10**400)


@pytest.mark.parametrize(
    "outcome", [completed({"rows": 3}), completed_kept(None, {"rows": 3}), completed_kept(0, {"rows": 3})]
)
def test_wait_gives_the_result_however_short_the_job_is_kept(outcome: bytes) -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    with in_background(lambda: hands.settle(key, outcome)):
        assert job_of(key).wait(timeout=10) == {"rows": 3}


def test_wait_gives_the_result_of_a_job_that_is_completed_already() -> None:
    key = put_one()
    hands = Hands()
    hands.settle(hands.take_one(), completed("done"))
    assert job_of(key).wait(timeout=0) == "done"


@pytest.mark.parametrize("outcome", [failed(message="no paper"), failed(0, message="no paper")])
def test_wait_raises_the_failure(outcome: bytes) -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    with (
        in_background(lambda: hands.settle(key, outcome)),
        pytest.raises(JobFailed, match="no paper") as caught,
    ):
        job_of(key).wait(timeout=10)
    assert isinstance(caught.value.job, Job)
    assert caught.value.job.error is not None
    assert caught.value.job.error.message == "no paper"
    if not outcome.startswith(b"f0"):  # it's kept
        assert asdict(caught.value.job) == asdict(job_of(key))
        assert caught.value.job.attempts_made == 1


def test_wait_raises_for_a_job_that_failed_before() -> None:
    key = put_one()
    hands = Hands()
    hands.settle(hands.take_one(), failed(message="no paper"))
    with pytest.raises(JobFailed, match="no paper"):
        job_of(key).wait(timeout=0)


def test_a_running_job_that_was_asked_to_stop_says_so_until_it_has() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    asked = job_of(key).cancel()
    assert (asked.state, asked.is_cancelling, job_of(key).is_cancelling) == ("active", True, True)
    assert asked.set_priority(5).is_cancelling
    hands.settle(key, completed())
    assert (job_of(key).state, job_of(key).is_cancelling) == ("cancelled", False)
    again = asked.retry()
    assert (again.state, again.is_cancelling, job_of(key).is_cancelling) == ("waiting", False, False)


def test_wait_raises_for_a_cancelled_job() -> None:
    key = put_one()
    with in_background(lambda: job_of(key).cancel()), pytest.raises(JobFailed, match="was cancelled"):
        job_of(key).wait(timeout=10)
    with pytest.raises(JobFailed, match="was cancelled"):
        job_of(key).wait(timeout=1)


def test_wait_tells_that_the_job_was_removed() -> None:
    key = put_one()
    with in_background(lambda: job_of(key).remove()), pytest.raises(JobDoesNotExist, match="removed"):
        job_of(key).wait(timeout=10)


def test_wait_ends_when_its_time_is_over_also_on_a_busy_queue() -> None:
    key = put_one()
    job = job_of(key)
    stop = threading.Event()

    def be_busy() -> None:
        while not stop.is_set():
            put_one(priority=-1)

    thread = threading.Thread(target=be_busy)
    thread.start()
    try:
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=f"{job.id} is still waiting"):
            job.wait(timeout=0.3)
        assert 0.25 < time.monotonic() - begun < 1.5
    finally:
        stop.set()
        thread.join()


@pytest.mark.foreign_data
@pytest.mark.parametrize(
    "situation", ["unserved", "lost", "served", "paused", "active", "delayed", "foreign"]
)
def test_who_waited_in_vain_is_told_for_what(situation: str) -> None:
    job = job_of(put_one(delay=3_600_000 if situation == "delayed" else 0))
    if situation in ("lost", "served"):
        ask(moves.announce("w1", b'{"queues":["email","default"]}'))
    ask(moves.announce("w2", b'{"queues":["email"]}'))
    why = {
        "unserved": "waiting: no runworker serves its queue default",
        "lost": "waiting: no runworker serves its queue default",
        "served": "waiting",
        "paused": "waiting: its queue default is paused",
        "active": "active",
        "delayed": "delayed",
        "foreign": "waiting",
    }[situation]
    if situation == "lost":
        redis_client().zadd("{kue}:pulses", {"w1": 1})
    if situation == "paused":
        QUEUE.pause()
    if situation == "active":
        Hands().take_one()
    if situation == "foreign":
        redis_client().delete("{kue}:workers")
        redis_client().set("{kue}:workers", "something else's")
    for wait in (job.wait, async_to_sync(job.await_result)):
        with pytest.raises(TimeoutError) as caught:
            wait(timeout=0.01)
        assert str(caught.value) == f"{job.id} is still {why}"


def test_wait_survives_retries_in_between() -> None:
    key = put_one()
    hands = Hands()

    def work() -> None:
        hands.take_one()
        hands.settle(key, retried())
        hands.take_one()
        hands.settle(key, completed("at last"))

    with in_background(work):
        assert job_of(key).wait(timeout=10) == "at last"


async def test_await_result_is_the_twin_of_wait() -> None:
    import asyncio

    key = await sync_to_async(put_one)()
    job = await Job.aget(f"default.{key}")

    def work() -> None:
        hands = Hands()
        with in_background(lambda: hands.settle(hands.take_one(), completed(7))):
            pass

    result, _ = await asyncio.gather(
        job.await_result(timeout=10), sync_to_async(work, thread_sensitive=False)()
    )
    assert result == 7
    with pytest.raises(TimeoutError):
        await (await sync_to_async(lambda: job_of(put_one()))()).await_result(timeout=0.05)


# ── events ──


def _everything_that_happens(key: str) -> None:
    hands = Hands()
    hands.take_one()
    hands.report(key, "p", b'[50,{"rows":3}]')
    hands.settle(key, retried(30_000, "first"))
    job_of(key).promote()
    hands.take_one()
    hands.let_lease_run_out()
    rescue()
    hands.take_one()
    hands.settle(key, completed({"rows": 3}))


def test_a_jobs_events_come_in_order_until_it_is_finished() -> None:
    key, _other = put_one(), put_one(priority=-1)
    redis_client().hset("kue:{default}:h", "pulse", int(time.time() * 1000))
    with in_background(lambda: _everything_that_happens(key)):
        told = list(job_of(key).events(timeout=10))
    assert [event.name for event in told] == [
        "started", "progressed", "retrying", "promoted", "started", "stalled", "started", "completed",
    ]  # fmt: skip
    assert told[1].data == {"progress": 50, "data": {"rows": 3}}
    assert told[2].data["delay"] == 30.0
    assert told[2].data["error"].message == "first"
    assert told[-1].data == {"result": {"rows": 3}}
    for event in told:
        assert event.queue == "default"
        assert abs(event.at - datetime.now(UTC)) < timedelta(seconds=20)
        assert event.job is not None
        assert (event.job.id, event.job.name, event.job.args) == (f"default.{key}", "tests.noop", ())
    assert [event.job.state for event in told if event.job] == [
        State.ACTIVE, State.ACTIVE, State.DELAYED, State.WAITING, State.ACTIVE, State.WAITING, State.ACTIVE,
        State.COMPLETED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "name"),
    [("cancel", "cancelled"), ("remove", "removed"), ("fail", "failed"), ("end itself", "cancelled")],
)
def test_a_jobs_events_end_with_its_end(what: str, name: str) -> None:
    key = put_one()
    hands = Hands()

    def act() -> None:
        if what in ("fail", "end itself"):
            hands.take_one()
            hands.settle(key, failed() if what == "fail" else CANCELLED)
        else:
            getattr(job_of(key), what)()

    with in_background(act):
        assert [event.name for event in job_of(key).events(timeout=10)][-1] == name


@pytest.mark.parametrize(("what", "name"), [("cancel", "cancelled"), ("remove", "removed")])
async def test_an_end_that_comes_just_when_it_is_looked_at_is_told(
    monkeypatch: pytest.MonkeyPatch, what: str, name: str
) -> None:
    @contextmanager
    def ended(queues: list[str]) -> Iterator[Any]:
        with listening(queues) as told:
            getattr(job, what)()
            yield told

    @asynccontextmanager
    async def aended(queues: list[str]) -> AsyncIterator[Any]:
        async with alistening(queues) as told:
            await getattr(job, "a" + what)()
            yield told

    listening, alistening = following.listening, following.alistening
    monkeypatch.setattr(following, "listening", ended)
    monkeypatch.setattr(following, "alistening", aended)
    job = job_of(put_one())
    assert [event.name for event in job.events(timeout=10)] == [name]
    job = job_of(put_one())
    assert [event.name async for event in job.aevents(timeout=10)] == [name]


def test_a_jobs_events_end_when_nothing_happens_for_the_timeout() -> None:
    begun = time.monotonic()
    assert list(job_of(put_one()).events(timeout=0.2)) == []
    assert 0.15 < time.monotonic() - begun < 2


def test_a_finished_job_has_no_more_events_and_nobody_waits_for_them() -> None:
    key = put_one()
    hands = Hands()
    hands.settle(hands.take_one(), completed())
    begun = time.monotonic()
    assert list(job_of(key).events(timeout=10)) == []
    assert time.monotonic() - begun < 1


def test_listen_tells_what_happens_on_all_queues_also_to_the_queues_themselves() -> None:
    told: list[Event] = []

    def act() -> None:
        put_one("other")
        QUEUE.pause()
        QUEUE.resume()
        put_one()

    events = listen()
    with in_background(act):
        for event in events:
            told.append(event)
            if len(told) == 4:
                break
    events.close()  # type: ignore[attr-defined]
    assert sorted((event.name, event.queue) for event in told) == [
        ("enqueued", "default"), ("enqueued", "other"), ("paused", "default"), ("resumed", "default"),
    ]  # fmt: skip
    assert [event.job for event in told if event.name in ("paused", "resumed")] == [None, None]


@pytest.mark.parametrize("follow", [listen, watch])
def test_who_listens_on_a_queue_that_is_not_there_is_told_at_the_call(follow: Any) -> None:
    with pytest.raises(LookupError, match="No queue 'defualt' is declared. Did you mean 'default'"):
        follow("defualt")
    with pytest.raises(TypeError, match="a queue's name is a string"):
        follow(17)


@pytest.mark.parametrize("afollow", [alisten, awatch])
async def test_in_async_code_at_the_first_event(afollow: Any) -> None:
    events = afollow("defualt")
    with pytest.raises(LookupError, match="No queue 'defualt' is declared. Did you mean 'default'"):
        await anext(events)


def test_one_can_listen_on_a_queue_that_is_not_declared_any_more(settings: Any) -> None:
    put_one("other")
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {}}}
    watching = watch("other")
    assert next(watching) is None
    put_one("other")
    event = next(watching)
    assert event is not None
    assert (event.name, event.queue) == ("enqueued", "other")
    watching.close()  # type: ignore[attr-defined]


async def test_so_can_one_in_async_code(settings: Any) -> None:
    await sync_to_async(put_one)("other")
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {}}}
    watching = awatch("other")
    assert await anext(watching) is None
    await watching.aclose()  # type: ignore[attr-defined]


def test_nothing_is_published_when_nobody_listens() -> None:
    with redis_client().pubsub() as spy:
        spy.subscribe("kue:{default}:ev")
        spy.get_message(timeout=2)
        key = put_one()
        hands = Hands()
        hands.settle(hands.take_one(), completed())
        job_of(key).remove()
        assert spy.get_message(timeout=0.2) is None
        with heard():
            put_one()
        message = spy.get_message(timeout=5)
        assert message is not None
        assert b"enqueued" in message["data"]


def test_a_batchs_events_are_one_message() -> None:
    with heard(), redis_client().pubsub() as spy:
        spy.subscribe("kue:{default}:ev")
        spy.get_message(timeout=2)
        put(count=50)
        message = spy.get_message(timeout=5)
        assert message is not None
        assert message["data"].count(b"enqueued") == 50
        assert spy.get_message(timeout=0.1) is None


def test_a_listener_that_is_gone_is_forgotten_after_a_while() -> None:
    with pytest.raises(TimeoutError):
        job_of(put_one()).wait(timeout=0.05)
    until = int(redis_client().hget("kue:{default}:h", "ev"))
    assert 0 < until - time.time() * 1000 < 30_000


def test_foreign_messages_on_the_channel_harm_no_listener() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()

    def act() -> None:
        for message in (
            b"",
            b"\xff\xfe",
            b"{}",
            b"[1]",
            b'["1", [["what", "x", "y", ""]]]',
            b"null",
            b"[1, 2]",
        ):
            redis_client().publish("kue:{default}:ev", message)
        hands.settle(key, completed("still heard"))

    with in_background(act):
        assert job_of(key).wait(timeout=5) == "still heard"


def test_events_can_be_sent_again_as_signals() -> None:
    got: list[tuple[str, Any, dict[str, Any]]] = []
    receivers: dict[str, Callable[..., None]] = {}
    for name, signal in {
        "completed": job_completed, "failed": job_failed, "retrying": job_retrying, "paused": queue_paused,
    }.items():  # fmt: skip

        def receive(sender: Any, signal: Any, name: str = name, **kwargs: Any) -> None:
            got.append((name, sender, kwargs))

        receivers[name] = receive
        signal.connect(receive)
    key = described.enqueue(17).key
    hands = Hands()
    hands.take_one()

    def act() -> None:
        hands.settle(key, retried(0, "first"))
        hands.take_one()
        hands.settle(key, completed(3))
        QUEUE.pause()

    with in_background(act):
        for event in listen("default"):
            send_as_signals(event)
            if event.name == "paused":
                break
    told = {name: (sender, kwargs) for name, sender, kwargs in got if name == "paused" or sender is described}
    assert told.keys() == {"retrying", "completed", "paused"}
    _, retrying = told["retrying"]
    assert (retrying["delay"], retrying["exception"].message) == (0, "first")
    assert retrying["job"].state is State.WAITING
    _, done = told["completed"]
    assert (done["result"], done["job"].key) == (3, key)
    # the queue's own signal, as it was paused in this process, and the event's
    assert [str(kwargs["queue"]) for name, _, kwargs in got if name == "paused"] == ["default", "default"]


def test_errors_in_events_are_read_as_they_were_written() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    with in_background(lambda: hands.settle(key, b"f|1|" + error_text('Ä\n"quoted" | \\ ☃'))):
        [event] = list(job_of(key).events(timeout=10))
    assert event.data["error"].message == 'Ä\n"quoted" | \\ ☃'
