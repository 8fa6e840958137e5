"""Draining and the inline mode: jobs run in the test's process, by the engine's steps, without Redis."""

from __future__ import annotations

import asyncio
import sys
import time
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from django_kue import (
    Backoff,
    Discard,
    EnqueueError,
    Job,
    JobContext,
    JobDoesNotExist,
    JobExpired,
    Retry,
    current_job,
    get_queue,
    outbox,
    signals,
)
from django_kue.states import State
from django_kue.store import ask, reads
from django_kue.testing import Kue, TooManyRuns, adrain, drain, fake, inline

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def note(define: Any) -> Any:
    def note(value: Any) -> Any:
        ran.append(value)
        return value

    return define(note)


@pytest.fixture
def flaky(define: Any) -> Any:
    def flaky(good_at: int) -> int:
        attempt = current_job().attempt
        ran.append(attempt)
        if attempt < good_at:
            raise ConnectionError(f"attempt {attempt}")
        return attempt

    return define(flaky, attempts=3, backoff=Backoff.exponential(600))


# ── drain ──


def test_what_waits_runs_by_priority_and_then_in_order(kue: Kue, note: Any) -> None:
    for value, options in (("c", {}), ("d", {}), ("a", {"priority": "high"}), ("b", {"priority": 5})):
        note.using(**options).enqueue(value)

    ended = kue.drain()

    assert ran == ["a", "b", "c", "d"]
    assert (ended[0].state, ended[0].result, ended[0].attempts_made) == (State.COMPLETED, "a", 1)


def test_of_several_queues_what_has_waited_longest_runs_first(kue: Kue, note: Any) -> None:
    note.using(queue="other").enqueue(1)
    note.enqueue(2)
    note.using(queue="other").enqueue(3)

    kue.drain()

    assert ran == [1, 2, 3]


def test_one_queue_can_be_drained_alone(kue: Kue, note: Any) -> None:
    note.enqueue(1)
    note.using(queue="other").enqueue(2)

    kue.drain("other")

    assert ran == [2]
    assert get_queue().counts()["waiting"] == 1


def test_retries_are_honoured_without_sleeping(kue: Kue, flaky: Any) -> None:
    job = flaky.enqueue(3)
    began = time.monotonic()

    kue.drain()

    assert ran == [1, 2, 3]
    assert time.monotonic() - began < 1  # and not half an hour
    job = job.refresh()
    assert (job.state, job.result, job.attempts_made) == (State.COMPLETED, 3, 3)
    assert [(run.attempt, run.outcome, run.delay) for run in job.runs()] == [
        (1, "retried", 600.0),
        (2, "retried", 1200.0),
    ]


def test_delayed_jobs_run_in_the_order_of_their_times(kue: Kue, note: Any) -> None:
    note.using(delay=3600).enqueue("later")
    note.using(delay=60).enqueue("soon")
    note.using(run_at=datetime.now(UTC) + timedelta(days=400)).enqueue("next year")
    note.enqueue("now")

    kue.drain()

    assert ran == ["now", "soon", "later", "next year"]


def test_time_passes_only_as_far_as_it_may(kue: Kue, note: Any, flaky: Any) -> None:
    note.using(delay=60).enqueue("soon")
    note.using(delay=7200).enqueue("later")
    flaky.enqueue(2)

    kue.drain(within=0)
    assert ran == [1]
    kue.drain(within=3600)
    assert ran == [1, "soon", 2]
    assert get_queue().counts()["delayed"] == 1


def test_jobs_that_jobs_enqueue_run_too(kue: Kue, note: Any, define: Any) -> None:
    def parent(count: int) -> None:
        for number in range(count):
            note.enqueue(number)

    define(parent).enqueue(3)

    assert len(kue.drain()) == 4
    assert ran == [0, 1, 2]


def test_jobs_that_never_end_are_told_of(kue: Kue, define: Any) -> None:
    def poll() -> None:
        poll_job.using(delay=60).enqueue()

    poll_job = define(poll)
    poll_job.enqueue()

    with pytest.raises(TooManyRuns, match=r"1000 runs, and jobs still wait: shop.poll\(\) on default"):
        kue.drain()
    kue.clear()
    poll_job.enqueue()
    assert len(kue.drain(within=630)) == 11


