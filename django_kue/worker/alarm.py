"""What wakes the leading thread: a pipe that it sleeps on, and that any thread may write to."""

from __future__ import annotations

import os
from contextlib import suppress


class Alarm:
    """A pipe to this process itself. :meth:`is_gutted` tells when a job has closed or replaced it."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write, False)
        self._pipe = pipe_at(self.descriptor)
        self.is_asleep = False

    def ring(self) -> None:
        """Wake the sleeper, now or as soon as it goes to sleep."""
        with suppress(OSError):  # full, or a job closed it: is_gutted will tell
            os.write(self._write, b"!")

    def clear(self) -> None:
        """Forget what rang so far."""
        with suppress(BlockingIOError):
            while os.read(self.descriptor, 4096):
                pass

    def close(self) -> None:
        """Afterwards nobody may ring."""
        os.close(self.descriptor)
        os.close(self._write)

    def is_gutted(self) -> bool:
        """Whether the descriptors of this process aren't its own any more."""
        return pipe_at(self.descriptor) != self._pipe


def pipe_at(descriptor: int) -> tuple[int, int] | None:
    """What a descriptor leads to."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino
