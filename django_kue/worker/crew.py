"""What a child has in hand: claimed jobs, the executors that run them, and outcomes not yet reported."""

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

FLOWING = 0.02  # fetching ahead makes sense while a thread or the loop took a job within so many seconds
GIVE_BACK = 0.25  # seconds after which a job that nothing started goes back
LONGEST_NAP = 1.0  # seconds that the leading thread sleeps at most without being woken
PART = 0.003  # seconds of work that a thread should have before it's worth waking another


class Crew:
    """The threads and coroutines of one child, and everything that passes through their hands.

    It's called by the leading thread; :meth:`done`, :meth:`stop_taking`, :meth:`mind_memory` and
    :meth:`cancelled` may be called from any thread.
    """

    def __init__(self, options: WorkerOptions, board: Board, alarm: Alarm) -> None:
        self._board = board
        self._alarm = alarm
        self.queues: Mapping[str, Served] = {name: Served(name) for name in options.queues}
        self.first_ack = 0.0  # when the oldest unreported outcome came
        self.is_taking = True  # whether jobs are claimed and started
        self.is_left = False  # nobody sends our heartbeats: jobs claimed now might soon run elsewhere too
        self.memory = Limit(options.max_memory)
        self._suspects: list[Run] = []  # suspects in hand
        self._giving_back = threading.Lock()
        self.reports = Reports(alarm.ring)
        self.buffer = Buffer()
        self.buffer.on_low = alarm.ring
        self.threads = Threads(options.threads, self.buffer, board, self.done, self._freed)
        self.loop = Loop(options.coroutines, options.threads + 1, board, self.done)
        self.loop.defer = lambda call: self.buffer.put([call], 1)

    # ── what comes in ──

    def places(self, coming: int, now: float) -> tuple[Places, Places]:
        """The places where jobs run: threads, and coroutines. ``coming``: jobs about to be in hand."""
        threads, loop, buffer = self.threads, self.loop, self.buffer
        return (
            Places(threads.count, threads.idle, len(buffer) + coming, now - buffer.taken_at < FLOWING),
            Places(loop.count, loop.free, len(loop.waiting()) + coming, now - loop.taken_at < FLOWING),
        )

    def alone_until(self, now: float) -> float:
        """Until when nothing may be claimed because a suspect runs alone, so that a crash has one culprit."""
        if not self._suspects:
            return 0.0
        suspects = self._suspects = [run for run in self._suspects if run.outcome is None]
        if any(run.suspicion >= NOTORIOUS for run in suspects):
            return now + LONGEST_NAP
        return max((run.fetched + ALONE for run in suspects), default=0.0)

    def note_suspects(self, runs: list[Run]) -> None:
        """Note the suspects among these runs: each runs alone for a while."""
        self._suspects += [run for run in runs if run.suspicion]

    def hand_out(self, runs: list[Run], duration: float | None = None) -> None:
        """Give runs to the executors, or back to Redis when no more jobs are taken. Short runs (by their
        average) are done soonest by one thread, the shortest by the leading one."""
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
        if not self.is_taking:  # that changed a moment ago
            self.give_back_unstarted()

    def _takers(self, count: int, duration: float | None) -> int:
        """How many threads to wake for this many runs."""
        if duration is None:
            return count
        others = int(count * duration / PART)
        return others if is_short(duration) else min(count, 1 + others)

    def tell_receivers(self, runs: Sequence[Run]) -> None:
        """Have receivers called for these ends. If that's quick, the leading thread begins, and a few others
        are woken."""
        if Ends.duration is None or not is_short(Ends.duration):
            self.buffer.put([Ends(runs, self.buffer)], 1)
            return
        size = int(PART / max(Ends.duration, 1e-6))
        parts = [Ends(runs[at : at + size], self.buffer) for at in range(0, len(runs), size)]
        self.buffer.put(parts, len(parts) - 1)

    def has_short(self) -> bool:
        """Whether the leading thread should run what comes next."""
        return self.is_short(self.buffer.first())

    def is_short(self, item: object) -> bool:
        """Whether the leading thread may run this."""
        if isinstance(item, Run):
            return self.queues[item.queue].is_short
        return isinstance(item, Ends) and is_short(Ends.duration)

    # ── what is over ──

    def done(self, run: Run, outcome: Outcome) -> None:
        """Note that a run is over: its outcome will be reported with the next turn."""
        run.finished = now = time.monotonic()
        run.outcome = outcome
        if now - run.started >= PROMPT and outcome.kind == "c":
            self._note(run, outcome)
        if not self.first_ack:
            self.first_ack = now
        self.queues[run.queue].acks.append(run)
        if now >= self.memory.look_at:
            self.mind_memory()
        # While more short runs are in hand, the leading thread only naps: it reports several ends together.
        # The end of a longer run is reported at once, since a crash would repeat that run.
        if self._alarm.is_asleep and (not len(self.buffer) or self.queues[run.queue].is_prompt):
            self._alarm.is_asleep = False  # one wake-up is enough
            self._alarm.ring()

    def _note(self, run: Run, outcome: Outcome) -> None:
        """Note a run's end on the board: from now on a crash doesn't repeat it, as the supervisor reports it.

        This isn't done while there are reports to send, which come before an outcome; nor if the run took
        this process's descriptors away, for which it's to blame. The shortest runs aren't noted either:
        repeating them costs less.
        """
        if self.reports.since is None and not self._alarm.is_gutted():
            run.note = self._board.note_end(run.queue, run.key, run.lease, outcome.encode(run))

    def _freed(self) -> None:
        """Wake the leading thread: a thread has room again, though no run ended."""
        if self._alarm.is_asleep:
            self._alarm.ring()

    def mark(self) -> None:
        """Let only the outcomes that have come so far be reported with the next turn.

        A run's progress and log lines come before its outcome, and have to be sent before it. So this is
        called before they're gathered, and what ends while they're being sent is left for the next time.
        """
        for queue in self.queues.values():
            queue.tellable = len(queue.acks)

    def begin_telling(self) -> None:
        """All outcomes that may be reported go with the turn that's being requested now."""
        self.first_ack = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is running, neither a job nor a receiver."""
        is_quiet = self.buffer.idle == self.threads.count and not len(self.buffer)
        return is_quiet and not self.loop.busy and not self.loop.waiting()

    # ── what goes back ──

    def stop_taking(self) -> None:
        """Claim and start no more jobs. What isn't started goes back here and now: before the leading thread
        got to do it, the busy threads could run everything in hand."""
        self.is_taking = False
        self.give_back_unstarted()

    def mind_memory(self) -> None:
        """Take no more jobs once this process has grown beyond its memory limit."""
        if self.memory.look(time.monotonic()):
            self.stop_taking()

    def give_back_stale(self, now: float) -> None:
        """Give back jobs that no thread started soon, so that they don't wait behind a long one here."""
        is_late = any(now - run.fetched > GIVE_BACK for run in (*self.buffer.waiting(), *self.loop.waiting()))
        if is_late or not self.is_taking:
            self.give_back_unstarted()

    def give_back_unstarted(self) -> None:
        with self._giving_back:  # two threads at it would mix up the order
            self.give_back(self._unstarted())

    def give_back(self, runs: Collection[Run]) -> None:
        """Give runs that weren't started back to Redis, with the next turn. All of a queue's go in one turn:
        with two, those of the later turn would end up in front of those of the earlier one."""
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
        """Take back the runs that no executor has begun."""
        return [*self.buffer.drain(), *self.loop.drain()]

    # ── what isn't ours any more ──

    def cancelled(self, queue: str, key: bytes) -> None:
        """Ask a job to stop, if it's in hand: somebody cancelled or removed it."""
        for run in self._known_runs():
            if run.queue == queue and run.key == key and not run.is_cancelled:
                run.is_cancelled = True
                self.loop.cancel(run, "cancel")

    def forget(self, queue: str, before: float) -> None:
        """Let go of a queue's jobs that were fetched before that time, since their leases are gone: what
        isn't started must not start, and what's running should stop."""
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