def test_a_job_that_fails_for_good_raises_what_it_raised(kue: Kue, flaky: Any, note: Any) -> None:
    flaky.enqueue(9)
    note.using(delay=9999).enqueue("afterwards")

    with pytest.raises(ConnectionError, match="attempt 3") as caught:
        kue.drain()

    assert ran == [1, 2, 3]
    assert "in the job shop.flaky, attempt 3 of 3" in caught.value.__notes__[0]
    assert get_queue().counts()["delayed"] == 1  # what came after it wasn't run


def test_failures_can_be_looked_at_instead(kue: Kue, flaky: Any, note: Any) -> None:
    flaky.enqueue(9)
    note.enqueue(1)

    note_job, flaky_job = kue.drain(raise_failures=False)

    assert (note_job.state, flaky_job.state) == (State.COMPLETED, State.FAILED)
    assert str(flaky_job.error) == "builtins.ConnectionError: attempt 3"
    assert "Traceback" in flaky_job.error.traceback


def test_steering_exceptions_hold(kue: Kue, define: Any) -> None:
    def steer(how: str) -> None:
        ran.append(how)
        if how == "discard":
            raise Discard("no more")
        if how == "retry" and current_job().attempt == 1:
            raise Retry(delay=30)

    job = define(steer, attempts=5)
    job.enqueue("retry")
    job.enqueue("discard")

    discarded, retried = kue.drain(raise_failures=False)

    assert ran == ["retry", "discard", "retry"]
    assert (discarded.state, retried.state) == (State.FAILED, State.COMPLETED)


def test_arguments_and_results_pass_through_the_codec(kue: Kue, note: Any) -> None:
    note.enqueue({"on": date(2031, 1, 1), "items": (1, 2)})

    [job] = kue.drain()

    assert ran == [{"on": date(2031, 1, 1), "items": [1, 2]}]
    assert job.result == ran[0]


def test_a_result_that_cannot_be_stored_fails_the_job_as_in_a_worker(kue: Kue, define: Any) -> None:
    def odd() -> Any:
        return object()

    define(odd).enqueue()

    with pytest.raises(ValueError, match="the result can't be stored: object can't be stored"):
        kue.drain()


def test_a_context_tells_progress_and_logs(kue: Kue, define: Any) -> None:
    def resize(context: JobContext, count: int) -> None:
        context.log("%d pictures", count)
        context.progress(1, 2, data={"now": "a.png"})
        assert context.job is not None
        assert context.job.state is State.ACTIVE

    job = define(resize, takes_context=True).enqueue(2)
    kue.drain()

    assert [str(line) for line in job.logs()] == ["2 pictures"]
    assert job.refresh().progress_data == {"now": "a.png"}


def test_signals_are_sent_as_by_a_worker(kue: Kue, flaky: Any) -> None:
    heard: list[Any] = []
    receivers = []
    for name, signal in signals.BY_EVENT.items():

        def hear(sender: Any, name: str = name, **kwargs: Any) -> None:
            heard.append((name, kwargs.get("delay"), repr(sys.exc_info()[1] or "")))

        signal.connect(hear)
        receivers.append((signal, hear))
    try:
        flaky.using(attempts=2).enqueue(9)
        kue.drain(raise_failures=False)
    finally:
        for signal, hear in receivers:
            signal.disconnect(hear)

    assert heard == [
        ("enqueued", None, "''"),
        ("started", None, "''"),
        ("retrying", 600.0, "ConnectionError('attempt 1')"),
        ("started", None, "''"),
        ("failed", None, "ConnectionError('attempt 2')"),
    ]


def test_jobs_that_expired_do_not_run(kue: Kue, note: Any) -> None:
    note.using(expires=30, priority=-1).enqueue("too late")
    note.using(delay=60).enqueue("soon")
    get_queue().pause()
    kue.drain()
    get_queue().resume()
    note.using(queue="other", delay=45).enqueue("a while")
    kue.drain("other")

    kue.drain()

    assert ran == ["a while", "soon"]
    late = kue.jobs_of(note, "too late")[0]
    assert late.state is State.CANCELLED
    assert late.error is not None
    assert late.error.type.endswith(JobExpired.__name__)


