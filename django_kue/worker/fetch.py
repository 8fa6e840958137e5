"""The fetch loop: one thread that talks to Redis for a whole child.

A tick gathers what has finished, claims what comes next in the same call, and hands it to the
executors. Between ticks it sleeps on the queues' bells, a local timer and a wake-up from the executors.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from django_kue import execution, registry, signals
from django_kue.conf import settings
from django_kue.errors import KueError, StoreError, StoreUnavailable
from django_kue.execution import RELEASED, Outcome, Run
from django_kue.jobs import Job
from django_kue.store import Doorbell, Link, moves, new_link, reads
from django_kue.worker.board import ALONE, NOTORIOUS, Board
from django_kue.worker.executors import Buffer, Loop, Threads
from django_kue.worker.joblog import JobLog
from django_kue.worker.options import WorkerOptions
from django_kue.worker.reports import Reports
from django_kue.worker.served import Served

logger = logging.getLogger("django_kue.worker")

GIVE_BACK = 0.25  # seconds after which a job that nobody started goes back
FLUSH_ACKS = 0.002  # seconds that an outcome may wait for company while jobs are still at hand
FLUSH_REPORTS = 0.1
FLOWING = 0.02  # seconds since a thread last took a job, within which fetching ahead makes sense
LONGEST_NAP = 1.0

GUTTED = 54  # exit code: a job closed or replaced this process's file descriptors


class Planned(NamedTuple):
    """A turn that's about to be sent."""

    queue: Served
    acks: list[Run]
    wants: int


