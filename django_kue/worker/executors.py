"""The executors, where jobs run: threads for functions, an event loop for coroutine functions."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections, connections

from django_kue import codecs, context, execution, signals
from django_kue.context import JobContext
from django_kue.errors import JobTimeout
from django_kue.execution import CANCELLED, RELEASED, Outcome, Run
from django_kue.worker import databases, forks
from django_kue.worker.board import Board
from django_kue.worker.buffer import LEAD, Buffer

logger = logging.getLogger("django_kue.worker")

Done = Callable[[Run, Outcome], None]
GRACE = 0.8  # seconds between asking an overdue run to stop and killing its process


class Slot:
    """A thread's place: the run in it, and the one way to interrupt that."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_taken = False  # its thread has something to do
        self.run: Run | None = None
        self.deadline = 0.0
        self.is_interrupted = False
        self._lock = threading.Lock()
        self._thread = 0

    def open(self, run: Run, deadline: float) -> None:
        self._thread = threading.get_ident()
        self.deadline = deadline
        self.is_interrupted = False
        self.run = run

    def interrupt(self, now: float) -> None:
        """Raise JobTimeout in the run's thread, if its time is over."""
        with self._lock:
            if self.run is not None and self.deadline and now >= self.deadline and not self.is_interrupted:
                self.is_interrupted = True
                _raise_in(self._thread, JobTimeout)

    def close(self) -> None:
        """Make sure that nothing interrupts this thread any more, not even what's already on its way."""
        if not self.deadline:
            self.run = None
            return
        with self._lock:
            self.run = None
        if self.is_interrupted:
            _let_come()


def _raise_in(thread: int, exception: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(exception))


def _let_come() -> None:
    """Let this thread's interruption happen here, if it hasn't happened yet.

    Revoking it (``PyThreadState_SetAsyncExc`` with NULL) would leave the interpreter looking for it for
    ever: until Python 3.12 that slows all threads, and tracing one of them never ends.
    """
    with suppress(JobTimeout):
        for _ in range(100):  # a loop checks for interruptions in each iteration
            pass


def note_delay(board: Board, slot: int, run: Run) -> None:
    """Note a retry's delay in advance when the project's own backoff function decides it. The supervisor,
    which kills overdue processes, never runs the project's code; and here, a function that hangs or raises
    is the run's own fault."""
    if (delay := execution.delay_to_note(run)) is not None:
        board.note_delay(slot, delay)


