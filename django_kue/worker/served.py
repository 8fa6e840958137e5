"""What a child knows of one queue that it serves."""

from __future__ import annotations

import time
from collections import deque

from django_kue.conf import QueueSettings, settings
from django_kue.execution import Run
from django_kue.store import moves

AHEAD = 0.003  # seconds of work that a process fetches ahead
MOST = 64  # jobs a claim: more gains nothing, and holds up Redis
SMOOTH = 0.1  # weight of the newest batch in the averages


class Served:
    """A queue, its outcomes that wait to be told, and how its jobs behave."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acks: deque[Run] = deque()
        self.tellable = 0  # how many of them had come before reports were last looked for
        self.leases: dict[bytes, int] = {}  # outstanding runs a lease
        self.sequence = 0
        self.ready_at = 0.0  # when to look for jobs, without a bell
        self.blocked_until = 0.0  # its calls fail: a pause before the next
        self.is_woken = True  # the bell rang for us: we wake the next
        self.is_dirty = False  # a reply was lost: leases may be ours that we don't know of
        self.duration: float | None = None  # of a run, averaged
        self.async_share = 0.0  # of its jobs, averaged

    @property
    def limits(self) -> QueueSettings:
        return settings.queue_or_default(self.name)

    @property
    def is_limited(self) -> bool:
        return bool(self.limits.concurrency or self.limits.rate)

    def held(self) -> int:
        return sum(self.leases.values())

    def wanted(self, *, threads: int, idle: int, buffered: int, is_flowing: bool, loop_room: int) -> int:
        """How many jobs to claim now.

        Threads are fed :data:`AHEAD` seconds of work, judged by the average run; a queue with limits gets
        only what can start at once. No thread idle and nothing taken lately means that long runs
        hold them all: then nothing is fetched, since it would only wait here.
        """
        for_threads = max(0, idle - buffered)
        if self.duration is not None and not self.is_limited and (idle or is_flowing):
            ahead = min(MOST, int(AHEAD * threads / max(self.duration, 1e-6)))
            if buffered <= ahead // 2:
                for_threads = max(for_threads, ahead - buffered)
        for_loop = min(MOST, loop_room)
        if self.async_share > 0.95:
            return for_loop
        if self.async_share < 0.05:
            return min(MOST, for_threads)
        return max(min(for_threads, for_loop), min(8, max(for_threads, for_loop)))

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
        self.async_share += (share - self.async_share) * (1 if self.duration is None else SMOOTH)

    def settled(self, runs: list[Run]) -> None:
        """Outcomes were told: their leases are over."""
        spent, count = 0.0, 0
        for run in runs:
            left = self.leases.get(run.lease, 0) - 1
            if left > 0:
                self.leases[run.lease] = left
            else:
                self.leases.pop(run.lease, None)
            if run.finished > run.started:
                spent += run.finished - run.started
                count += 1
        if count:
            average = spent / count
            self.duration = (
                average if self.duration is None else self.duration + (average - self.duration) * SMOOTH
            )

    def looked(self, turn: moves.Turn, asked: int) -> None:
        """Plan the next look by a turn's reply."""
        now = time.monotonic()
        if turn.keys:
            self.ready_at = now if len(turn.keys) >= asked else float("inf")
        elif turn.wait > 0:
            self.ready_at = now + turn.wait / 1000 if turn.wait < 60_000 else float("inf")
        else:
            self.ready_at = float("inf")  # paused or full: the bell will ring