class Fetcher:
    """Fetches, settles and reports for one child; :meth:`run` returns when everything is told."""

    def __init__(self, owner: moves.Owner, options: WorkerOptions, board: Board) -> None:
        self._owner = owner
        self._options = options
        self._board = board
        self._queues = {name: Served(name) for name in options.queues}
        self._turn_order = deque(self._queues.values())
        self._bell = Doorbell(options.queues)
        self._link: Link = new_link(max(2.0, settings.LEASE / 2))
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._pipe = pipe_at(self._wake_read)
        self._is_asleep = False
        self._is_stopping = False
        self._is_away = False  # Redis can't be reached, and that has been said
        self._suspects: list[Run] = []  # those in hand
        self._first_ack = 0.0
        self._burst_checked_at = 0.0
        self._lost: deque[tuple[str, float]] = deque()  # queues of which the leases are gone
        self._calls: deque[Callable[[], None]] = deque()
        self.done_count = 0
        self.log = JobLog()
        self.reports = Reports(self.wake)
        self.buffer = Buffer()
        self.buffer.on_low = self.wake
        self.threads = Threads(options.threads, self.buffer, board, self.done, self._freed)
        self.loop = Loop(options.coroutines, options.threads, board, self.done)
        self.loop.defer = lambda call: self.buffer.put([call], 1)

    # ── called by others, from any thread ──

    def done(self, run: Run, outcome: Outcome) -> None:
        """A run is over: its outcome will be told with the next turn."""
        run.finished = time.monotonic()
        run.outcome = outcome
        if not self._first_ack:
            self._first_ack = run.finished
        self._queues[run.queue].acks.append(run)
        if self._is_asleep:
            self._is_asleep = False  # one wake-up is enough
            self.wake()

    def _freed(self) -> None:
        """A thread has room again, without a run's end."""
        if self._is_asleep:
            self.wake()

    def lost(self, queue: str, before: float) -> None:
        """The supervisor learned that this child was declared dead for a queue; what was claimed later
        than ``before`` is under a new lease."""
        self._lost.append((queue, before))
        self.wake()

    def cancelled(self, queue: str, key: bytes) -> None:
        """Somebody cancelled or removed a job that may be running here."""
        for run in self._known_runs():
            if run.queue == queue and run.key == key and not run.is_cancelled:
                run.is_cancelled = True
                self.loop.cancel(run, "cancel")

    def stop(self) -> None:
        """Take no new jobs; :meth:`run` returns when the running ones are over and told."""
        self._is_stopping = True
        self.wake()

    def wake(self) -> None:
        with suppress(OSError):  # full, or a job closed it: blame_if_gutted will see
            os.write(self._wake_write, b"!")

    def blame_if_gutted(self) -> None:
        """End this process if its descriptors aren't its own any more: a job closed or replaced them.

        The culprit is one of the runs that ended and couldn't be told, or that are running.
        """
        if pipe_at(self._wake_read) == self._pipe:
            return
        runs = [run for queue in self._queues.values() for run in queue.acks]
        self._board.blame(
            (run.queue, run.key, run.started, run.suspicion) for run in runs if run.outcome is not RELEASED
        )
        os._exit(GUTTED)

    @property
    def is_idle(self) -> bool:
        """No run goes on, and no receiver is being told of one."""
        is_quiet = self.buffer.idle == self.threads.count and not len(self.buffer)
        return is_quiet and not self.loop.busy and not self.loop.waiting()

    # ── the loop ──

    def run(self) -> None:
        self.threads.start()
        failures = 0
        while True:
            try:
                is_busy = self._tick()
                if self._is_away:
                    self._is_away = False
                    logger.info("Redis is back")
                failures = 0
                if self._is_over():
                    break
                if not is_busy:
                    self._sleep()
            except StoreUnavailable as error:
                self.blame_if_gutted()
                failures += 1
                self._is_dirty_all()
                self._say_away(error)
                if self._is_stopping and self.is_idle and failures > 5:
                    break  # the leases will lapse
                nap = min(5.0, 0.05 * 2 ** min(failures, 7)) * random.uniform(0.5, 1)
                threading.Event().wait(nap)
        self.buffer.close()
        self._link.close()
        self._bell.close()

    def _tick(self) -> bool:
        """One round; True when it's worth another at once."""
        now = time.monotonic()
        self._forget_lost()
        self._give_back_stale(now)
        self._flush_reports(now)
        return self._take_turns(now)

    def _is_over(self) -> bool:
        if self._options.is_burst and not self._is_stopping and self._nothing_waits():
            self.stop()
        return (
            self._is_stopping
            and self.is_idle
            and not any(queue.acks or queue.held() for queue in self._queues.values())
            and self.threads.idle == self.threads.count  # receivers have been told
            and self.reports.since is None
        )

    def _nothing_waits(self) -> bool:
        """For a burst: all queues were looked at, and have nothing but delayed jobs, or are paused."""
        now = time.monotonic()
        if now < self._burst_checked_at + 0.1 or not self.is_idle:
            return False
        if any(queue.ready_at <= now or queue.acks or queue.is_woken for queue in self._queues.values()):
            return False
        self._burst_checked_at = now
        for name in self._queues:
            counts, facts = self._link.send(reads.counts(name), reads.facts(name))
            if counts["waiting"] and facts.paused_since_ms is None:
                return False
        return True

    # ── turns ──

    def _take_turns(self, now: float) -> bool:
        for queue in self._queues.values():
            if queue.is_dirty and now >= queue.blocked_until:
                self._sync(queue)
        turns = self._planned(now)
        if not turns:
            return False
        self._first_ack = 0.0
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
        chosen = None if self._is_stopping else self._choose(now)
        turns = []
        for queue in self._queues.values():
            may_claim = not self._is_stopping and (queue is chosen or queue.acks)
            wants = self._wants(queue, now) if may_claim else 0
            is_bell = queue.is_woken and not wants and (self._is_stopping or not self._wants(queue, now))
            if now >= queue.blocked_until and (wants or queue.acks or is_bell):
                turns.append(Planned(queue, queue.take_acks(), wants))
        return turns

    def _choose(self, now: float) -> Served | None:
        """The next queue in turn that may have jobs, if there's room for any."""
        for _ in range(len(self._turn_order)):
            queue = self._turn_order[0]
            self._turn_order.rotate(-1)
            if (queue.ready_at <= now or queue.is_woken) and self._wants(queue, now):
                return queue
        return None

    def _wants(self, queue: Served, now: float) -> int:
        if now < queue.blocked_until or now < self._alone_until(now):
            return 0
        wanted = queue.wanted(
            threads=self._options.threads,
            idle=self.threads.idle,
            buffered=len(self.buffer),
            is_flowing=now - self.buffer.taken_at < FLOWING,
            loop_room=self.loop.room,
        )
        if self._options.max_jobs is not None:
            begun = self.done_count + sum(served.held() for served in self._queues.values())
            wanted = min(wanted, max(0, self._options.max_jobs - begun))
        return wanted

    def _alone_until(self, now: float) -> float:
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
        self._hand_out(
            [run for run, outcome in zip(runs, outcomes, strict=True) if outcome is None], queue.duration
        )

    def _mark_started(self, suspect: Run) -> bool:
        """Should its worker die now, this run is the one to blame. False: that couldn't be written."""
        report = moves.Report(suspect.lease, suspect.key, b"y", b"")
        try:
            self._link.send(moves.report(suspect.queue, [report]))
        except (StoreError, StoreUnavailable) as error:
            self._block(self._queues[suspect.queue], error)
            return False
        return True

    def _hand_out(self, runs: list[Run], duration: float | None = None) -> None:
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

    # ── what goes back ──

    def _give_back_stale(self, now: float) -> None:
        """A job that no thread started soon is another worker's to run: a long one must not hold it."""
        late = [
            run for run in (*self.buffer.waiting(), *self.loop.waiting()) if now - run.fetched > GIVE_BACK
        ]
        if late or (self._is_stopping and (len(self.buffer) or self.loop.waiting())):
            for run in (*self.buffer.drain(), *self.loop.drain()):
                run.started = now
                self.done(run, RELEASED)

    def _forget_lost(self) -> None:
        """Leases of a queue are gone: what isn't started must not be, what runs should stop."""
        while self._lost:
            name, before = self._lost.popleft()
            unstarted = [*self.buffer.drain(), *self.loop.drain()]
            self._hand_out([run for run in unstarted if run.queue != name])
            for run in unstarted:
                if run.queue == name:
                    run.started = time.monotonic()
                    self.done(run, RELEASED)
            for run in self._known_runs():
                if run.queue == name and run.fetched < before:
                    run.is_lost = run.is_cancelled = True
                    self.loop.cancel(run, "cancel")
            self._queues[name].is_dirty = True

    def _is_dirty_all(self) -> None:
        for queue in self._queues.values():
            queue.is_dirty = True
            queue.ready_at = 0.0

    def _known_runs(self) -> list[Run]:
        running = [slot.run for slot in self.threads.slots]
        return [
            run
            for run in (*running, *self.loop.running(), *self.buffer.waiting(), *self.loop.waiting())
            if run
        ]

    # ── reports ──

    def _flush_reports(self, now: float) -> None:
        """Progress and logs go before outcomes: an outcome ends the lease that they need."""
        since = self.reports.since
        if since is None or not (
            now - since >= FLUSH_REPORTS or any(queue.acks for queue in self._queues.values())
        ):
            return
        reports, heard = self.reports.take()
        refused: set[bytes] = set()
        try:
            for queue, items in reports.items():
                while items:
                    refused.update(self._report(queue, items[:500]))
                    del items[:500]
        except StoreUnavailable:
            self.reports.give_back(reports)
            raise
        for progressed in heard:
            if progressed.run.key not in refused:
                self.buffer.put([partial(_emit_progress, progressed)], 1)

    def _report(self, queue: str, items: list[moves.Report]) -> list[bytes]:
        try:
            refused: list[bytes] = self._link.send(moves.report(queue, items))[0]
        except StoreError as error:
            logger.error("queue %s: %d progresses and log lines are lost: %s", queue, len(items), error)  # noqa: TRY400
            return [item.key for item in items]
        return refused

    # ── what people hear ──

    def _ended(self, run: Run) -> None:
        """An outcome was accepted: log it, and tell the receivers on an executor thread."""
        assert run.outcome is not None
        kind = run.outcome.kind
        if kind not in "bk":
            self.done_count += 1
            self._board.set_done(self.done_count)
        self.log.add(run, kind)
        signal = _SIGNALS.get(kind)
        if signal is not None and signal.receivers:
            self.buffer.put([partial(_emit_end, run)], 1)

    def _tell_of(self, queue: str, turn: moves.Turn) -> None:
        for signal, keys in (
            (signals.job_cancelled, turn.expired),
            (signals.job_promoted, turn.promoted),
        ):
            if keys and signal.receivers:
                self.buffer.put([partial(_emit_read, signal, queue, keys)], 1)

    def _say_away(self, error: StoreUnavailable) -> None:
        if not self._is_away:
            logger.warning("%s; waiting, and trying again", error)
            self._is_away = True

    # ── sleep ──

    def _sleep(self) -> None:
        self._is_asleep = True
        try:
            with suppress(BlockingIOError):
                while os.read(self._wake_read, 4096):
                    pass
            nap = self._nap(time.monotonic())
            if nap > 0:
                is_armed = not self._is_stopping and (
                    self.threads.idle > len(self.buffer) or self.loop.room > 0
                )
                for name in self._bell.wait(nap, self._wake_read, is_armed=is_armed):
                    self._queues[name].is_woken = True
                    self._queues[name].ready_at = 0.0
        finally:
            self._is_asleep = False
        if len(self.buffer) and self.buffer.idle:
            self.buffer.wake(1)  # the first thread's job is longer than we thought

    def _nap(self, now: float) -> float:
        """Seconds until there's something to do without being woken."""
        ends = [now + LONGEST_NAP]
        if (alone_until := self._alone_until(now)) > now:
            ends.append(alone_until)
        if self._lost:
            return 0.0
        blocked = [queue.blocked_until for queue in self._queues.values() if queue.blocked_until > now]
        ends += blocked
        if any(queue.acks and queue.blocked_until <= now for queue in self._queues.values()):
            if not len(self.buffer):
                return 0.0
            ends.append((self._first_ack or now) + FLUSH_ACKS)
        if self.reports.since is not None:
            ends.append(self.reports.since + FLUSH_REPORTS)
        if len(self.buffer) and self.buffer.idle:
            ends.append(now + 0.001)
        if len(self.buffer) or self.loop.waiting():
            ends.append(now + GIVE_BACK / 2)
        for queue in self._queues.values():
            if not self._is_stopping and queue.ready_at < ends[0] and self._wants(queue, now):
                ends.append(max(queue.ready_at, queue.blocked_until))
        return min(ends) - now