class Threads:
    """The threads that run functions and signal receivers. All but two are started when there's something for
    them to do."""

    def __init__(
        self, count: int, buffer: Buffer, board: Board, done: Done, freed: Callable[[], None]
    ) -> None:
        self.count = count
        # One thread more than may run jobs at once, since one always leads.
        self.slots = [Slot(number) for number in range(count + 1)]
        self._buffer = buffer
        self._board = board
        self._done = done
        self._freed = freed  # called when a thread has room again, though no run ended
        self._threads: list[threading.Thread] = []
        self._tell_lack_at = 0.0

    def start(self, lead: Callable[[Slot], None]) -> None:
        """Start one thread, which begins by calling ``lead``, and a second; the others follow when needed."""
        self._lead = lead
        self._buffer.on_rest = databases.rest
        self._buffer.expect(self.count, self._start_another)
        self._start(self._begin_leading)
        self._buffer.wake(1)  # so that the first job needn't wait for a thread to start

    def _start_another(self) -> bool:
        """Start another thread; False if the system has none left for us: the existing ones go on."""
        try:
            self._start(self._begin_waiting)
        except RuntimeError as error:
            now = time.monotonic()
            if now >= self._tell_lack_at:
                self._tell_lack_at = now + 60
                logger.error("%s (%d running); trying again", error, len(self._threads))  # noqa: TRY400
            return False
        return True

    def _start(self, begin: Callable[[Slot], None]) -> None:
        slot = self.slots[len(self._threads)]
        thread = threading.Thread(target=begin, args=[slot], name=f"kue-{slot.number}", daemon=True)
        self._threads.append(thread)  # before it starts: it may be the next to start one
        try:
            thread.start()
        except RuntimeError:
            self._threads.pop()
            raise

    def join(self) -> None:
        """Wait until they've ended, after the buffer was closed."""
        for thread in self._threads:
            thread.join()

    @property
    def busy(self) -> int:
        return sum(slot.run is not None for slot in self.slots)

    @property
    def idle(self) -> int:
        """Threads that could take something now, including those about to sleep."""
        return self.count - sum(slot.is_taken for slot in self.slots)

    def interrupt_overdue(self) -> None:
        """Ask runs that take longer than they may to stop, by an exception in their thread."""
        now = time.monotonic()
        for slot in self.slots:
            if slot.deadline and now >= slot.deadline:
                slot.interrupt(now)

    def _begin_leading(self, slot: Slot) -> None:
        self._lead(slot)
        self._go_on(slot, self._buffer.take())

    def _begin_waiting(self, slot: Slot) -> None:
        self._go_on(slot, self._buffer.take(is_new=True))

    def _go_on(self, slot: Slot, item: Any) -> None:
        """Work on what was taken, and on whatever comes after it."""
        while item is not None:
            if item is LEAD:
                self._lead(slot)
            else:
                self.work(slot, item)
            item = self._buffer.take()
        databases.close()

    def work(self, slot: Slot, item: Any) -> None:
        """Run a job, or make another call, in this thread."""
        slot.is_taken = True
        if isinstance(item, Run):
            outcome = self._run(slot, item)
            slot.is_taken = False
            self._done(item, outcome)
            self._board.end(slot.number)  # after its end is noted, so that it can be found at any moment
        else:
            self._call(item)
            slot.is_taken = False
            self._freed()

    @staticmethod
    def _call(item: Callable[[], None]) -> None:
        """Call a signal's receivers: whatever they do, this thread goes on."""
        try:
            item()
        except BaseException:
            logger.exception("sending a signal failed halfway")
        finally:
            forks.end_copy()
            databases.leave_clean()

    def _run(self, slot: Slot, run: Run) -> Outcome:
        run.started = now = time.monotonic()
        if now > run.fresh_until:
            return RELEASED  # we were frozen, or cut off: another worker may have the job by now
        if run.is_cancelled:
            return RELEASED if run.is_lost else CANCELLED
        timeout = run.rules.timeout if run.rules else None
        outcome: Outcome | None = None
        try:
            deadline = now + timeout if timeout else 0.0
            slot.open(run, deadline)
            over_by = deadline + GRACE if timeout else 0.0
            self._board.begin(slot.number, run.queue, run.key, now, over_by, run.suspicion)
            if timeout:
                note_delay(self._board, slot.number, run)
            outcome = self._steps(run, slot)
            slot.close()
        except BaseException as error:  # noqa: BLE001 - in our own code that's only a timeout
            slot.close()
            outcome = outcome or execution.of_exception(run, error)
        # from here on no timeout can interrupt us
        forks.end_copy(run)
        context.leave()
        databases.leave_clean()
        if slot.is_interrupted and (outcome.kind == "c" or isinstance(run.exception, JobTimeout)):
            outcome = execution.of_timeout(run)
        return outcome

    def _steps(self, run: Run, slot: Slot) -> Outcome:
        databases.freshen(run.started)
        outcome = execution.prepare(run)
        if outcome is not None:
            return outcome
        told = JobContext(run, run.attempt)
        context.enter(told)
        try:
            if signals.job_started.receivers:
                # without emit(), which would look for receivers again
                signals.job_started.send_robust(run.definition, job=run.job())
            result = execution.call(run, told)
            if slot.is_interrupted:  # it swallowed the interruption
                return execution.of_timeout(run)
            return execution.of_result(run, result)
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end a run, not the worker
            databases.suspect()
            return execution.of_exception(run, error)


