"""The relay: a thread of a worker's first process, which sends what was left in an outbox.

Most jobs are sent by the process that commits them, so there's little to do: one query every two seconds for
each outbox that the settings or a function name. An outbox that only calls use isn't named anywhere, so all
other databases are checked once a minute, without holding a connection for that.
"""

from __future__ import annotations

import logging
import random
import time

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections

from django_kue import outbox
from django_kue.errors import EnqueueError
from django_kue.worker.errands import Errand

logger = logging.getLogger("django_kue.worker")

PAUSE = 2.0  # seconds between checks of an outbox that's in use
SELDOM = 60.0  # seconds between checks where nothing says that there's an outbox


class Relay(Errand):
    """Empties the outboxes. A batch that's cut off is sent again, which does no harm."""

    name = "relay"

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}  # when each database is checked again, by time.monotonic()
        self._troubled: set[str] = set()  # databases whose trouble has been logged

    def tick(self) -> float:
        """Relay what's due; returns the seconds until the next database is checked."""
        declared = outbox.declared()
        for alias in sorted(outbox.possible()):
            if time.monotonic() >= self._next.get(alias, 0.0) and not self._stopping.is_set():
                pause = self._look(alias, is_used=alias in declared)
                self._next[alias] = time.monotonic() + pause * random.uniform(0.75, 1.25)
        return max(0.0, min(self._next.values(), default=time.monotonic() + SELDOM) - time.monotonic())

    def _look(self, alias: str, *, is_used: bool) -> float:
        """Empty an outbox, if there is one; returns the seconds until it's checked again."""
        try:
            # Checked first, since nothing says that we may lock and delete anything in this database.
            is_used = is_used or outbox.is_due(alias)
            if is_used:
                self._empty(alias)
            self._troubled.discard(alias)
        except (EnqueueError, Error, ImproperlyConfigured) as error:
            if alias not in self._troubled:
                self._troubled.add(alias)
                logger.log(
                    logging.ERROR if is_used else logging.WARNING,
                    "the outbox of %s can't be relayed; trying again: %s", alias, error,
                )  # fmt: skip
        if is_used:
            return PAUSE  # where one job was left, others may follow
        _let_go(alias)
        return SELDOM

    def _empty(self, alias: str) -> None:
        while not self._stopping.is_set():
            relayed = outbox.relay(alias)
            self._say(alias, relayed)
            if not relayed.is_full:
                break

    def _say(self, alias: str, relayed: outbox.Relayed) -> None:
        if relayed.sent:
            logger.info("%d jobs from the outbox of %s were relayed", relayed.sent, alias)
        for reason in sorted(set(relayed.errors.values())):
            logger.warning("a job in the outbox of %s can't be sent: %s", alias, reason)


def _let_go(alias: str) -> None:
    """Close the connection, whatever ``CONN_MAX_AGE`` says: nobody needs it for a minute."""
    for connection in connections.all(initialized_only=True):
        if connection.alias == alias:
            connection.close()
