"""Who leads: the one thread of a child that fetches. It may run short jobs itself, which spares the hand-over
to another thread; the price is that one of them may turn out long. Then another thread leads.

There is a thread more than may run jobs at once. While the leader runs one, a sleeping thread is barred
from taking any (:meth:`Buffer.bar`), so that ``--threads`` holds; and that one is there to take over.
"""

from __future__ import annotations

import threading
import time

from django_kue.worker.alarm import Alarm
from django_kue.worker.buffer import Buffer

LATE = 0.01  # seconds of running jobs, after which another thread leads
ALERT = 1.0  # seconds that the watcher looks closely, after the leader began to run jobs
CLOSELY = 0.01  # seconds between its looks then


class Leadership:
    """Held by one thread; the child's main thread watches it."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._lock = threading.Lock()
        self._leader = 0
        self._running_since = 0.0
        self._called_at = 0.0
        self._bell = Alarm()  # calls the watcher

    def take(self) -> None:
        """This thread leads now."""
        with self._lock:
            self._leader = threading.get_ident()

    def begin(self) -> bool:
        """This thread is going to run jobs; False when all that may do so at once are at it."""
        if not self._buffer.bar():
            return False
        self._running_since = now = time.monotonic()
        if now - self._called_at > ALERT * 0.9:
            self._called_at = now
            self.call_watcher()
        return True

    def end(self) -> bool:
        """It has run jobs, and goes on leading; False when another thread leads."""
        with self._lock:
            if not self.is_held():
                return False
            self._running_since = 0.0
        self._buffer.unbar()
        return True

    def is_held(self) -> bool:
        """Whether this thread leads."""
        return self._leader == threading.get_ident()

    def call_watcher(self) -> None:
        """Have the main thread look."""
        self._bell.ring()

    def close(self) -> None:
        """Nobody leads or watches any more."""
        self._bell.close()

    # ── by the watcher ──

    @property
    def bell(self) -> int:
        """A descriptor that's readable when there's something to watch."""
        return self._bell.descriptor

    def watch(self) -> float:
        """Have another thread lead, when the one that does has run jobs for long.

        Returns the seconds till the next look is due.
        """
        self._bell.clear()
        now = time.monotonic()
        with self._lock:
            if self._running_since and now - self._running_since > LATE:
                self._running_since = 0.0
                self._leader = 0
                self._buffer.call_leader()
            is_alert = self._running_since or now - self._called_at < ALERT
        return CLOSELY if is_alert else float("inf")
