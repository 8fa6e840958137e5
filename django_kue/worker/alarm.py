"""The leading thread's wake-up: a pipe that it sleeps on, and that any thread may write to."""

from __future__ import annotations

import os
from contextlib import suppress


class Alarm:
    """A pipe to this process itself. :meth:`is_gutted` says whether a job has closed or replaced it."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write, False)
        self._pipe = pipe_at(self.descriptor)
        self.is_asleep = False

    def ring(self) -> None:
        """Wake the sleeper, now or as soon as it goes to sleep."""
        with suppress(OSError):  # it's full, or a job closed it, which is_gutted will show
            os.write(self._write, b"!")

    def clear(self) -> None:
        """Forget the rings so far."""
        with suppress(BlockingIOError):
            while os.read(self.descriptor, 4096):
                pass

    def close(self) -> None:
        """Close the pipe. Nobody may ring after that."""
        os.close(self.descriptor)
        os.close(self._write)

    def is_gutted(self) -> bool:
        """Whether this process's file descriptors are no longer its own."""
        return pipe_at(self.descriptor) != self._pipe


def pipe_at(descriptor: int) -> tuple[int, int] | None:
    """The device and inode that a descriptor refers to; ``None`` if it isn't open."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino
