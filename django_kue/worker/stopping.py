"""How a worker stops: what asks for it, until when its children may run, and what ends them then.

Order of stopping (SIGTERM, SIGINT, SIGHUP, or an order that comes through Redis): children take no new jobs;
they have the shutdown timeout to finish; those still running then are killed, and their jobs are handed back
without using up an attempt; the worker leaves the list of workers; exit 0. A second signal cuts the timeout
to zero.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable
from typing import Any

from django_kue.worker.siblings import Sibling

logger = logging.getLogger("django_kue.worker")

HASTE = 0.25  # seconds that a call to Redis may take once the shutdown timeout is over
GRACE = 1.0  # seconds after the shutdown timeout in which jobs of killed children are still handed back
LAST_MOMENT = 5.0  # seconds after the shutdown timeout when a stuck supervisor is killed


class Stopping:
    """The end of a worker: nothing yet, until someone asks for it."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._by: float | None = None  # when what's still running is killed
        self._is_told = False

    @property
    def is_asked(self) -> bool:
        return self._by is not None

    @property
    def left(self) -> float:
        """Seconds until what's still running is killed; negative once that time has passed."""
        return float("inf") if self._by is None else self._by - time.monotonic()

    def heed_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it comes at the last moment

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._by is None:
            self.ask()
        else:
            self._set_deadline(0.0)

    def ask(self) -> None:
        """Ask for the stop, without logging: a signal handler may have interrupted the log itself."""
        self._set_deadline(self._timeout)

    def _set_deadline(self, seconds: float) -> None:
        """Set the deadline. If the loop is stuck soon after it (say, in a log that nobody reads), the kernel
        kills us."""
        self._by = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds + LAST_MOMENT)

    def tell_once(self) -> bool:
        """Log the stop, which a signal handler can't, if that's still to be done; returns whether it was."""
        if self._by is None or self._is_told:
            return False
        self._is_told = True
        logger.info("stopping: running jobs have %g s to finish", self._timeout)
        return True

    def tell_children(self, children: Iterable[Sibling]) -> None:
        """Order children to stop, from the loop: a signal may come amid a fork, before the child is known."""
        if self._by is None:
            return
        for child in children:
            if not child.is_told_to_stop:
                child.is_told_to_stop = True
                child.order(stop=True)

    def kill_rest(self, children: Iterable[Sibling]) -> None:
        """Kill remaining children at the deadline. Their jobs aren't to blame, since it was us."""
        if self.left > 0:
            return
        for child in children:
            if not child.is_killed:
                child.is_killed = True
                os.kill(child.pid, signal.SIGKILL)

    def hurried(self, timeout: float) -> float:
        """A timeout that doesn't outlast the moment when what's still running is killed: Redis may hang."""
        return max(HASTE, min(timeout, self.left))

    def has_time_to_bury(self) -> bool:
        """Whether jobs of killed children can still be handed back; later the leases lapse on their own."""
        return self.left + GRACE > HASTE

    def disarm(self) -> None:
        """Cancel the last moment: nothing is left that could be stuck."""
        signal.setitimer(signal.ITIMER_REAL, 0)
