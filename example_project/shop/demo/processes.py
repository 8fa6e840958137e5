"""Processes that the demo starts, and ends again whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from django.conf import settings

STOP_SECONDS = 15


class DemoError(Exception):
    """The demo can't go on; the message says why, and where to look."""


class ManagePy:
    """``manage.py <arguments>`` as a process of its own, whose output goes to a log file.

    As a context manager it's started and, in the end, told to stop (SIGTERM) and waited for. What isn't gone
    after 15 seconds, or left children behind, is killed with its whole process group.
    """

    def __init__(self, *arguments: str, environment: dict[str, str]) -> None:
        self.arguments = arguments
        self.log = settings.BASE_DIR / f"{arguments[0]}.log"
        self.environment = environment
        self.exit_code: int | None = None  # known once it has stopped

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(settings.PROJECT / "manage.py"), *self.arguments],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which stops all in order
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; does nothing when it has ended."""
        if self.exit_code is not None:
            return
        self.process.terminate()
        try:
            self.exit_code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.exit_code = -signal.SIGKILL
        finally:
            self._end_group()
            self.process.wait()

    def _end_group(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # nobody is left: as it should be

    def check(self) -> None:
        """Raises DemoError when it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise DemoError(f"manage.py {self.arguments[0]} ended with {code}.\n{self.last_lines()}")

    def last_lines(self, count: int = 20) -> str:
        """The end of its log, and where all of it is."""
        lines = self.log.read_text(errors="replace").splitlines()[-count:]
        return "\n".join([*lines, f"(all of it: {self.log})"])


def wait_for(what: str, condition: Callable[[], object], *, timeout: float, alive: ManagePy) -> None:
    """Wait until ``condition()`` is true.

    Raises:
        DemoError: the process ended, or the time is over.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        alive.check()
        if time.monotonic() > deadline:
            raise DemoError(f"waited {timeout:g} s for {what}.\n{alive.last_lines()}")
        time.sleep(0.1)
