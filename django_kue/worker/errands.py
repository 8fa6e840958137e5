"""What a worker's first process does besides running jobs: a thread for each errand."""

from __future__ import annotations

import logging
import threading

from django.db import close_old_connections

from django_kue.errors import StoreUnavailable

logger = logging.getLogger("django_kue.worker")

AFTER_A_FAILURE = 2.0  # seconds


class Errand:
    """Something that's done again and again until it's stopped: :meth:`tick` is one round of it."""

    name = "errand"

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kue-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Wait for the round under way, not for long: whatever it's at may be cut off without harm."""
        self._stopping.set()
        self._thread.join(2)

    def tick(self) -> float:
        """Do what's to be done; seconds until the next look.

        Raises:
            StoreUnavailable: Redis is away; others say so.
        """
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = AFTER_A_FAILURE
            try:
                pause = self.tick()
            except StoreUnavailable:
                pass  # others say so
            except Exception:  # it must go on: nobody else may be there to do it
                logger.exception("the %s failed; it goes on", self.name)
            finally:
                close_old_connections()
            self._stopping.wait(pause)
