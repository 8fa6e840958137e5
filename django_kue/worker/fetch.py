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
from functools import partial

from django_kue.conf import settings
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.execution import RELEASED, Run
from django_kue.store import Doorbell, Link, moves, new_link, reads
from django_kue.worker.alarm import Alarm
from django_kue.worker.board import Board
from django_kue.worker.codes import GUTTED
from django_kue.worker.options import WorkerOptions
from django_kue.worker.telling import emit_progress
from django_kue.worker.turns import LONGEST_NAP, Turns

logger = logging.getLogger("django_kue.worker")

GIVE_BACK = 0.25  # seconds after which a job that nobody started goes back
FLUSH_ACKS = 0.002  # seconds that an outcome may wait for company while jobs are still at hand
FLUSH_REPORTS = 0.1


class Fetcher:
    """Fetches, settles and reports for one child; :meth:`run` returns when everything is told."""

    def __init__(self, owner: moves.Owner, options: WorkerOptions, board: Board) -> None:
        self._options = options
        self._board = board
        self._bell = Doorbell(options.queues)
        self._link: Link = new_link(max(2.0, settings.LEASE / 2))
        self._alarm = Alarm()
        self._turns = turns = Turns(owner, options, board, self._link, self._alarm)
        self._queues = turns.queues
        self._is_away = False  # Redis can't be reached, and that has been said
        self._burst_checked_at = 0.0
        self._lost: deque[tuple[str, float]] = deque()  # queues of which the leases are gone
        self.log, self.reports = turns.log, turns.reports
        self.buffer, self.threads, self.loop = turns.buffer, turns.threads, turns.loop

    # ── called by others, from any thread ──

    def lost(self, queue: str, before: float) -> None:
        """The supervisor learned that this child was declared dead for a queue; what was claimed later
        than ``before`` is under a new lease."""
        self._lost.append((queue, before))
        self._alarm.ring()

    def cancelled(self, queue: str, key: bytes) -> None:
        """Somebody cancelled or removed a job that may be running here."""
        for run in self._known_runs():
            if run.queue == queue and run.key == key and not run.is_cancelled:
                run.is_cancelled = True
                self.loop.cancel(run, "cancel")

    def stop(self) -> None:
        """Take no new jobs; :meth:`run` returns when the running ones are over and told."""
        self._turns.is_stopping = True
        self._alarm.ring()

    def blame_if_gutted(self) -> None:
        """End this process if its descriptors aren't its own any more: a job closed or replaced them.

        The culprit is one of the runs that ended and couldn't be told, or that are running.
        """
        if not self._alarm.is_gutted():
            return
        runs = [run for queue in self._queues.values() for run in queue.acks]
        self._board.blame(
            (run.queue, run.key, run.started, run.suspicion) for run in runs if run.outcome is not RELEASED
        )
        os._exit(GUTTED)

    @property
    def done_count(self) -> int:
        """Runs that ended here, and whose end was accepted."""
        return self._turns.done_count

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
                    self._flush_measurements(time.monotonic())
                    break
                if not is_busy:
                    self._sleep()
            except StoreUnavailable as error:
                self.blame_if_gutted()
                failures += 1
                self._is_dirty_all()
                self._say_away(error)
                if self._turns.is_stopping and self.is_idle and failures > 5:
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
        if now >= self._turns.measuring.flush_at:
            self._flush_measurements(now)
        self._turns.mark()
        self._flush_reports(now)
        return self._turns.take(now)

    def _is_over(self) -> bool:
        if self._options.is_burst and not self._turns.is_stopping and self._nothing_waits():
            self.stop()
        return (
            self._turns.is_stopping
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

    # ── what goes back ──

    def _give_back_stale(self, now: float) -> None:
        """A job that no thread started soon is another worker's to run: a long one must not hold it."""
        late = [
            run for run in (*self.buffer.waiting(), *self.loop.waiting()) if now - run.fetched > GIVE_BACK
        ]
        if late or (self._turns.is_stopping and (len(self.buffer) or self.loop.waiting())):
            for run in (*self.buffer.drain(), *self.loop.drain()):
                run.started = now
                self._turns.done(run, RELEASED)

    def _forget_lost(self) -> None:
        """Leases of a queue are gone: what isn't started must not be, what runs should stop."""
        while self._lost:
            name, before = self._lost.popleft()
            unstarted = [*self.buffer.drain(), *self.loop.drain()]
            self._turns.hand_out([run for run in unstarted if run.queue != name])
            for run in unstarted:
                if run.queue == name:
                    run.started = time.monotonic()
                    self._turns.done(run, RELEASED)
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
                self.buffer.put([partial(emit_progress, progressed)], 1)

    def _report(self, queue: str, items: list[moves.Report]) -> list[bytes]:
        try:
            refused: list[bytes] = self._link.send(moves.report(queue, items))[0]
        except StoreError as error:
            logger.error("queue %s: %d progresses and log lines are lost: %s", queue, len(items), error)  # noqa: TRY400
            return [item.key for item in items]
        return refused

    # ── what people hear ──

    def _say_away(self, error: StoreUnavailable) -> None:
        if not self._is_away:
            logger.warning("%s; waiting, and trying again", error)
            self._is_away = True

    # ── measurements ──

    def _flush_measurements(self, now: float) -> None:
        """Queues of which something runs here are looked at even when nothing has ended."""
        held = [name for name, queue in self._queues.items() if queue.held()]
        self._turns.measuring.flush(self._link, held, now)

    # ── sleep ──

    def _sleep(self) -> None:
        self._alarm.is_asleep = True
        try:
            self._alarm.clear()
            nap = self._nap(time.monotonic())
            if nap > 0:
                is_armed = not self._turns.is_stopping and (
                    self.threads.idle > len(self.buffer) or self.loop.room > 0
                )
                for name in self._bell.wait(nap, self._alarm.descriptor, is_armed=is_armed):
                    self._queues[name].is_woken = True
                    self._queues[name].ready_at = 0.0
        finally:
            self._alarm.is_asleep = False
        if len(self.buffer) and self.buffer.idle:
            self.buffer.wake(1)  # the first thread's job is longer than we thought

    def _nap(self, now: float) -> float:
        """Seconds until there's something to do without being woken."""
        ends = [now + LONGEST_NAP]
        if (alone_until := self._turns.alone_until(now)) > now:
            ends.append(alone_until)
        if self._lost:
            return 0.0
        blocked = [queue.blocked_until for queue in self._queues.values() if queue.blocked_until > now]
        ends += blocked
        if any(queue.acks and queue.blocked_until <= now for queue in self._queues.values()):
            if not len(self.buffer):
                return 0.0
            ends.append((self._turns.first_ack or now) + FLUSH_ACKS)
        if self.reports.since is not None:
            ends.append(self.reports.since + FLUSH_REPORTS)
        if len(self.buffer) and self.buffer.idle:
            ends.append(now + 0.001)
        if len(self.buffer) or self.loop.waiting():
            ends.append(now + GIVE_BACK / 2)
        for queue in self._queues.values():
            if not self._turns.is_stopping and queue.ready_at < ends[0] and self._turns.wants(queue, now):
                ends.append(max(queue.ready_at, queue.blocked_until))
        return min(ends) - now