class Loop:
    """The event loop that runs coroutine functions, in a thread of its own; started with the first run."""

    def __init__(self, count: int, first_slot: int, board: Board, done: Done) -> None:
        self.count = count
        self._board = board
        self._done = done
        self._free = list(range(first_slot + count - 1, first_slot - 1, -1))
        self._waiting: deque[Run] = deque()
        self._running: set[Run] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._checked = 0.0
        self.taken_at = 0.0  # when a run was last started
        self.defer: Callable[[Callable[[], None]], None] = lambda call: call()  # on an executor thread

    @property
    def free(self) -> int:
        """How many more runs may start now."""
        return len(self._free)

    @property
    def busy(self) -> int:
        return len(self._running)

    def put(self, runs: list[Run]) -> None:
        """Start runs as far as there are free slots; the rest waits."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._serve, name="kue-loop", daemon=True)
            self._thread.start()
        self._waiting.extend(runs)
        self._loop.call_soon_threadsafe(self._start_waiting)

    def cancel(self, run: Run, why: str) -> None:
        """Cancel a run's coroutine; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, run, why)

    def running(self) -> Iterator[Run]:
        return iter(tuple(self._running))

    def waiting(self) -> list[Run]:
        return list(self._waiting)

    def drain(self) -> list[Run]:
        """Take back the runs that haven't started."""
        runs = []
        with suppress(IndexError):
            while True:
                runs.append(self._waiting.popleft())
        return runs

    def _serve(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        while not self._is_closed:  # a job that stops the loop stops nothing
            try:
                self._loop.run_forever()
            except BaseException:  # asyncio lets a task's SystemExit and KeyboardInterrupt through
                logger.exception("a task that a job had started would end the event loop, which goes on")
        self._loop.run_until_complete(sync_to_async(connections.close_all)())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())  # one of them closes its links
        self._loop.close()

    def close(self) -> None:
        """End the loop, in a process that goes on without it. Nothing runs on it any more."""
        if self._loop is not None and self._thread is not None:
            self._is_closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _start_waiting(self) -> None:
        assert self._loop is not None
        while self._free and self._waiting:
            try:
                run = self._waiting.popleft()
            except IndexError:  # given back meanwhile
                return
            slot = self._free.pop()
            self.taken_at = time.monotonic()
            self._running.add(run)
            run.task = self._loop.create_task(self._run(run, slot))

    @staticmethod
    def _cancel(run: Run, why: str) -> None:
        if run.task is not None and not run.task.done() and run.interrupt is None:
            run.interrupt = why
            run.task.cancel()

    async def _run(self, run: Run, slot: int) -> None:
        run.started = now = time.monotonic()
        outcome = RELEASED
        try:
            if now > run.fresh_until:
                return  # as in a thread: another worker may have the job by now
            timeout = run.rules.timeout if run.rules else None
            self._board.begin(
                slot, run.queue, run.key, now, now + timeout + GRACE if timeout else 0.0, run.suspicion
            )
            note_delay(self._board, slot, run)
            if run.is_cancelled:
                outcome = RELEASED if run.is_lost else CANCELLED
            else:
                outcome = await self._steps(run, timeout)
        except asyncio.CancelledError as error:
            outcome = execution.of_exception(run, error)
        finally:
            forks.end_copy(run)
            self._running.discard(run)
            self._free.append(slot)
            self._done(run, outcome)
            self._board.end(slot)  # last, as in a thread
            if self._waiting:
                self._start_waiting()
        if not self._running:
            await databases.arest()

    async def _steps(self, run: Run, timeout: float | None) -> Outcome:
        assert self._loop is not None
        told = JobContext(run, run.attempt)
        context.enter(told)  # it's this task's own context, so there's nothing to leave
        timer = self._loop.call_later(timeout, self._cancel, run, "timeout") if timeout else None
        try:
            if run.started - self._checked > databases.FRESH:
                await self._freshen_databases(run.started)
            assert run.record is not None
            if codecs.refers_to_models(run.record.arguments):
                outcome = await sync_to_async(execution.prepare)(run)
            else:
                outcome = execution.prepare(run)
            if outcome is not None:
                return outcome
            if signals.job_started.receivers:
                self.defer(lambda: signals.emit(signals.job_started, run.definition, job=run.job()))
            result = await execution.call(run, told)
            if run.interrupt == "timeout":  # it swallowed the cancellation
                return execution.of_timeout(run)
            return execution.of_result(run, result)
        except asyncio.CancelledError as error:
            if run.interrupt == "timeout":
                return execution.of_timeout(run)
            return execution.of_exception(run, error)
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end a run, not the worker
            return execution.of_exception(run, error)
        finally:
            if timer is not None:
                timer.cancel()

    async def _freshen_databases(self, now: float) -> None:
        """Close old connections of the one thread through which async code reaches databases."""
        self._checked = now
        await sync_to_async(close_old_connections)()
