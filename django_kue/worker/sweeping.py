"""Sweeps take back jobs of workers that died unseen. The supervisor does them, since a child may hang."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from django_kue.conf import settings
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.store import Link, moves
from django_kue.worker.graves import Graves

logger = logging.getLogger("django_kue.worker")

EVERY = 0.4  # leases between two sweeps


class Sweeps:
    """The sweeps of one supervisor."""

    def __init__(
        self, link: Link, queues: Sequence[str], graves: Graves, heard: Callable[[str, object], None]
    ) -> None:
        """``heard``: called with each queue and its server's answer."""
        self._link = link
        self._queues = queues
        self._graves = graves
        self._heard = heard
        self._due_at = 0.0
        self._swept: set[str] = set()

    def sweep_if_due(self) -> None:
        """Sweep all queues every :data:`EVERY` leases.

        Raises:
            StoreUnavailable: Redis is away as a whole.
        """
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + settings.LEASE * EVERY
        answers = self._link.try_send(*[moves.rescue(queue) for queue in self._queues])
        emptied = []
        for queue, answer in zip(self._queues, answers, strict=True):
            self._heard(queue, answer)
            if isinstance(answer, StoreError):
                logger.error("%s: %s", queue, answer)
            elif not isinstance(answer, StoreUnavailable):
                if answer.is_first and queue in self._swept:
                    emptied.append(queue)
                self._swept.add(queue)
                self._take_in(queue, answer)
        if emptied:
            logger.error(
                "Redis has lost what it held of queue %s: it was emptied, started without its data, or "
                "evicts keys. Jobs may be gone; `manage.py kue doctor` checks how safe they are",
                ", ".join(emptied),
            )

    def _take_in(self, queue: str, rescue: moves.Rescue) -> None:
        if not rescue.taken:
            return
        self._graves.say_rescued(queue, rescue)
        self._graves.note(queue, rescue.taken, {}, failed=rescue.failed)
        if len(rescue.taken) >= moves.RESCUED:  # there may be more
            self._due_at = 0.0
