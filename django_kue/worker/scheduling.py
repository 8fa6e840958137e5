"""The scheduler: a thread of a worker's first process that fires due schedules and upholds declared ones.

Every worker has one, and any of them may fire a tick: Redis decides which was first. It asks once a second
for each of its queues that has schedules, and sleeps on a local timer until the next tick; if there are none,
it asks one short question every two seconds.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

from django_kue import declared
from django_kue.errors import StoreUnavailable
from django_kue.schedules import firing, reconciling
from django_kue.schedules.firing import Tell
from django_kue.schedules.record import decode
from django_kue.schedules.shelf import Place
from django_kue.store import ask, ticking
from django_kue.store.ticking import Stored
from django_kue.worker.errands import Errand

T = TypeVar("T")
logger = logging.getLogger("django_kue.worker")

PAUSE, IDLE = 1.0, 2.0  # seconds between looks, with schedules and without
SPREAD = 0.01  # seconds: so one of several workers is usually first, and the others needn't try
MOST = 500  # due schedules per look
RETRY, MOST_RETRY = 2.0, 60.0  # seconds until what failed is tried again: at first, at most …
MOST_AWAY = 8.0  # … and at most when it's because a node of a cluster is away


class Scheduler(Errand):
    """Looks after the schedules of some queues. A tick is fired completely, or not at all.

    ``tell`` has signal receivers called on another thread: a slow one mustn't delay the next tick.
    """

    name = "scheduler"

    def __init__(self, queues: Collection[str], tell: Tell) -> None:
        super().__init__()
        self._queues = tuple(queues)
        self._tell = tell
        self._plans = declared.plans()
        self._declaring = {plan.queue for plan in self._plans.values()}.intersection(queues)
        self._digests = {name: plan.digest for name, plan in self._plans.items()}
        self._had: list[str] = []  # queues with schedules
        self._reconcile_at = 0.0  # all times by time.monotonic()
        self._retries: dict[str, tuple[float, float]] = {}  # what failed → not before, pause until then

    def tick(self) -> float:
        """Do what's due; returns the seconds until the next look."""
        if time.monotonic() >= self._reconcile_at:
            self._try("the declared schedules", self._reconcile, None)
        queues = self._scheduled()
        if not self._declaring.issubset(queues):  # Redis has lost what was declared
            self._try("the declared schedules", self._reconcile, None)
            queues = self._scheduled()
        pauses = [
            self._try(f"schedules of queue {queue}", partial(self._look, queue), PAUSE) for queue in queues
        ]
        return min(pauses) + random.uniform(0, SPREAD) if pauses else IDLE

    def _scheduled(self) -> list[str]:
        """Its queues that have schedules; while the node that knows is away, those that had some before."""
        try:
            self._had = [queue for queue in ask(ticking.scheduled()) if queue in self._queues]
        except StoreUnavailable as error:
            if not error.is_partial:
                raise
        return self._had

    def _reconcile(self) -> None:
        reconciling.reconcile(self._queues, self._plans)
        self._reconcile_at = time.monotonic() + reconciling.STAMP * random.uniform(0.9, 1.1)

    def _look(self, queue: str) -> float:
        """Fire what's due in a queue; returns the seconds until its next tick, at most :data:`PAUSE`."""
        asked = time.monotonic()
        due = ask(ticking.due(queue, MOST))
        random.shuffle(due.schedules)  # so that each of several workers begins with another one
        fired = [
            self._try(f"schedule {one.name!r}", partial(self._fire, queue, due.now_ms, one), False)
            for one in due.schedules
        ]
        if any(fired):
            return 0.0  # ask at once for what comes next
        if due.coming_ms is None:
            return PAUSE
        coming = asked + (due.coming_ms - due.now_ms) / 1000  # a little early: then it's asked again
        return min(PAUSE, max(0.001, coming - time.monotonic()))

    def _fire(self, queue: str, now_ms: int, stored: Stored) -> bool:
        """Fire a schedule's ticks if this worker may fire them; returns whether it may."""
        place = Place(queue, now_ms, stored, decode(stored.record))
        if not self._is_ours(place):
            return False
        firing.fire_due(place, self._tell, self._stopping.is_set)
        return True

    def _try(self, what: str, act: Callable[[], T], otherwise: T) -> T:
        """Do something that may fail because of one schedule or queue, which is then left alone for a while
        so that the others go on."""
        not_before, pause = self._retries.get(what, (0.0, RETRY / 2))
        if time.monotonic() < not_before:
            return otherwise
        try:
            done = act()
        except Exception as error:  # the project's middleware may raise anything
            if isinstance(error, StoreUnavailable) and not error.is_partial:
                raise
            pause = min(pause * 2, MOST_AWAY if isinstance(error, StoreUnavailable) else MOST_RETRY)
            self._retries[what] = time.monotonic() + pause, pause
            logger.error("%s: trying again in %g s: %s", what, pause, error)  # noqa: TRY400
            return otherwise
        self._retries.pop(what, None)
        return done

    def _is_ours(self, place: Place) -> bool:
        """Whether this worker may fire it: a declared schedule is fired by a release that declares it so."""
        return place.record.digest in ("", self._digests.get(place.name))
