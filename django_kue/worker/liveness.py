"""The file whose age tells a container's or process manager whether a worker hangs."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger("django_kue.worker")


class LivenessFile:
    """``path``: ``None`` for none."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._has_failed = False

    def attempt(self) -> None:
        """Touch it before a worker starts: else it would be restarted again and again, amid its jobs.

        Raises:
            OSError: It can't be touched.
        """
        if self._path is not None:
            self._path.touch()

    def touch(self) -> None:
        """Touch it. A failure is logged once, and ends no running jobs."""
        try:
            self.attempt()
        except OSError as error:
            if not self._has_failed:
                logger.error("the liveness file can't be touched: %s", error)  # noqa: TRY400
            self._has_failed = True
        else:
            self._has_failed = False
