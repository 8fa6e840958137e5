"""Turns with Redis: which queues need one, what it asks, and what becomes of the answer."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from django_kue import execution, signals
from django_kue.conf import settings
from django_kue.errors import KueError, StoreError, StoreUnavailable
from django_kue.execution import RELEASED, Outcome, Run
from django_kue.store import Link, moves
from django_kue.worker.alarm import Alarm
from django_kue.worker.board import ALONE, NOTORIOUS, Board
from django_kue.worker.buffer import Buffer
from django_kue.worker.executors import Loop, Threads
from django_kue.worker.joblog import JobLog
from django_kue.worker.measuring import Measuring
from django_kue.worker.options import WorkerOptions
from django_kue.worker.reports import Reports
from django_kue.worker.served import Served
from django_kue.worker.telling import SIGNALS, emit_end, emit_read

logger = logging.getLogger("django_kue.worker")

FLOWING = 0.02  # seconds since a thread last took a job, within which fetching ahead makes sense
LONGEST_NAP = 1.0


class Planned(NamedTuple):
    """A turn that's about to be sent."""

    queue: Served
    acks: list[Run]
    wants: int


class Turns:
    """Settles and claims for one child. All but :meth:`done` is the fetch thread's."""

    def __init__(
        self, owner: moves.Owner, options: WorkerOptions, board: Board, link: Link, alarm: Alarm
    ) -> None:
        self._owner = owner
        self._options = options
        self._board = board
        self._link = link
        self._alarm = alarm
        self.queues: Mapping[str, Served] = {name: Served(name) for name in options.queues}
        self._turn_order = deque(self.queues.values())
        self._suspects: list[Run] = []  # those in hand
        self.first_ack = 0.0  # when the oldest outcome that isn't told came
        self.is_stopping = False
        self.done_count = 0
        self.log = JobLog()
        self.measuring = Measuring()
        self.reports = Reports(alarm.ring)
        self.buffer = Buffer()
        self.buffer.on_low = alarm.ring
        self.threads = Threads(options.threads, self.buffer, board, self.done, self._freed)
        self.loop = Loop(options.coroutines, options.threads, board, self.done)
        self.loop.defer = lambda call: self.buffer.put([call], 1)

    def done(self, run: Run, outcome: Outcome) -> None:
        """A run is over: its outcome will be told with the next turn. Called from any thread."""
        run.finished = time.monotonic()
        run.outcome = outcome
        if not self.first_ack:
            self.first_ack = run.finished
        self.queues[run.queue].acks.append(run)
        if self._alarm.is_asleep:
            self._alarm.is_asleep = False  # one wake-up is enough
            self._alarm.ring()

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

    def take(self, now: float) -> bool:
        """Send the turns that are due, all at once. True when something was claimed."""
        for queue in self.queues.values():
            if queue.is_dirty and now >= queue.blocked_until:
                self._sync(queue)
        turns = self._planned(now)
        if not turns:
            return False
        self.first_ack = 0.0
        try:
            replies = self._link.try_send(*[self._call(turn, now) for turn in turns])
        except StoreUnavailable:
            for turn in turns:
                turn.queue.put_back(turn.acks)  # sent again: refused if they got through, no harm
            raise
        answered = [(turn, reply) for turn, reply in zip(turns, replies, strict=True)]
        for turn, reply in answered:
            if isinstance(reply, KueError):
                self._refused(turn, reply)
            else:
                self._settle(turn, reply)
        claims = [(turn, reply) for turn, reply in answered if isinstance(reply, moves.Turn)]
        for turn, reply in claims:
            self._start(turn, reply, now)
        return any(reply.keys for _, reply in claims)

    def _planned(self, now: float) -> list[Planned]:
        """The queues that need a turn: one is to claim from, others have outcomes to tell, or a bell to
        pass on that rang here for a job that there's no room for."""
        chosen = None if self.is_stopping else self._choose(now)
        turns = []
        for queue in self.queues.values():
            may_claim = not self.is_stopping and (queue is chosen or queue.tellable)
            wants = self.wants(queue, now) if may_claim else 0
            is_bell = queue.is_woken and not wants and (self.is_stopping or not self.wants(queue, now))
            if now >= queue.blocked_until and (wants or queue.tellable or is_bell):
                turns.append(Planned(queue, queue.take_acks(), wants))
        return turns

    def _choose(self, now: float) -> Served | None:
        """The next queue in turn that may have jobs, if there's room for any."""
        for _ in range(len(self._turn_order)):
            queue = self._turn_order[0]
            self._turn_order.rotate(-1)
            if (queue.ready_at <= now or queue.is_woken) and self.wants(queue, now):
                return queue
        return None

    def wants(self, queue: Served, now: float) -> int:
        if now < queue.blocked_until or now < self.alone_until(now):
            return 0
        wanted = queue.wanted(
            threads=self._options.threads,
            idle=self.threads.idle,
            buffered=len(self.buffer),
            is_flowing=now - self.buffer.taken_at < FLOWING,
            loop_room=self.loop.room,
        )
        if self._options.max_jobs is not None:
            begun = self.done_count + sum(served.held() for served in self.queues.values())
            wanted = min(wanted, max(0, self._options.max_jobs - begun))
        return wanted

    def alone_until(self, now: float) -> float:
        """While a suspect is tried nothing is taken beside it, so that a crash has one culprit."""
        suspects = self._suspects = [run for run in self._suspects if run.outcome is None]
        if any(run.suspicion >= NOTORIOUS for run in suspects):
            return now + LONGEST_NAP
        return max((run.fetched + ALONE for run in suspects), default=0.0)

    def _call(self, turn: Planned, now: float) -> Any:
        queue = turn.queue
        batches: dict[bytes, list[tuple[bytes, bytes]]] = {}
        spent = 0.0
        for run in turn.acks:
            assert run.outcome is not None
            batches.setdefault(run.lease, []).append((run.key, run.outcome.encode(run)))
            spent += run.finished - run.started
        switches = "w" if queue.is_woken else ""
        if signals.job_promoted.receivers:
            switches += "p"
        queue.sequence += 1
        queue.is_woken = False
        return moves.turn(
            queue.name, self._owner, want=turn.wants, sequence=queue.sequence, batches=batches,
            switches=switches, work_ms=int(spent * 1000),
        )  # fmt: skip

    def _sync(self, queue: Served) -> None:
        """After a lost reply, or after our leases lapsed: give back what we don't know of."""
        try:
            returned = self._link.send(moves.sync(queue.name, self._owner, queue.leases))[0]
        except StoreError as error:
            self._block(queue, error)
            return
        queue.is_dirty = False
        if returned:
            logger.info(
                "%d jobs of %s were claimed by a reply that got lost; they're given back",
                len(returned),
                queue.name,
            )

    def _settle(self, planned: Planned, turn: moves.Turn) -> None:
        queue = planned.queue
        if planned.acks:
            queue.settled(planned.acks)
            self._board.set_held(queue.name, queue.held())
            refused, cancelled = set(turn.refused), set(turn.cancelled)
            for run in planned.acks:
                if run.key in refused:
                    # Sent twice, or of a job that was removed: nobody is stale then.
                    is_known = run.is_cancelled and not run.is_lost
                    if not is_known and not run.is_resent and (run.is_lost or run.outcome is not RELEASED):
                        self.log.add(run, "stale")
                    continue
                if run.key in cancelled:
                    run.outcome = execution.CANCELLED
                self._ended(run)
        self._tell_of(queue.name, turn)

    def _start(self, planned: Planned, turn: moves.Turn, asked_at: float) -> None:
        queue = planned.queue
        if planned.wants:
            queue.looked(turn, planned.wants)
        if not turn.keys:
            return
        claimed_ms = int(turn.lease.split(b"|", 2)[1])
        now = time.monotonic()
        fresh_until = asked_at + settings.LEASE / 2
        runs = []
        for key, text in zip(turn.keys, turn.records, strict=True):
            run = Run(queue.name, key, turn.lease, text, claimed_ms, now)
            run.fresh_until = fresh_until
            run.reports = self.reports
            runs.append(run)
        outcomes = [execution.load(run) for run in runs]
        queue.claimed(turn.lease, runs)
        self._board.set_claimed(queue.name, asked_at + settings.LEASE)
        self._board.set_held(queue.name, queue.held())
        self._suspects += [run for run in runs if run.suspicion]
        if runs[0].suspicion and not self._mark_started(runs[0]):
            outcomes[0] = RELEASED
        for run, outcome in zip(runs, outcomes, strict=True):
            if outcome is not None:
                self.done(run, outcome)
        self.hand_out(
            [run for run, outcome in zip(runs, outcomes, strict=True) if outcome is None], queue.duration
        )

    def _mark_started(self, suspect: Run) -> bool:
        """Should its worker die now, this run is the one to blame. False: that couldn't be written."""
        report = moves.Report(suspect.lease, suspect.key, b"y", b"")
        try:
            self._link.send(moves.report(suspect.queue, [report]))
        except (StoreError, StoreUnavailable) as error:
            self._block(self.queues[suspect.queue], error)
            return False
        return True

    def hand_out(self, runs: list[Run], duration: float | None = None) -> None:
        """Give runs to the executors. Short ones (by their average) are done soonest by one thread."""
        for_loop = [run for run in runs if run.definition is not None and run.definition.is_async]
        for_threads = [run for run in runs if run.definition is None or not run.definition.is_async]
        if for_loop:
            self.loop.put(for_loop)
        if for_threads:
            count = len(for_threads)
            self.buffer.low = count // 2
            self.buffer.put(
                for_threads, count if duration is None else min(count, 1 + int(count * duration / 0.001))
            )

    def _refused(self, planned: Planned, error: KueError) -> None:
        queue = planned.queue
        queue.put_back(planned.acks)
        self._block(queue, error)

    @staticmethod
    def _block(queue: Served, error: KueError) -> None:
        """Its calls fail: a pause, in which the other queues go on."""
        queue.is_dirty = True
        now = time.monotonic()
        if now - queue.blocked_until > 10:
            logger.error("queue %s: %s", queue.name, error)
        queue.blocked_until = now + 1.0
        queue.ready_at = min(queue.ready_at, queue.blocked_until)

    # ── what people hear ──

    def _ended(self, run: Run) -> None:
        """An outcome was accepted: log it, and tell the receivers on an executor thread."""
        assert run.outcome is not None
        kind = run.outcome.kind
        if kind not in "bk":
            self.measuring.add(run, kind)
            self.done_count += 1
            self._board.set_done(self.done_count)
        self.log.add(run, kind)
        signal = SIGNALS.get(kind)
        if signal is not None and signal.receivers:
            self.buffer.put([partial(emit_end, run)], 1)

    def _tell_of(self, queue: str, turn: moves.Turn) -> None:
        for signal, keys in (
            (signals.job_cancelled, turn.expired),
            (signals.job_promoted, turn.promoted),
        ):
            if keys and signal.receivers:
                self.buffer.put([partial(emit_read, signal, queue, keys)], 1)
