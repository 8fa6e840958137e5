"""What a child knows about one of the queues that it serves."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import NamedTuple

from django_kue.conf import QueueSettings, settings
from django_kue.execution import PARK_MOST, Run
from django_kue.store import moves

AHEAD = 0.003  # seconds of work that a process fetches ahead, unless a turn takes longer …
AHEAD_MOST = 0.05  # … in which case it's as long as the turn, up to this
MOST = 128  # jobs per claim: more gains little, and holds up Redis
ALL = 0.95  # a share of jobs that counts as all of them
SHORT = 0.0001  # seconds below which the average run is short enough for the leading thread to do it
PROMPT = 0.001  # seconds from which on repeating a run costs more than reporting its end on its own
PAST = 10  # in the average duration, all earlier runs together weigh as much as this many
SMOOTH = 0.1  # weight of the newest value in other averages
REST = 0.1  # seconds without a claim after which a burst is shared with others
QUICKER = 4  # factor by which claims grow faster in a burst while its short runs end
PATIENCE = 5  # turns in vain, one per second
ASIDE = 0.02  # seconds for others to take a job that may not be known here


def is_short(duration: float | None) -> bool:
    """Whether the leading thread should do what takes this many seconds on average."""
    return duration is not None and duration < SHORT


def averaged(before: float | None, newest: float, runs: int) -> float:
    """An average, updated with that of the newest runs. Hundreds of them change it at once, a few only
    gradually; so one slow start isn't remembered for thousands of short runs."""
    return newest if before is None else (before * PAST + newest * runs) / (PAST + runs)


class Places(NamedTuple):
    """The places where jobs of one kind run in a process: its threads, or its coroutines."""

    size: int
    free: int
    waiting: int  # jobs in hand for them
    is_flowing: bool  # a job was taken moments ago

    @property
    def room(self) -> int:
        """How many more jobs could start now."""
        return max(0, self.free - self.waiting)


