"""What a child knows of one queue that it serves."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import NamedTuple

from django_kue.conf import QueueSettings, settings
from django_kue.execution import PARK_MOST, Run
from django_kue.store import moves

AHEAD = 0.003  # seconds of work that a process fetches ahead, unless a turn takes longer …
AHEAD_MOST = 0.05  # … and then that long, up to this
MOST = 128  # jobs a claim: more gains little, and holds up Redis
ALL = 0.95  # a share of jobs that's taken for all of them
SHORT = 0.0001  # seconds that a run takes on the average, for the leading thread to do it
PROMPT = 0.001  # seconds a run, from which on it costs more to repeat it than to tell its end by itself
PAST = 10  # runs: in the average of how long they take, all that was before weighs as much as so many
SMOOTH = 0.1  # weight of what's newest in other averages
REST = 0.1  # seconds without a claim, after which a burst is shared with others
QUICKER = 4  # times as fast grows what's claimed in a burst of which short runs have ended
PATIENCE = 5  # turns in vain, one a second
ASIDE = 0.02  # seconds that others have for a job which may not be known here


def is_short(duration: float | None) -> bool:
    """Whether what takes so many seconds on the average is for the thread that leads."""
    return duration is not None and duration < SHORT


def averaged(before: float | None, newest: float, runs: int) -> float:
    """An average with that of the newest runs taken in. Hundreds of them make it theirs at once, few of them
    by and by: so one slow start isn't remembered for thousands of short runs."""
    return newest if before is None else (before * PAST + newest * runs) / (PAST + runs)


class Places(NamedTuple):
    """Where jobs of one kind run at once in a process: its threads, or its coroutines."""

    size: int
    free: int
    waiting: int  # jobs at hand for them
    is_flowing: bool  # one was taken moments ago

    @property
    def room(self) -> int:
        """How many more jobs could start now."""
        return max(0, self.free - self.waiting)


class Served:
    """A queue, its outcomes that wait to be told, and how its jobs behave."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acks: deque[Run] = deque()
        self.tellable = 0  # how many of them had come before reports were last looked for
        self.leases: dict[bytes, int] = {}  # outstanding runs a lease
        self.sequence = 0
        self.ready_at = 0.0  # when to look for jobs, without a bell
        self.offer_at = float("inf")  # when to promote what's due, for others to have the first look
        self._aside_until = 0.0  # until then, what's due may be a job that isn't known here
        self.blocked_until = 0.0  # its calls fail: a pause before the next
        self.failures = 0  # turns in a row that failed
        self.is_woken = True  # the bell rang for us: we wake the next
        self.is_dirty = False  # a reply was lost: leases may be ours that we don't know of
        self.resync_at = float("inf")  # … and from then on more of them
        self.duration: float | None = None  # of a run, averaged
        self.is_short = False  # … and whether the leading thread may run its jobs
        self.async_share: float | None = None  # of its jobs, averaged
        self._in_a_row = 0
        self._claimed_at = 0.0
        self.turn_time = 0.0  # seconds from asking to having the answer, the longest of late

    @property
    def limits(self) -> QueueSettings:
        return settings.queue_or_default(self.name)

    @property
    def is_prompt(self) -> bool:
        """Whether ends of its runs are told without waiting for company."""
        return self.duration is not None and self.duration >= PROMPT

    @property
    def is_limited(self) -> bool:
        return bool(self.limits.concurrency or self.limits.rate)

    @property
    def is_free(self) -> bool:
        """Whether nothing but the room for its jobs says how many are claimed."""
        return self.limits.prefetch and not self.is_limited

    @property
    def is_given_up(self) -> bool:
        """Whether it failed so often that a worker which stops doesn't wait for it: its leases will lapse."""
        return self.failures > PATIENCE

    def held(self) -> int:
        return sum(self.leases.values())

    def is_due(self, now: float) -> bool:
        """Whether there's something to send."""
        is_time = now >= min(self.ready_at, self.offer_at, self.resync_at)
        return bool(is_time or self.tellable or self.is_woken or self.is_dirty)

    def is_at_rest(self, until: float) -> bool:
        """Whether nothing of it goes on here, and nothing will be due till then unless a bell rings."""
        return not (self.leases or self.acks or self.is_due(until))

    def wanted(self, threads: Places, coroutines: Places) -> int:
        """How many jobs to claim now: after a rest one, then as many as all turns since then brought. So a
        burst goes to all processes that are idle, though one of them may have places for the whole of it.
        While short runs end, it's :data:`QUICKER` times as many.

        Each kind of place is fed :data:`AHEAD` seconds of work, judged by the average run; a queue with
        limits gets only what can start at once, one without prefetch what can start after all ends are told.
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
            # Of a queue with functions of both kinds as many run at once as there are threads.
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
        """No place free and none taken lately means that long runs hold them all: then nothing is fetched,
        since it would only wait here. Of long runs that may compute the first ones come one by one, though
        there's room: where another process is idle, its core has more time for them."""
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
        """Seconds of work to have at hand, so that it lasts until the next turn has brought more.

        A turn takes long where Redis is far away, and where runs compute: the thread that fetches waits for
        its turn with the interpreter then, once for each time that it waits for Redis.
        """
        return min(max(AHEAD, self.turn_time), AHEAD_MOST)

    def took(self, seconds: float) -> None:
        """A turn took so long."""
        self.turn_time = max(seconds, self.turn_time * (1 - SMOOTH))

    def stand_aside(self) -> None:
        """A job isn't known here. When it's due again, it's to go to who knows it.

        Else whoever put it aside has the timer for it, would be first each time, and idle workers that know
        the job would never hear of it.
        """
        self._aside_until = time.monotonic() + 2 * PARK_MOST

    def offered(self, now: float) -> None:
        """What's due was promoted, and the bell rung for others; this child looks if they leave it."""
        self.offer_at = float("inf")
        self.ready_at = min(self.ready_at, now + ASIDE)

    def take_acks(self) -> list[Run]:
        """The outcomes that may be told. Runs end in other threads meanwhile: each is taken by itself."""
        count, self.tellable = self.tellable, 0
        return [self.acks.popleft() for _ in range(count)]

    def put_back(self, acks: list[Run]) -> None:
        """Outcomes that may or may not have got through."""
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
        """Outcomes were told: their leases are over."""
        for lease, ended in Counter([run.lease for run in runs]).items():
            left = self.leases.get(lease, 0) - ended
            if left > 0:
                self.leases[lease] = left
            else:
                self.leases.pop(lease, None)
        # What goes back, or ends before it begins, tells nothing of how long its function takes.
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
            self.ready_at = float("inf")  # nothing delayed, paused or full: the bell will ring

    def _look_at(self, due: float, now: float) -> None:
        if now < self._aside_until:
            self.ready_at, self.offer_at = float("inf"), due + 0.001
        else:
            self.ready_at = due