def pipe_at(descriptor: int) -> tuple[int, int] | None:
    """What a descriptor leads to."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_SIGNALS = {
    "c": signals.job_completed, "r": signals.job_retrying,
    "f": signals.job_failed, "x": signals.job_cancelled,
}  # fmt: skip


def _emit_end(run: Run) -> None:
    """The signal of a run's end, with the exception at hand."""
    outcome = run.outcome
    assert outcome is not None
    job = run.job_after(outcome)
    sender = run.definition.original if run.definition else None
    if outcome.kind == "c":
        signals.emit(signals.job_completed, sender, job=job, result=run.result)
    elif outcome.kind == "x":
        signals.emit(signals.job_cancelled, sender, job=job)
    else:
        extra = {"delay": outcome.delay} if outcome.kind == "r" else {}
        try:
            if run.exception is not None:
                raise run.exception
        except BaseException as exception:  # noqa: BLE001 - raised so that sys.exc_info() has it
            signals.emit(_SIGNALS[outcome.kind], sender, job=job, exception=exception, **extra)


def _emit_progress(progressed: Any) -> None:
    run = progressed.run
    signals.emit(
        signals.job_progressed, run.definition.original if run.definition else None, job=run.job(),
        progress=progressed.percent, data=progressed.data,
    )  # fmt: skip


def _emit_read(signal: Any, queue: str, keys: list[bytes]) -> None:
    for key in keys:
        with suppress(KueError):
            job = Job.get(f"{queue}.{key.decode()}")
            signals.emit(signal, registry.get(job.name), job=job)
