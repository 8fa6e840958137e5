"""What a worker's first process does besides running jobs, in a thread for each errand."""

from __future__ import annotations

import logging
import threading

from django.db import close_old_connections

from django_kue.errors import StoreUnavailable

logger = logging.getLogger("django_kue.worker")

AFTER_A_FAILURE = 2.0  # seconds


class Errand:
    """Something that's done again and again until it's stopped; :meth:`tick` is one round."""

    name = "errand"

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kue-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop it, and wait briefly for the round under way, which can be cut off without harm."""
        self._stopping.set()
        self._thread.join(2)

    def tick(self) -> float:
        """Do what's due; returns the seconds until the next round.

        Raises:
            StoreUnavailable: Redis is away; that's logged elsewhere.
        """
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = AFTER_A_FAILURE
            try:
                pause = self.tick()
            except StoreUnavailable:
                pass  # that's logged elsewhere
            except Exception:  # it must go on: there may be nobody else to do it
                logger.exception("the %s failed; it goes on", self.name)
            finally:
                close_old_connections()
            self._stopping.wait(pause)