def test_a_paused_queue_is_left_alone(kue: Kue, note: Any) -> None:
    note.enqueue(1)
    note.using(delay=5).enqueue(2)
    get_queue().pause()

    assert kue.drain() == []
    get_queue().resume()
    assert len(kue.drain()) == 2


def test_a_running_job_can_be_cancelled(kue: Kue, define: Any) -> None:
    asked: list[Job] = []

    def stop() -> None:
        own = current_job().job
        assert own is not None
        asked.extend((own.refresh(), own.cancel(), own.refresh()))
        current_job().raise_if_cancelled()

    job = define(stop).enqueue()
    kue.drain()

    assert job.refresh().state is State.CANCELLED
    assert [seen.is_cancelling for seen in (*asked, job.refresh())] == [False, True, True, False]


def test_context_variables_do_not_leak_out_of_a_job(kue: Kue, define: Any) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="none")

    def enter() -> None:
        tenant.set("acme")

    define(enter).enqueue()
    kue.drain()

    assert tenant.get() == "none"
    assert current_job().job is None


def test_ctrl_c_and_pytests_own_exceptions_end_the_test_and_not_the_job(kue: Kue, define: Any) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    job = define(interrupt).enqueue()
    with pytest.raises(KeyboardInterrupt):
        kue.drain()

    assert job.refresh().state is State.WAITING


# ── coroutines ──


@pytest.fixture
def anote(define: Any) -> Any:
    async def anote(value: Any) -> Any:
        await asyncio.sleep(0)
        ran.append((value, current_job().attempt))
        if current_job().attempt == 1:
            raise ConnectionError("away")
        return value

    return define(anote, attempts=2, backoff=60)


def test_coroutine_jobs_are_drained_by_sync_tests(kue: Kue, anote: Any) -> None:
    anote.enqueue(1)

    assert [job.result for job in kue.drain()] == [1]
    assert ran == [(1, 1), (1, 2)]


async def test_async_tests_drain_on_their_own_loop(kue: Kue, anote: Any, note: Any) -> None:
    await anote.aenqueue(1)
    await note.aenqueue(2)

    assert [job.result for job in await kue.adrain()] == [2, 1]
    await kue.adrain()
    assert ran == [(1, 1), 2, (1, 2)]
    assert (await Job.aget(kue.jobs[0].id)).result == 1
    assert await adrain() == []


async def test_a_sync_drain_in_async_code_names_its_twin(kue: Kue) -> None:
    with pytest.raises(RuntimeError, match="await kue.adrain"):
        kue.drain()


# ── inline ──


def test_inline_jobs_have_run_when_enqueue_returns(kue_inline: Kue, note: Any) -> None:
    job = note.enqueue((1, 2))

    assert ran == [[1, 2]]  # through the codec
    assert job.refresh().result == [1, 2]
    assert job.wait(timeout=0) == [1, 2]
    kue_inline.assert_enqueued(note, (1, 2))


def test_inline_jobs_make_their_retries_at_once(kue_inline: Kue, flaky: Any) -> None:
    job = flaky.enqueue(3)

    assert job.refresh().attempts_made == 3


def test_an_inline_job_that_fails_raises_where_it_was_enqueued(flaky: Any) -> None:
    with inline(), pytest.raises(ConnectionError, match="attempt 3"):
        flaky.enqueue(9)
    with inline(raise_failures=False):
        assert flaky.enqueue(9).refresh().state is State.FAILED


def test_inline_jobs_run_inside_the_job_that_enqueues_them(kue_inline: Kue, define: Any, note: Any) -> None:
    def parent() -> Any:
        return note.enqueue("child").wait(timeout=0)

    assert define(parent).enqueue().refresh().result == "child"


def test_inline_delayed_jobs_wait_for_a_drain(kue_inline: Kue, note: Any) -> None:
    note.using(delay=60).enqueue(1)
    assert ran == []

    kue_inline.drain()
    assert ran == [1]


def test_a_long_chain_of_jobs_runs_inline(kue_inline: Kue, define: Any) -> None:
    def page(number: int) -> None:
        ran.append(number)
        if number < 200:
            page_job.enqueue(number + 1)

    page_job = define(page)
    page_job.enqueue(1)

    assert ran == list(range(1, 201))


