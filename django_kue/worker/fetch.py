"""The fetch loop: one thread at a time talks to Redis for a whole child.

A tick reports what has finished, asks for what comes next in the same call, and hands it to the
executors. Between ticks the thread runs the shortest jobs, or sleeps until a queue's bell, a local timer
or an executor wakes it.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Collection
from functools import partial

from django_kue.conf import settings
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.execution import RELEASED
from django_kue.store import OwnLink, moves, new_doorbell, new_link, reads
from django_kue.words import one_line
from django_kue.worker import databases
from django_kue.worker.advance import Advance
from django_kue.worker.alarm import Alarm
from django_kue.worker.board import Board
from django_kue.worker.codes import BROKEN, GUTTED
from django_kue.worker.crew import GIVE_BACK, LONGEST_NAP, Crew
from django_kue.worker.executors import Slot
from django_kue.worker.graves import AGAIN
from django_kue.worker.leading import Leadership
from django_kue.worker.options import WorkerOptions
from django_kue.worker.reports import Progressed
from django_kue.worker.served import AHEAD, Served
from django_kue.worker.telling import emit_progress
from django_kue.worker.turns import Turns

logger = logging.getLogger("django_kue.worker")

PATIENCE = 2.0  # seconds to wait for a reply: a Redis that hangs soon has a successor
FLUSH_ACKS = 0.002  # seconds that an outcome may wait for others while jobs are still in hand
FLUSH_REPORTS = 0.1
UNWATCHED = 0.5  # leases for which the supervisor may stall; one that isn't renewed lasts longer than this
LONGEST_DEAF = 0.05  # seconds for which bells are ignored, at most
PASSES_AT_WORK = 4  # bounds that to 16 ms while jobs are being claimed


class Fetcher:
    """Fetches, settles and reports for one child; over when everything is reported."""

    def __init__(self, owner: moves.Owner, options: WorkerOptions, board: Board) -> None:
        self._options = options
        self._board = board
        self._bell = new_doorbell(options.queues)
        self._link: OwnLink = new_link(PATIENCE)
        self._alarm = Alarm()
        self.crew = Crew(options, board, self._alarm)
        self._queues = self.crew.queues
        self._turns = Turns(owner, options, board, self._link, self.crew)
        self._advance = Advance(self._turns, self._bell)
        self.leadership = Leadership(self.crew.buffer)
        self._is_stopping = False
        self.is_over = False  # everything is reported, and nothing more will be fetched
        self._failures = 0  # calls in a row that didn't reach Redis
        self._untold: set[bytes] = set()  # ended runs for which it was logged that Redis can't be told
        self._is_bell_out = False  # waiting for bells fails, whatever becomes of turns
        self._why_away: set[str] = set()  # logged reasons why Redis can't be reached
        self._burst_checked_at = 0.0
        self._passes = 0  # bells in a row that rang for jobs there's no room for here
        self._in_vain: Collection[Served] = ()  # their queues
        self._deaf_until = 0.0
        self._lost: deque[tuple[str, float]] = deque()  # queues whose leases are gone
        self._is_doubted = False  # whether the connections may lead nowhere
        self.log = self._turns.log
        self.log.on_failure = self.leadership.call_watcher

    # ── called by others, from any thread ──

    def lost(self, queue: str, before: float) -> None:
        """Note what the supervisor learned: this child was declared dead for a queue. What was claimed later
        than ``before`` is under a new lease."""
        self._lost.append((queue, before))
        self._alarm.ring()

    def doubt(self) -> None:
        """Distrust the connections: the supervisor couldn't reach Redis. Another server may be the master by
        now, which a bell that doesn't ring wouldn't show."""
        self._is_doubted = True
        self._alarm.ring()

    def stop(self) -> None:
        """Take no new jobs; :attr:`is_over` once the running ones have ended and are reported."""
        self.crew.stop_taking()
        self._is_stopping = True
        self._alarm.ring()

    def blame_if_gutted(self) -> None:
        """End this process if its descriptors are no longer its own: a job closed or replaced them.

        The culprit is one of the runs that are running, or that ended and couldn't be reported; but none of
        those noted on the board, which ended while the descriptors were still ours. From any thread.
        """
        if not self._alarm.is_gutted():
            return
        runs = [run for run in self._turns.untold() if run.outcome is not RELEASED and run.note is None]
        self._board.blame((run.queue, run.key, run.started, run.suspicion) for run in runs)
        self.give_up(GUTTED)

    def give_up(self, code: int, error: BaseException | None = None) -> None:
        """End this process: it can no longer be trusted."""
        os._exit(code)

    def close(self) -> None:
        """End the threads, in a process that goes on without this worker; for when it's over."""
        self.crew.threads.join()
        self.crew.loop.close()
        self.leadership.close()
        self._alarm.close()
        self._board.close()

    @property
    def done_count(self) -> int:
        """How many runs ended here and had their end accepted."""
        return self._turns.done_count

    # ── the loop ──

    def start(self) -> None:
        self.crew.threads.start(self._lead)

    def _lead(self, slot: Slot) -> None:
        """Fetch until everything is reported, or another thread leads."""
        self.leadership.take()
        try:
            while not self.is_over:
                if not self._round(slot):
                    return
        except BaseException as error:
            logger.critical("the fetch loop broke; this process is replaced", exc_info=True)
            self.blame_if_gutted()
            self.give_up(BROKEN, error)

    def _round(self, slot: Slot) -> bool:
        """Do a tick, then run short jobs or sleep; False when another thread leads."""
        try:
            self._heed_doubt()
            is_busy = self._tick()
            if is_busy:  # jobs of another kind may go through the same
                self._passes = min(self._passes, PASSES_AT_WORK)
            if not self._is_bell_out and self._turns.has_heard():
                self._failures = 0
                if self._why_away:
                    self._why_away.clear()
                    logger.info("Redis is back")
            if self._is_all_told():
                self._flush_measurements(time.monotonic())
                self._end()
                return True
            takes_part = self._begins_part()
            if not takes_part:
                is_busy = self._hear_answers() or is_busy
            if not takes_part and not is_busy:
                self._sleep()
                takes_part = self._begins_part()  # a bell may have brought a job
            if takes_part:
                return self._take_part(slot)
        except StoreUnavailable as error:
            self._wait_for_redis(error)
        return True

    def _begins_part(self) -> bool:
        """Whether this thread is going to run what comes next."""
        return self.crew.has_short() and self.leadership.begin()

    def _take_part(self, slot: Slot) -> bool:
        """Run short jobs in this thread; False when one took long, so that another thread leads now."""
        crew, until = self.crew, time.monotonic() + AHEAD
        while self.leadership.is_held() and time.monotonic() < until:
            item = crew.buffer.pop()
            if item is None:
                break
            if not crew.is_short(item):
                crew.buffer.put_first(item)
                break
            crew.threads.work(slot, item)
        return self.leadership.end()

    def _wait_for_redis(self, error: StoreUnavailable) -> None:
        self.blame_if_gutted()
        self._failures += 1
        self._begin_anew()
        self._say_away(error)
        if self._is_stopping:
            self._say_untold()
        if self._is_stopping and self.crew.is_idle and self._failures > 5:
            self._end()  # the leases will lapse
            return
        nap = min(5.0, 0.05 * 2 ** min(self._failures, 7)) * random.uniform(0.5, 1)
        threading.Event().wait(nap)

    def _heed_doubt(self) -> None:
        if self._is_doubted:
            self._is_doubted = False
            self._hear_answers()  # the link may be alive, with an answer on its way
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Abandon all connections: one that may be dead costs each call its timeout."""
        self._link.close()
        self._turns.lose()
        self._is_dirty_all()
        self._advance.lose()

    def _end(self) -> None:
        self.crew.buffer.close()
        self._link.close()
        self._bell.close()
        self.is_over = True
        self.leadership.call_watcher()

    def _tick(self) -> bool:
        """Read the answers to what was asked, and ask for what's due. True when something was claimed.

        Answers are awaited at once, unless there are short jobs in hand: then Redis works on the request
        while this thread takes in the last answers and runs those jobs.
        """
        self._turns.collect()
        has_claimed = False
        is_lost = bool(self._lost)  # read once: the supervisor may report a loss at any time
        if is_lost or not self._turns.may_ask():
            has_claimed = self._turns.take_in()
        now = time.monotonic()
        if is_lost:
            self._forget_lost()
        self._mind_supervisor(now)
        self.crew.give_back_stale(now)
        if now >= self._turns.measuring.flush_at:
            self._flush_measurements(now)
        self.crew.mark()
        self._flush_reports(now)
        self._advance.withdraw_if_due(now)
        self._turns.ask(now)
        has_claimed = self._turns.take_in() or has_claimed
        if not (self.crew.has_short() and self._turns.may_wait()):
            has_claimed = self._hear_answers() or has_claimed
            if self._turns.has_more() and self.crew.has_short():
                self._turns.ask(time.monotonic())
        return has_claimed

    def _hear_answers(self) -> bool:
        """Wait for the answers to what was asked. True when something was claimed."""
        self._turns.collect()
        return self._turns.take_in()

    def _is_all_told(self) -> bool:
        if self._turns.is_asked:
            return False
        if self._options.is_burst and not self._is_stopping and self._nothing_waits():
            self.stop()
        if not self._is_stopping or not self.crew.is_idle:
            return False
        heard = [queue for queue in self._queues.values() if not queue.is_given_up]
        return (
            not any(queue.acks or queue.held() for queue in heard)
            and self.crew.threads.idle == self.crew.threads.count  # no receiver is running either
            and not any(self.crew.reports.has(queue.name) for queue in heard)
        )

    def _nothing_waits(self) -> bool:
        """For a burst: whether all queues were checked, and are paused or have nothing but delayed jobs."""
        now = time.monotonic()
        if now < self._burst_checked_at + 0.1 or not self.crew.is_idle:
            return False
        queues = self._queues.values()
        if any(queue.ready_at <= now or queue.acks or queue.is_woken or queue.is_dirty for queue in queues):
            return False
        self._burst_checked_at = now
        for name in self._queues:
            counts, facts = self._link.send(reads.counts(name), reads.facts(name))
            if counts["waiting"] and facts.paused_since_ms is None:
                return False
        return True

    # ── what may be lost ──

    def _forget_lost(self) -> None:
        while self._lost:
            name, before = self._lost.popleft()
            self.crew.forget(name, before)
            self._queues[name].is_dirty = True

    def _mind_supervisor(self, now: float) -> None:
        """Take no jobs while the supervisor has stalled, so that nobody sends our heartbeats. Our jobs go to
        others then, and might come back here while they're still running."""
        is_left = self._board.unwatched(now) > UNWATCHED * settings.LEASE
        if is_left == self.crew.is_left:
            return
        self.crew.is_left = is_left
        if is_left:
            logger.warning("this worker's supervisor has stalled: no jobs are taken until it resumes")
        else:
            logger.info("the supervisor has resumed")

    def _is_dirty_all(self) -> None:
        """Mark all queues for a fresh look: anything may be lost, claims as well as bells that rang here."""
        for queue in self._queues.values():
            queue.is_dirty = queue.is_woken = True
            queue.ready_at = 0.0

    # ── reports ──

    def _flush_reports(self, now: float) -> None:
        """Send progress and log lines before outcomes: an outcome ends the lease that they need."""
        since = self.crew.reports.since
        if since is None or not (
            now - since >= FLUSH_REPORTS or any(queue.acks for queue in self._queues.values())
        ):
            return
        reports, heard = self.crew.reports.take()
        try:
            for queue in [name for name in reports if self._queues[name].blocked_until <= now]:
                if self._report(queue, reports[queue], [one for one in heard if one.run.queue == queue]):
                    del reports[queue]
        finally:
            if reports:
                self.crew.reports.give_back(reports, [one for one in heard if one.run.queue in reports])

    def _report(self, queue: str, items: list[moves.Report], heard: list[Progressed]) -> bool:
        """Send a queue's reports, and have receivers called; False when some are left for later."""
        refused: set[bytes] = set()
        while items:
            some = items[:500]
            answer = self._link.try_send(moves.report(queue, some))[0]
            if isinstance(answer, StoreUnavailable):
                self._turns.block(self._queues[queue], answer)  # its outcomes have to wait for them
                return False
            if isinstance(answer, StoreError):
                logger.error("queue %s: %d progress reports and log lines lost: %s", queue, len(some), answer)
                answer = [item.key for item in some]
            refused.update(answer)
            del items[:500]
        for progressed in heard:
            if progressed.run.key not in refused:
                self.crew.buffer.put([partial(emit_progress, progressed)], 1)
        return True

    # ── the log ──

    def _say_away(self, error: StoreUnavailable) -> None:
        if str(error) not in self._why_away:
            logger.warning("%s; waiting, and trying again", error)
            self._why_away.add(str(error))

    def _say_untold(self) -> None:
        """Log which ends can't be reported: this process has to end, and Redis is away. Ends noted on the
        board are left to the supervisor, which reports them, or logs the same."""
        for run in self._turns.untold():
            if run.outcome is not RELEASED and run.note is None and run.key not in self._untold:
                self._untold.add(run.key)
                logger.warning("%s %s ended, but Redis is away: %s", one_line(run.name), run.id, AGAIN)

    # ── measurements ──

    def _flush_measurements(self, now: float) -> None:
        """Send measurements; queues with jobs running here are sampled even when nothing has ended."""
        held = [name for name, queue in self._queues.items() if queue.held()]
        self._turns.measuring.flush(self._link, held, now)

    # ── sleep ──

    def _sleep(self) -> None:
        databases.rest()
        self._alarm.is_asleep = True
        try:
            self._alarm.clear()
            now = time.monotonic()
            nap = self._nap(now)
            if nap > 0:
                self._listen(now, nap)
        finally:
            self._alarm.is_asleep = False
        buffer = self.crew.buffer
        if len(buffer) and buffer.idle and not self.crew.has_short():
            buffer.wake(1)  # the first thread's job is taking longer than we thought

    def _listen(self, now: float, nap: float) -> None:
        """Sleep until a bell rings, this thread is needed, or ``nap`` seconds have passed."""
        if self._in_vain and any(self._turns.wants(queue, now) for queue in self._in_vain):
            self._in_vain, self._passes, self._deaf_until = (), 0, 0.0
        if now < self._deaf_until:
            nap = min(nap, self._deaf_until - now)
        is_armed = now >= self._deaf_until and self.crew.is_taking
        full: list[str] = []
        if self._passes:  # queues whose jobs there's no room for
            full = [name for name, queue in self._queues.items() if not self._turns.wants(queue, now)]
        behind = self._advance.ask(now) if is_armed and not self._options.is_burst else None
        self._is_bell_out = is_armed or self._is_bell_out
        rang = self._bell.wait(nap, self._alarm.descriptor, is_armed=is_armed, last=full, behind=behind)
        self._is_bell_out = False
        rung = self._advance.take([self._queues[name] for name in rang])
        for queue in rung:
            queue.is_woken = True
            queue.ready_at = 0.0
        now = time.monotonic()
        if rung and not any(self._turns.wants(queue, now) for queue in rung):
            # There's room, but not of the kind that these jobs need. A worker that passes a bell on would
            # hear it again at once for as long as all others are just as busy.
            self._deaf_until = now + min(LONGEST_DEAF, 0.001 * 2 ** min(self._passes, 10))
            self._passes += 1
            self._in_vain = rung

    def _nap(self, now: float) -> float:
        """Seconds until there's something to do even if nothing wakes us."""
        crew, ends = self.crew, [now + LONGEST_NAP]
        if (alone_until := crew.alone_until(now)) > now:
            ends.append(alone_until)
        if self._lost or self._is_doubted:
            return 0.0
        if crew.is_taking:
            ends += [queue.offer_at for queue in self._queues.values() if queue.blocked_until <= now]
        blocked = [queue.blocked_until for queue in self._queues.values() if queue.blocked_until > now]
        ends += blocked
        untold = [queue for queue in self._queues.values() if queue.acks and queue.blocked_until <= now]
        if untold:
            if not len(crew.buffer) or any(queue.is_prompt for queue in untold):
                return 0.0
            ends.append((crew.first_ack or now) + FLUSH_ACKS)
        if crew.reports.since is not None:
            ends.append(crew.reports.since + FLUSH_REPORTS)
        if len(crew.buffer) and crew.buffer.idle:
            ends.append(now + 0.001)
        if len(crew.buffer):
            ends.append(now + FLUSH_ACKS)
        if crew.loop.waiting():
            ends.append(now + GIVE_BACK / 2)
        for queue in self._queues.values():
            if queue.ready_at < ends[0] and self._turns.wants(queue, now):
                ends.append(max(queue.ready_at, queue.blocked_until))
        return min(ends) - now
