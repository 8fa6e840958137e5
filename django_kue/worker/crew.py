"""What a child has at hand: jobs that were claimed, who runs them, and outcomes that wait to be told."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence

from django_kue.execution import RELEASED, Outcome, Run
from django_kue.worker.alarm import Alarm
from django_kue.worker.board import ALONE, NOTORIOUS, Board
from django_kue.worker.buffer import Buffer
from django_kue.worker.executors import Loop, Threads
from django_kue.worker.memory import Limit
from django_kue.worker.options import WorkerOptions
from django_kue.worker.reports import Reports
from django_kue.worker.served import PROMPT, Places, Served, is_short
from django_kue.worker.telling import Ends

FLOWING = 0.02  # seconds since a thread or the loop last took a job: within, fetching ahead makes sense
GIVE_BACK = 0.25  # seconds after which a job that nobody started goes back
LONGEST_NAP = 1.0  # seconds that the leading thread sleeps without being woken
PART = 0.003  # seconds of work that a thread should have before it's worth waking another


class Crew:
    """Threads and coroutines of one child, and all that passes through their hands.

    The leading thread calls it; :meth:`done`, :meth:`stop_taking`, :meth:`mind_memory` and
    :meth:`cancelled` may be called by any.
    """

    def __init__(self, options: WorkerOptions, board: Board, alarm: Alarm) -> None:
        self._board = board
        self._alarm = alarm
        self.queues: Mapping[str, Served] = {name: Served(name) for name in options.queues}
        self.first_ack = 0.0  # when the oldest outcome that isn't told came
        self.is_taking = True  # whether jobs are claimed and started
        self.is_left = False  # nobody beats for us: what we claimed now might soon be others', too
        self.memory = Limit(options.max_memory)
        self._suspects: list[Run] = []  # those in hand
        self._giving_back = threading.Lock()
        self.reports = Reports(alarm.ring)
        self.buffer = Buffer()
        self.buffer.on_low = alarm.ring
        self.threads = Threads(options.threads, self.buffer, board, self.done, self._freed)
        self.loop = Loop(options.coroutines, options.threads + 1, board, self.done)
        self.loop.defer = lambda call: self.buffer.put([call], 1)

    # ── what comes in ──

    def places(self, coming: int, now: float) -> tuple[Places, Places]:
        """Where jobs run: in threads, and as coroutines. ``coming``: jobs that will be at hand, too."""
        threads, loop, buffer = self.threads, self.loop, self.buffer
        return (
            Places(threads.count, threads.idle, len(buffer) + coming, now - buffer.taken_at < FLOWING),
            Places(loop.count, loop.free, len(loop.waiting()) + coming, now - loop.taken_at < FLOWING),
        )

    def alone_until(self, now: float) -> float:
        """While a suspect is tried nothing is taken beside it, so that a crash has one culprit."""
        if not self._suspects:
            return 0.0
        suspects = self._suspects = [run for run in self._suspects if run.outcome is None]
        if any(run.suspicion >= NOTORIOUS for run in suspects):
            return now + LONGEST_NAP
        return max((run.fetched + ALONE for run in suspects), default=0.0)

    def note_suspects(self, runs: list[Run]) -> None:
        """Those of them whose job was there when a process died are tried alone."""
        self._suspects += [run for run in runs if run.suspicion]

    def hand_out(self, runs: list[Run], duration: float | None = None) -> None:
        """Give runs to the executors. Short ones (by their average) are done soonest by one thread, the
        shortest by the one that leads. Who takes no more gives them back."""
        if not self.is_taking or self.is_left:
            self.give_back(runs)
            return
        for_loop = [run for run in runs if run.definition is not None and run.definition.is_async]
        for_threads = runs
        if for_loop:
            self.loop.put(for_loop)
            for_threads = [run for run in runs if run.definition is None or not run.definition.is_async]
        if for_threads:
            count = len(for_threads)
            self.buffer.low = count // 2
            self.buffer.put(for_threads, self._takers(count, duration))
        if not self.is_taking:  # since a moment
            self.give_back_unstarted()

    def _takers(self, count: int, duration: float | None) -> int:
        """How many threads to wake for so many runs."""
        if duration is None:
            return count
        others = int(count * duration / PART)
        return others if is_short(duration) else min(count, 1 + others)

    def tell_receivers(self, runs: Sequence[Run]) -> None:
        """Have them hear of these ends. Where that's quickly done, the thread that leads begins, and
        a few others are woken."""
        if Ends.duration is None or not is_short(Ends.duration):
            self.buffer.put([Ends(runs, self.buffer)], 1)
            return
        size = int(PART / max(Ends.duration, 1e-6))
        parts = [Ends(runs[at : at + size], self.buffer) for at in range(0, len(runs), size)]
        self.buffer.put(parts, len(parts) - 1)

    def has_short(self) -> bool:
        """Whether what comes next is for the thread that leads."""
        return self.is_short(self.buffer.first())

    def is_short(self, item: object) -> bool:
        """Whether this may be done by the thread that leads."""
        if isinstance(item, Run):
            return self.queues[item.queue].is_short
        return isinstance(item, Ends) and is_short(Ends.duration)

    # ── what is over ──

    def done(self, run: Run, outcome: Outcome) -> None:
        """A run is over: its outcome will be told with the next turn."""
        run.finished = now = time.monotonic()
        run.outcome = outcome
        if now - run.started >= PROMPT and outcome.kind == "c":
            self._note(run, outcome)
        if not self.first_ack:
            self.first_ack = now
        self.queues[run.queue].acks.append(run)
        if now >= self.memory.look_at:
            self.mind_memory()
        # While more short runs are at hand the leading thread sleeps for moments only: it tells several ends
        # at once. The end of one that took longer is told at once, since a crash would repeat it.
        if self._alarm.is_asleep and (not len(self.buffer) or self.queues[run.queue].is_prompt):
            self._alarm.is_asleep = False  # one wake-up is enough
            self._alarm.ring()

    def _note(self, run: Run, outcome: Outcome) -> None:
        """From here on a crash of this process doesn't repeat the run: its supervisor tells the end.

        Not while there are reports to be sent, which come before an outcome; nor if it took this process's
        descriptors away, for which it's to blame. And the shortest runs are soon repeated: noting them would
        cost more.
        """
        if self.reports.since is None and not self._alarm.is_gutted():
            run.note = self._board.note_end(run.queue, run.key, run.lease, outcome.encode(run))

    def _freed(self) -> None:
        """A thread has room again, without a run's end."""
        if self._alarm.is_asleep:
            self._alarm.ring()

    def mark(self) -> None:
        """From here on, only outcomes that have come already may be told.

        A run's reports come before its outcome, and have to be sent before it: so this is called before
        they're gathered, and what ends while they're sent is for the next time.
        """
        for queue in self.queues.values():
            queue.tellable = len(queue.acks)

    def begin_telling(self) -> None:
        """Whatever may be told goes with the turn that's asked for now."""
        self.first_ack = 0.0

    @property
    def is_idle(self) -> bool:
        """No run goes on, and no receiver is being told of one."""
        is_quiet = self.buffer.idle == self.threads.count and not len(self.buffer)
        return is_quiet and not self.loop.busy and not self.loop.waiting()

    # ── what goes back ──

    def stop_taking(self) -> None:
        """Claim and start no more jobs. What isn't started goes back here and now: before the leading thread
        gets to it among busy ones, these could run all that's at hand."""
        self.is_taking = False
        self.give_back_unstarted()

    def mind_memory(self) -> None:
        """Take no more jobs once this process has grown over its limit."""
        if self.memory.look(time.monotonic()):
            self.stop_taking()

    def give_back_stale(self, now: float) -> None:
        """A job that no thread started soon is another worker's to run: a long one must not hold it."""
        is_late = any(now - run.fetched > GIVE_BACK for run in (*self.buffer.waiting(), *self.loop.waiting()))
        if is_late or not self.is_taking:
            self.give_back_unstarted()

    def give_back_unstarted(self) -> None:
        with self._giving_back:  # two that take turns at it would mix up the order
            self.give_back(self._unstarted())

    def give_back(self, runs: Collection[Run]) -> None:
        """To Redis, with the next turn: they weren't started. All of a queue's are to be told at once: of two
        turns, the later one's would come to stand before the earlier one's."""
        now = time.monotonic()
        for run in runs:
            run.started = run.finished = now
            run.outcome = RELEASED
        for queue in self.queues.values():
            queue.acks.extend([run for run in runs if run.queue == queue.name])
        if runs:
            self.first_ack = self.first_ack or now
            self._freed()

    def _unstarted(self) -> list[Run]:
        """Take back what no executor has begun."""
        return [*self.buffer.drain(), *self.loop.drain()]

    # ── what isn't ours any more ──

    def cancelled(self, queue: str, key: bytes) -> None:
        """Somebody cancelled or removed a job that may be at hand."""
        for run in self._known_runs():
            if run.queue == queue and run.key == key and not run.is_cancelled:
                run.is_cancelled = True
                self.loop.cancel(run, "cancel")

    def forget(self, queue: str, before: float) -> None:
        """Leases of a queue are gone, those of which we heard before then: what isn't started must not be,
        what runs should stop."""
        unstarted = self._unstarted()
        self.give_back([run for run in unstarted if run.queue == queue])
        self.hand_out([run for run in unstarted if run.queue != queue])
        for run in self._known_runs():
            if run.queue == queue and run.fetched < before:
                run.is_lost = run.is_cancelled = True
                self.loop.cancel(run, "cancel")

    def running(self) -> list[Run]:
        return [run for run in (*[slot.run for slot in self.threads.slots], *self.loop.running()) if run]

    def _known_runs(self) -> list[Run]:
        return [*self.running(), *self.buffer.waiting(), *self.loop.waiting()]