def test_jobs_that_enqueue_themselves_inline_are_told_of(kue_inline: Kue, define: Any) -> None:
    def again() -> None:
        again_job.enqueue()

    again_job = define(again)

    with pytest.raises(TooManyRuns, match="jobs go on enqueueing themselves"):
        again_job.enqueue()


async def test_inline_in_async_code(kue_inline: Kue, anote: Any, note: Any) -> None:
    assert (await (await anote.aenqueue(1)).arefresh()).result == 1
    assert (await (await note.aenqueue(2)).arefresh()).result == 2


async def test_a_sync_inline_enqueue_in_async_code_is_refused_before_anything_is_stored(
    kue_inline: Kue, note: Any
) -> None:
    with pytest.raises(RuntimeError, match="await …aenqueue"):
        note.enqueue(1)
    with pytest.raises(RuntimeError, match="await …aenqueue"):
        note.using(unique=True).enqueue_many([(1,), (2,)])

    assert kue_inline.jobs == []
    assert ran == []


def test_a_part_of_a_test_can_be_inline(kue: Kue, note: Any) -> None:
    note.enqueue(1)
    with kue.inline():
        note.enqueue(2)
    note.enqueue(3)

    assert ran == [1, 2]
    kue.drain()
    assert ran == [1, 2, 3]


def test_a_queue_that_there_is_not_is_no_queue_with_nothing_to_run(kue: Kue) -> None:
    with pytest.raises(LookupError, match="No queue 'emial' is declared. Did you mean 'email'"):
        kue.drain("emial")


def test_a_unique_job_that_is_over_is_not_performed_once_more(kue: Kue, define: Any) -> None:
    def once(value: int) -> int:
        ran.append(value)
        return value

    ran.clear()
    unique = define(once, unique=True, unique_for=("waiting", "active", "completed"))
    unique.enqueue(1)
    kue.drain()
    assert kue.perform(unique, 1) == 1
    assert ran == [1]


def test_that_redis_was_away_a_moment_ago_is_nothing_to_the_mode() -> None:
    outbox.silence.begin(EnqueueError("away"))
    try:
        with fake():
            assert not outbox.silence.holds()
    finally:
        outbox.silence.end()


def test_one_job_can_be_performed_alone(kue: Kue, note: Any, flaky: Any) -> None:
    note.enqueue(1)

    assert kue.perform(note, date(2031, 1, 1)) == date(2031, 1, 1)
    assert kue.perform(flaky, 3) == 3
    assert ran == [date(2031, 1, 1), 1, 2, 3]
    with pytest.raises(ConnectionError):
        kue.perform(flaky, 9)


# ── the mode ──


def test_waiting_for_what_nobody_runs_says_so_at_once(kue: Kue, note: Any) -> None:
    job = note.enqueue(1)

    with pytest.raises(TimeoutError, match="drain\\(\\) before you wait, or use the inline mode"):
        job.wait()
    kue.drain()
    assert job.wait() == 1


async def test_awaiting_for_what_nobody_runs_says_so_at_once(kue: Kue, note: Any) -> None:
    job = await note.aenqueue(1)

    with pytest.raises(TimeoutError, match="drain"):
        await job.await_result()


def test_what_needs_redis_says_what_to_use(kue: Kue) -> None:
    with pytest.raises(NotImplementedError, match="can't answer 'holders': that needs Redis"):
        ask(reads.holders("default"))


def test_the_mode_ends(note: Any) -> None:
    with fake():
        job = note.enqueue(1)
        with fake() as inner:
            inner.assert_nothing_enqueued()
        assert Job.get(job.id).id == job.id
    with pytest.raises(AssertionError, match="connected to Redis"):
        note.enqueue(2)


def test_the_function_drains_the_mode_that_is_on(kue: Kue, note: Any) -> None:
    note.enqueue(1)

    assert len(drain()) == 1


def test_removed_jobs_are_gone(kue: Kue, note: Any) -> None:
    job = note.enqueue(1)
    job.remove()

    assert kue.drain() == []
    with pytest.raises(JobDoesNotExist):
        job.refresh()
