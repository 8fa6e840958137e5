"""Leadership: one thread of a child leads, which means that it fetches. It may run short jobs itself, which
saves handing them to another thread. If one of them turns out to be long, another thread leads.

There is one thread more than may run jobs at once. While the leader runs a job, a sleeping thread is barred
from taking any (:meth:`Buffer.bar`), so that ``--threads`` holds; that thread is also there to take over.
"""

from __future__ import annotations

import threading
import time

from django_kue.worker.alarm import Alarm
from django_kue.worker.buffer import Buffer

LATE = 0.01  # seconds of running jobs after which another thread leads
ALERT = 1.0  # seconds for which the watcher looks closely after the leader began to run jobs
CLOSELY = 0.01  # seconds between its looks during that time


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
        """Make this thread the leader."""
        with self._lock:
            self._leader = threading.get_ident()

    def begin(self) -> bool:
        """Begin to run jobs in this thread; False when as many threads as may do so already are."""
        if not self._buffer.bar():
            return False
        self._running_since = now = time.monotonic()
        if now - self._called_at > ALERT * 0.9:
            self._called_at = now
            self.call_watcher()
        return True

    def end(self) -> bool:
        """Stop running jobs and go on leading; False when another thread leads by now."""
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
        """Close the bell, once nobody leads or watches any more."""
        self._bell.close()

    # ── by the watcher ──

    @property
    def bell(self) -> int:
        """A descriptor that's readable when there's something to watch."""
        return self._bell.descriptor

    def watch(self) -> float:
        """Have another thread lead when the current leader has run jobs for too long.

        Returns the seconds until the next look is due.
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
