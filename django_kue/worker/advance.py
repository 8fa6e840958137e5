"""A turn that's requested in advance: Redis takes it as soon as an idle child's blocking pop is over.

The bell's reply then brings a job with it, which saves a round trip and a wake-up; other jobs that arrived
together with it may go to other workers. Such a turn is pending only while nothing is running here and
nothing is due, so that the job can start at once. It's withdrawn before anything else is sent, so that no
other turn comes in between.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from django_kue.conf import settings
from django_kue.errors import KueError, StoreUnavailable
from django_kue.store import moves
from django_kue.store.blocking import BLOCK, LATE, Behind, Doorbell
from django_kue.worker.served import Served
from django_kue.worker.turns import Planned, Turns

# The reader of the reply doesn't know when Redis made the claim, only that it wasn't before the request. So
# the pop lasts half a lease at most, and a job that isn't started after three quarters of one goes back.
LONGEST = 1 / 2
FRESH = 3 / 4

BRIEFLY = 0.25  # seconds that a Redis which didn't answer another call gets to release a pop


class Advance:
    """The turn that one child has requested in advance, if any. Used by the leading thread only."""

    def __init__(self, turns: Turns, bell: Doorbell) -> None:
        self._turns = turns
        self._bell = bell
        self._likely = next(iter(turns.queues.values()))  # the queue that rang last
        self._planned: Planned | None = None
        self._asked_at = 0.0
        self._is_known = False  # whether Redis knows the script by its digest

    def ask(self, now: float) -> Behind | None:
        """The turn to send behind the pop, be that a new pop or the pending one; ``None`` when it's better
        not to have one, or when there already is one."""
        if self._planned is not None or not self._bell.takes_calls:
            return None
        longest = min(BLOCK, settings.LEASE * LONGEST)
        left = self._bell.left(now)
        if left > longest:
            return None
        seconds = left or longest
        if not all(queue.is_at_rest(now + seconds) for queue in self._turns.queues.values()):
            return None
        if self._likely.is_limited or not self._turns.wants(self._likely, now):
            return None
        self._planned, self._asked_at = Planned(self._likely, [], 1), now
        return Behind(self._turns.standby(self._likely), seconds, is_known=self._is_known)

    def take(self, rung: Collection[Served]) -> Collection[Served]:
        """Take in what the turn has brought; of the queues that rang, returns those that still need one."""
        for queue in rung:
            self._likely = queue
        if self._planned is None or self._bell.is_pending:
            return rung
        planned, self._planned = self._planned, None
        answer = self._bell.answer()
        self._is_known = not isinstance(answer, KueError)
        if not isinstance(answer, moves.Turn):
            return rung  # an ordinary turn claims what isn't plain, and reports what's wrong
        planned.queue.looked(answer, planned.wants)
        self._turns.start(planned, answer, self._asked_at, time.monotonic(), FRESH)
        return [queue for queue in rung if queue is not planned.queue]

    def withdraw_if_due(self, now: float) -> None:
        """Withdraw the turn before anything else is sent. What it has claimed meanwhile goes back unread."""
        if self._planned is None or not self._turns.is_due(now):
            return
        if not self._bell.withdraw():
            self._has_come(self._planned)
        self._planned = None

    def lose(self) -> None:
        """Redis can't be reached, or that's uncertain: the pop's connection may be as dead as the other one,
        so it's abandoned. The bells of a cluster's nodes take care of themselves.

        A server that hasn't noticed the end of the connection may still take the turn when the pop is over:
        what has been claimed is then checked once more.
        """
        planned, self._planned = self._planned, None
        try:
            is_ended = self._bell.takes_calls and self._bell.is_pending
            if is_ended and not self._bell.withdraw(BRIEFLY):
                self._has_come(planned)
        except StoreUnavailable:
            is_ended = False
        if planned is not None and not is_ended:
            planned.queue.resync_at = time.monotonic() + BLOCK + LATE

    def _has_come(self, planned: Planned | None) -> None:
        """Something arrived and wasn't read: a claim, or some queue's marker that has to be passed on."""
        if planned is not None:
            planned.queue.is_dirty = True
        for queue in self._turns.queues.values():
            queue.is_woken = True
