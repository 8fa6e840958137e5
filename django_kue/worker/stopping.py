"""How a worker stops: who asks for it, until when its children may run, and what ends them then.

Order of stopping (SIGTERM, SIGINT, SIGHUP, or an order by way of Redis): children take no new jobs; they have
the shutdown timeout to finish; what's still running then is killed and its jobs handed back, uncounted;
the worker leaves the list of workers; exit 0. A second signal shortens the timeout to nothing.
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

HASTE = 0.25  # seconds that a call to Redis may take when the shutdown timeout is over
GRACE = 1.0  # seconds after the shutdown timeout, in which the killed are still handed back
LAST_MOMENT = 5.0  # seconds after the shutdown timeout, when a supervisor that's stuck is ended


class Stopping:
    """The end of a worker: nothing yet, until someone asks for it."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._by: float | None = None  # when what still runs is killed
        self._is_told = False

    @property
    def is_asked(self) -> bool:
        return self._by is not None

    @property
    def left(self) -> float:
        """Seconds until what still runs is killed; less than 0 when that's over."""
        return float("inf") if self._by is None else self._by - time.monotonic()

    def heed_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                signal.signal(number, self._on_signal)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # of the last moment

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._by is None:
            self.ask()
        else:
            self._set_deadline(0.0)

    def ask(self) -> None:
        """From a signal's handler, too: it may have interrupted the very log in which this would be told."""
        self._set_deadline(self._timeout)

    def _set_deadline(self, seconds: float) -> None:
        """Should the loop be stuck by then, for example in a log that nobody reads, the kernel ends us."""
        self._by = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds + LAST_MOMENT)

    def tell_once(self) -> bool:
        """Log it when it's news; whether it was. A signal's handler can't."""
        if self._by is None or self._is_told:
            return False
        self._is_told = True
        logger.info("stopping: running jobs have %g s to finish", self._timeout)
        return True

    def tell_children(self, children: Iterable[Sibling]) -> None:
        """Told in the loop: a signal may come in the middle of a birth, when the child isn't known yet."""
        if self._by is None:
            return
        for child in children:
            if not child.is_told_to_stop:
                child.is_told_to_stop = True
                child.order(stop=True)

    def kill_rest(self, children: Iterable[Sibling]) -> None:
        """At the deadline. Their jobs aren't to blame: it was us."""
        if self.left > 0:
            return
        for child in children:
            if not child.is_killed:
                child.is_killed = True
                os.kill(child.pid, signal.SIGKILL)

    def hurried(self, timeout: float) -> float:
        """Redis may hang: no call to it may outlast the moment when what still runs is to be killed."""
        return max(HASTE, min(timeout, self.left))

    def has_time_to_bury(self) -> bool:
        """One more try per tick while Redis answers; then the leases lapse by themselves."""
        return self.left + GRACE > HASTE

    def disarm(self) -> None:
        """Nothing is left that could be stuck."""
        signal.setitimer(signal.ITIMER_REAL, 0)
