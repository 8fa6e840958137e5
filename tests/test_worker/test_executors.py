"""The races that no test from outside meets often enough, made by hand."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from django_kue import execution, ids
from django_kue.errors import JobCancelled, JobTimeout, Retry
from django_kue.execution import CANCELLED, RELEASED, Outcome, Run
from django_kue.records import NewJob
from django_kue.store.moves import Report
from django_kue.worker import executors
from django_kue.worker.alarm import Alarm
from django_kue.worker.board import Board
from django_kue.worker.crew import Crew
from django_kue.worker.executors import Buffer, Loop, Slot, Threads
from django_kue.worker.options import WorkerOptions
from django_kue.worker.reports import MOST, Progressed, Reports
from tests.app import abuse
from tests.worker_process import wait_for


def run_of(name: str = "tests.app.jobs.add", arguments: bytes = b"[1]") -> Run:
    """A claimed job, as the fetch loop makes it."""
    [key] = ids.new_keys(1)
    now = time.monotonic()
    run = Run(
        "default",
        key,
        b"1|1700000000000|owner",
        NewJob(key, name, arguments).encode(),
        1_700_000_000_000,
        now,
    )
    run.fresh_until = now + 5
    assert execution.load(run) is None
    return run


@pytest.fixture
def outcomes() -> dict[bytes, Outcome]:
    return {}


@pytest.fixture
def threads(outcomes: dict[bytes, Outcome]) -> Iterator[Threads]:
    with started(1, outcomes) as pool:
        yield pool


@contextmanager
def started(count: int, outcomes: dict[bytes, Outcome]) -> Iterator[Threads]:
    """Threads that run what's put into their buffer, beside one that leads."""
    buffer, board = Buffer(), Board(["default"], count + 1)

    def done(run: Run, outcome: Outcome) -> None:
        outcomes[run.key] = outcome

    pool = Threads(count, buffer, board, done, lambda: None)
    is_over = threading.Event()
    pool.start(lambda slot: is_over.wait() and None)
    wait_for(lambda: buffer._asleep == 1)
    yield pool
    buffer.close()
    is_over.set()
    pool.join()
    board.close()


def settled(outcomes: dict[bytes, Outcome], run: Run) -> Outcome:
    deadline = time.monotonic() + 5
    while run.key not in outcomes:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return outcomes[run.key]


def test_a_run_whose_lease_may_be_over_isnt_started(threads: Threads, outcomes: dict[bytes, Outcome]) -> None:
    stale, fresh = run_of(), run_of()
    stale.fresh_until = time.monotonic() - 0.001
    threads._buffer.put([stale, fresh], 1)
    assert settled(outcomes, fresh).kind == "c"
    assert outcomes[stale.key] is RELEASED
    assert stale.result is None


async def test_a_coroutine_whose_lease_may_be_over_isnt_started(outcomes: dict[bytes, Outcome]) -> None:
    def done(run: Run, outcome: Outcome) -> None:
        outcomes[run.key] = outcome

    loop = Loop(2, 1, Board(["default"], 3), done)
    stale, fresh = (run_of("tests.app.abuse.astop_loop", b"") for _ in range(2))
    stale.fresh_until = time.monotonic() - 0.001
    loop.put([stale, fresh])
    assert settled(outcomes, fresh).kind == "c"
    assert outcomes[stale.key] is RELEASED
    assert loop.free == 2


@pytest.mark.parametrize("name", ["nap", "anap"])
def test_a_run_is_on_the_board_until_its_end_is_noted(name: str) -> None:
    """Should its process have to die of it just then, it's to be found."""
    board, seen = Board(["default"], 3), []

    def done(run: Run, outcome: Outcome) -> None:
        seen.append([busy.key for busy in board.busy()])

    run = run_of(f"tests.app.jobs.{name}", b"[0]")
    if name == "nap":
        threads = Threads(1, Buffer(), board, done, lambda: None)
        with ThreadPoolExecutor(1) as own:  # with databases of its own
            own.submit(threads.work, threads.slots[0], run).result()
    else:
        loop = Loop(2, 1, board, done)
        loop.put([run])
        wait_for(lambda: seen and loop.free == 2 and not list(board.busy()))
        loop.close()
    assert seen == [[run.key]]
    assert not list(board.busy())
    board.close()