class Served:
    """A queue, its unreported outcomes, and how its jobs behave."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acks: deque[Run] = deque()
        self.tellable = 0  # how many of them had come before reports were last gathered
        self.leases: dict[bytes, int] = {}  # lease → its outstanding runs
        self.sequence = 0
        self.ready_at = 0.0  # when to look for jobs, without a bell
        self.offer_at = float("inf")  # when to promote what's due, giving others the first chance
        self._aside_until = 0.0  # until then, what's due may be a job that isn't known here
        self.blocked_until = 0.0  # its calls fail: the end of the pause before the next
        self.failures = 0  # turns in a row that failed
        self.is_woken = True  # the bell rang for us, so we wake the next
        self.is_dirty = False  # a reply was lost: we may hold leases that we don't know of
        self.resync_at = float("inf")  # when there may be more of them
        self.duration: float | None = None  # of a run, averaged
        self.is_short = False  # … and whether the leading thread may run its jobs
        self.async_share: float | None = None  # of its jobs, averaged
        self._in_a_row = 0
        self._claimed_at = 0.0
        self.turn_time = 0.0  # seconds from request to answer, the longest of late

    @property
    def limits(self) -> QueueSettings:
        return settings.queue_or_default(self.name)

    @property
    def is_prompt(self) -> bool:
        """Whether ends of its runs are reported without waiting for others."""
        return self.duration is not None and self.duration >= PROMPT

    @property
    def is_limited(self) -> bool:
        return bool(self.limits.concurrency or self.limits.rate)

    @property
    def is_free(self) -> bool:
        """Whether only the room for its jobs limits how many are claimed."""
        return self.limits.prefetch and not self.is_limited

    @property
    def is_given_up(self) -> bool:
        """Whether it failed so often that a stopping worker doesn't wait for it: its leases will lapse."""
        return self.failures > PATIENCE

    def held(self) -> int:
        return sum(self.leases.values())

    def is_due(self, now: float) -> bool:
        """Whether there's something to send."""
        is_time = now >= min(self.ready_at, self.offer_at, self.resync_at)
        return bool(is_time or self.tellable or self.is_woken or self.is_dirty)

    def is_at_rest(self, until: float) -> bool:
        """Whether none of its jobs is in hand here, and nothing falls due by then unless a bell rings."""
        return not (self.leases or self.acks or self.is_due(until))

    def wanted(self, threads: Places, coroutines: Places) -> int:
        """How many jobs to claim now: one after a rest, then as many as all turns since then have brought. So
        a burst goes to all idle processes, even if one of them has places for the whole of it. While short
        runs end, it's :data:`QUICKER` times as many.

        Each kind of place is fed :data:`AHEAD` seconds of work, judged by the average run. From a queue with
        limits only what can start at once is claimed; from one without prefetch, what can start once all ends
        are reported.
        """
        in_a_row = self.in_a_row
        if self.is_short and self.tellable:
            in_a_row *= QUICKER
        return min(max(1, in_a_row), self._fitting(threads, coroutines))

    @property
    def in_a_row(self) -> int:
        """Jobs claimed since the last rest."""
        return self._in_a_row if time.monotonic() - self._claimed_at <= REST else 0

    def _count_claimed(self, count: int) -> None:
        self._in_a_row, self._claimed_at = self.in_a_row + count, time.monotonic()

    def _fitting(self, threads: Places, coroutines: Places) -> int:
        if not self.limits.prefetch:
            # From a queue with functions of both kinds, as many jobs run at once as there are threads.
            places = coroutines if (self.async_share or 0) > ALL else threads
            untold = self.held() - self.tellable
            return max(0, min(MOST, places.room, places.size - untold))
        for_threads, for_loop = self._to_feed(threads, may_compute=True), self._to_feed(coroutines)
        if self.async_share is not None and self.async_share > ALL:
            return for_loop
        if self.async_share is not None and self.async_share < 1 - ALL:
            return for_threads
        return max(min(for_threads, for_loop), min(8, max(for_threads, for_loop)))

    def _to_feed(self, places: Places, *, may_compute: bool = False) -> int:
        """How many jobs to claim for one kind of place.

        If no place is free and no job was taken lately, long runs hold all places: then nothing is fetched,
        since it would only wait here. Long runs that may compute are at first fetched one by one, even if
        there's room: if another process is idle, its core has more time for them.
        """
        room, ahead = places.room, 0
        if self.duration is not None:
            ahead = min(2 * MOST, int(self._ahead * places.size / max(self.duration, 1e-6)))
        if may_compute:
            room = min(room, max(1, ahead, self.in_a_row // 4))
        feeds_ahead = not self.is_limited and (places.free or places.is_flowing)
        if feeds_ahead and places.waiting <= ahead // 2:
            room = max(room, ahead - places.waiting)
        return min(MOST, room)

    @property
    def _ahead(self) -> float:
        """Seconds of work to have in hand, so that it lasts until the next turn has brought more.

        A turn takes long if Redis is far away, or if runs compute: then the fetching thread has to wait for
        the GIL each time it has waited for Redis.
        """
        return min(max(AHEAD, self.turn_time), AHEAD_MOST)

    def took(self, seconds: float) -> None:
        """Note how long a turn took."""
        self.turn_time = max(seconds, self.turn_time * (1 - SMOOTH))

    def stand_aside(self) -> None:
        """Give other workers the first chance at a job that isn't known here when it's due again.

        Otherwise this worker, which put it aside and so has the timer for it, would be first each time, and
        idle workers that know the job would never learn of it.
        """
        self._aside_until = time.monotonic() + 2 * PARK_MOST

    def offered(self, now: float) -> None:
        """What's due was promoted, and the bell rung for others; look later whether they left it."""
        self.offer_at = float("inf")
        self.ready_at = min(self.ready_at, now + ASIDE)

    def take_acks(self) -> list[Run]:
        """Take the outcomes that may be reported, one by one, since runs end in other threads meanwhile."""
        count, self.tellable = self.tellable, 0
        return [self.acks.popleft() for _ in range(count)]

    def put_back(self, acks: list[Run]) -> None:
        """Put back outcomes that may or may not have got through."""
        for run in acks:
            run.is_resent = True
        self.acks.extendleft(reversed(acks))

    def claimed(self, lease: bytes, runs: list[Run]) -> None:
        self.leases[lease] = len(runs)
        share = sum(run.definition is not None and run.definition.is_async for run in runs) / len(runs)
        self.async_share = (
            share if self.async_share is None else self.async_share + (share - self.async_share) * SMOOTH
        )

    def settled(self, runs: list[Run]) -> None:
        """Take runs whose outcomes were reported out of their leases, and learn how long they took."""
        for lease, ended in Counter([run.lease for run in runs]).items():
            left = self.leases.get(lease, 0) - ended
            if left > 0:
                self.leases[lease] = left
            else:
                self.leases.pop(lease, None)
        # A run that goes back, or ends before it begins, says nothing about how long its function takes.
        spent = [
            run.finished - run.started
            for run in runs
            if run.started > run.fetched and run.outcome is not None and run.outcome.kind in "crf"
        ]
        if spent:
            self.duration = averaged(self.duration, sum(spent) / len(spent), len(spent))
            self.is_short = is_short(self.duration) and self.limits.prefetch

    def looked(self, turn: moves.Turn, asked: int) -> None:
        """Plan the next look by a turn's reply."""
        now = time.monotonic()
        if turn.keys:
            self._count_claimed(len(turn.keys))
        if turn.keys and turn.wait == 0 and len(turn.keys) >= asked:
            self.ready_at = now
        elif turn.wait > 0:
            self._look_at(now + turn.wait / 1000, now)
        else:
            self.ready_at = float("inf")  # nothing is delayed, or it's paused or full: the bell will ring

    def _look_at(self, due: float, now: float) -> None:
        if now < self._aside_until:
            self.ready_at, self.offer_at = float("inf"), due + 0.001
        else:
            self.ready_at = due
