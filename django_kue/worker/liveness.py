"""The liveness file, whose age tells a container or process manager whether a worker hangs."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger("django_kue.worker")


class LivenessFile:
    """A worker's liveness file. ``path``: ``None`` for no file."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._has_failed = False

    def attempt(self) -> None:
        """Touch it before a worker starts, which would otherwise be restarted again and again amid its jobs.

        Raises:
            OSError: it can't be touched.
        """
        if self._path is not None:
            self._path.touch()

    def touch(self) -> None:
        """Touch it. A failure is logged once, and doesn't end running jobs."""
        try:
            self.attempt()
        except OSError as error:
            if not self._has_failed:
                logger.error("the liveness file can't be touched: %s", error)  # noqa: TRY400
            self._has_failed = True
        else:
            self._has_failed = False