async def test_a_task_that_exits_ends_no_event_loop(
    outcomes: dict[bytes, Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio raises its SystemExit out of ``run_forever()``."""
    loop = Loop(2, 1, Board(["default"], 3), lambda run, outcome: outcomes.update({run.key: outcome}))
    culprit, after = (
        run_of("tests.app.abuse.leave_task_that_exits", b""),
        run_of("tests.app.jobs.anap", b"[0]"),
    )
    loop.put([culprit])
    assert settled(outcomes, culprit).kind == "c"
    loop.put([after])
    assert settled(outcomes, after).kind == "c"
    assert "would end the event loop" in caplog.text
    loop.close()


def test_a_retry_beyond_what_redis_can_sort_is_in_ten_years() -> None:
    run = run_of("tests.app.abuse.retry_always", b"[1e306]")
    assert run.rules is not None
    outcome = execution.of_exception(run, Retry(delay=1e306))
    assert outcome.encode(run).startswith(b"r%d|" % (10 * 365 * 86_400_000))


def test_of_many_log_lines_the_newest_are_kept_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports(lambda: None)
    start = Report(b"lease", b"suspect", b"y", b"")
    reports.put("default", start)
    for number in range(MOST + 3):
        reports.put("default", Report(b"lease", b"key", b"l", b"%d" % number))
    taken, _ = reports.take()
    lines = [report.text for report in taken["default"] if report != start]
    assert lines == [b"%d" % number for number in range(4, MOST + 3)]
    assert start in taken["default"]
    assert "4 log lines were dropped" in caplog.text


def test_a_progress_that_redis_did_not_get_is_told_after_all() -> None:
    reports = Reports(lambda: None)
    told = Progressed(run_of(), 50.0, None)
    reports.give_back({}, [told])
    assert reports.take()[1] == [told]


def test_a_run_is_interrupted_once_and_only_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(executors, "_raise_in", lambda thread, exception: raised.append((thread, exception)))
    slot, me = Slot(0), threading.get_ident()
    slot.open(run_of(), deadline=1.0)
    slot.interrupt(now=0.5)  # it's not yet time
    slot.interrupt(now=2.0)
    slot.interrupt(now=3.0)  # once is enough
    slot.close()
    slot.interrupt(now=4.0)  # nobody is there any more
    assert raised == [(me, JobTimeout)]


def test_a_timeout_on_its_way_comes_before_the_run_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code being over already, nothing comes afterwards."""
    real, is_on_its_way = executors._raise_in, threading.Event()

    def raise_slowly(thread: int, exception: type[BaseException]) -> None:
        is_on_its_way.set()
        time.sleep(0.05)
        real(thread, exception)

    monkeypatch.setattr(executors, "_raise_in", raise_slowly)
    slot = Slot(0)
    slot.open(run_of(), deadline=1.0)
    timer = threading.Thread(target=slot.interrupt, args=[2.0])
    with suppress(JobTimeout):  # in close(), unless this thread is late
        timer.start()
        is_on_its_way.wait()
        slot.close()
    slot.close()
    timer.join()


def test_at_whichever_line_a_timeout_comes_its_run_has_one_outcome_and_the_next_is_unharmed() -> None:
    """Each line of ours and of the job's, one after the other."""
    gc.disable()  # what other tests left would be told of its end, and Python ignores what's raised then
    try:
        with ThreadPoolExecutor(1) as own:  # with databases of its own
            assert own.submit(interrupt_at_each_line).result() > 30
    finally:
        gc.enable()


def interrupt_at_each_line() -> int:
    """How many lines of a run can be interrupted."""
    board = Board(["default"], 3)
    over: list[Outcome] = []
    threads = Threads(1, Buffer(), board, lambda run, outcome: over.append(outcome), lambda: None)
    slot, kinds = threads.slots[0], []
    for line in range(1, 1000):
        with interrupted_at(line, slot) as interrupts:
            threads.work(slot, run_of("tests.app.abuse.about", b"[0, 1]"))
        kinds.append(over.pop().kind)
        assert (kinds[-1] == "f") == slot.is_interrupted
        assert slot.run is None
        assert not list(board.busy())
        threads.work(slot, run_of("tests.app.abuse.about", b"[0, 1]"))
        after = over.pop()
        assert (after.kind, after.text) == ("c", b"1")
        if not interrupts:  # it has fewer lines
            break
    board.close()
    return kinds.count("f")


@contextmanager
def interrupted_at(number: int, slot: Slot) -> Iterator[list[threading.Thread]]:
    """What runs inside is interrupted by another thread, which may have to wait for its turn, before its
    so-manyeth line."""
    files = {executors.__file__, execution.__file__, abuse.__file__}
    others: list[threading.Thread] = []
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        lines += event == "line"
        if lines == number and not others:
            others.append(threading.Thread(target=slot.interrupt, args=[float("inf")]))
            others[0].start()
            others[0].join(0.05)
        return trace

    sys.settrace(trace)
    try:
        yield others
    finally:
        sys.settrace(None)
        for other in others:
            other.join()


def test_a_timeout_leaves_the_interpreter_as_it_was() -> None:
    """One that's taken back with NULL leaves it looking for ever, and a traced loop then never ends."""
    slot = Slot(0)
    slot.open(run_of(), deadline=1.0)
    try:
        slot.interrupt(now=2.0)
        slot.close()
    except JobTimeout:
        slot.close()

    def traced() -> None:
        def trace(frame: Any, event: str, argument: Any) -> Any:
            frame.f_trace_opcodes = True
            return trace

        sys.settrace(trace)
        try:
            loop()
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=traced, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def loop() -> None:
    for _ in range(10):
        pass


def test_when_the_leases_of_a_queue_are_gone_the_others_jobs_stay_at_hand() -> None:
    board, alarm = Board(["default", "other"], 3), Alarm()
    crew = Crew(WorkerOptions(queues=("default", "other"), threads=1), board, alarm)
    gone, stays, runs_still = run_of(), run_of(), run_of()
    stays.queue = "other"
    crew.hand_out([gone, stays])
    crew.threads.slots[0].run = runs_still
    crew.forget("default", before=time.monotonic())
    assert crew.buffer.waiting() == [stays]
    assert list(crew.queues["default"].acks) == [gone]
    assert gone.outcome is RELEASED
    assert [run.is_lost for run in (runs_still, stays)] == [True, False]
    alarm.close()
    board.close()


def test_a_run_without_a_timeout_is_never_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(executors, "_raise_in", lambda thread, exception: raised.append(exception))
    slot = Slot(0)
    slot.open(run_of(), deadline=0.0)
    slot.interrupt(now=time.monotonic())
    slot.close()
    assert raised == []


def test_a_thread_on_its_way_to_sleep_counts_as_idle(
    threads: Threads, outcomes: dict[bytes, Outcome]
) -> None:
    """At the moment when a run's end is told, its thread has room again."""
    seen: list[int] = []

    def done(run: Run, outcome: Outcome) -> None:
        seen.append(threads.idle)
        outcomes[run.key] = outcome

    threads._done = done
    run = run_of()
    threads._buffer.put([run], 1)
    settled(outcomes, run)
    assert seen == [1]


def test_threads_are_started_when_there_is_something_to_do(outcomes: dict[bytes, Outcome]) -> None:
    with started(3, outcomes) as threads:
        assert (len(threads._threads), threads.idle, threads._buffer.idle) == (2, 3, 3)
        for _ in range(2):  # one after the other: who sleeps is woken, before others are started
            run = run_of()
            threads._buffer.put([run], 1)
            settled(outcomes, run)
            wait_for(lambda: threads._buffer.idle == 3)
            assert len(threads._threads) == 2
        runs = [run_of("tests.app.jobs.nap", b"[0.2]") for _ in range(4)]
        threads._buffer.put(runs, 4)
        wait_for(lambda: threads.busy == 3)
        for run in runs:
            settled(outcomes, run)
        wait_for(lambda: threads._buffer.idle == 3)
    assert not any(thread.is_alive() for thread in threads._threads)


def test_each_thread_has_a_slot_of_its_own_however_early_it_starts_others(
    outcomes: dict[bytes, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer, board, is_over = Buffer(), Board(["default"], 4), threading.Event()
    pool = Threads(3, buffer, board, lambda run, outcome: None, lambda: None)
    start = threading.Thread.start

    def start_slowly(thread: threading.Thread) -> None:
        start(thread)
        time.sleep(0.05)

    def lead(slot: Slot) -> None:
        buffer.wake(1)
        is_over.wait()

    monkeypatch.setattr(threading.Thread, "start", start_slowly)
    pool.start(lead)
    names = [thread.name for thread in pool._threads]
    assert names == [f"kue-{number}" for number in range(len(names))]
    assert len(names) >= 2
    buffer.close()
    is_over.set()
    pool.join()
    board.close()


def test_who_has_to_stand_ready_is_there(
    outcomes: dict[bytes, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader runs a job: a second thread is there to lead, and takes nothing."""
    with started(3, outcomes) as threads:
        buffer, first = threads._buffer, run_of("tests.app.jobs.nap", b"[0.3]")
        buffer.put([first], 1)
        wait_for(lambda: threads.slots[1].run is first)
        assert buffer.bar()
        assert len(threads._threads) == 3
        wait_for(lambda: buffer._asleep == 1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more_threads)
            run = run_of("tests.app.jobs.nap", b"[0.1]")
            buffer.put([run], 1)
            with buffer._ready:
                buffer._notify(1)  # it may be awake just now
            time.sleep(0.05)
            assert threads.busy == 1, "there's no other to take it"
        buffer.wake(1)
        wait_for(lambda: threads.slots[3].run is run)
        assert not buffer.bar(), "the only one that's idle stands ready already"
        buffer.unbar()
        settled(outcomes, run)


def no_more_threads(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_another_thread_the_others_go_on(
    outcomes: dict[bytes, Outcome], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with started(2, outcomes) as threads:
        first, second, third = (run_of() for _ in range(3))
        threads._buffer.put([first], 1)
        settled(outcomes, first)
        wait_for(lambda: threads._buffer.idle == 2)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more_threads)
            threads._buffer.put([second, third], 2)
            threads._buffer.wake(2)
        for run in (second, third):
            assert settled(outcomes, run).kind == "c"
        assert caplog.messages == ["can't start new thread (2 running); trying again"]
        again = [run_of("tests.app.jobs.nap", b"[0.1]") for _ in range(2)]
        threads._buffer.put(again, 2)
        wait_for(lambda: threads.busy == 2)


@pytest.mark.parametrize(("is_lost", "expected"), [(False, "x"), (True, "c")])
def test_only_who_was_cancelled_by_people_ends_as_cancelled(is_lost: bool, expected: str) -> None:
    run = run_of()
    run.is_cancelled, run.is_lost = True, is_lost
    assert execution.of_result(run, 3).kind == expected


@pytest.mark.parametrize("exception", [asyncio.CancelledError(), JobCancelled("it saw that it should stop")])
def test_a_run_that_stopped_because_its_lease_seemed_lost_is_given_back(exception: BaseException) -> None:
    run = run_of()
    run.is_cancelled = run.is_lost = True
    assert execution.of_exception(run, exception) is RELEASED
    run.is_lost = False
    assert execution.of_exception(run, exception) is CANCELLED
