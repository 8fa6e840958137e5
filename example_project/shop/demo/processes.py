"""Processes that the demo starts, and stops again whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings

STOP_SECONDS = 15


class DemoError(Exception):
    """The demo can't go on; the message says why, and where to look."""


class ManagePy:
    """``manage.py <arguments>`` as a process of its own, whose output goes to a log file.

    As a context manager, it's started, and at the end told to stop (SIGTERM) and waited for. After 15 seconds
    it's killed. Whatever it leaves behind is killed, too.
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
                start_new_session=True,  # Ctrl-C reaches only the demo, which stops everything in order
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it; does nothing if that's been done."""
        if self.exit_code is not None:
            return
        self.process.terminate()
        try:
            self.exit_code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.exit_code = -signal.SIGKILL
        finally:
            end_session(self.process.pid)
            self.process.wait()

    def check(self) -> None:
        """Raise DemoError if it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise DemoError(f"manage.py {self.arguments[0]} ended with {code}.\n{self.last_lines()}")

    def last_lines(self, count: int = 20) -> str:
        """The end of its log, and where the whole log is."""
        lines = self.log.read_text(errors="replace").splitlines()[-count:]
        return "\n".join([*lines, f"(the whole log: {self.log})"])


def wait_for(what: str, condition: Callable[[], object], *, timeout: float, alive: ManagePy) -> None:
    """Wait until ``condition()`` is true.

    Raises:
        DemoError: the process ended, or time ran out.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        alive.check()
        if time.monotonic() > deadline:
            raise DemoError(f"waited {timeout:g} s for {what}.\n{alive.last_lines()}")
        time.sleep(0.1)


def end_session(leader: int) -> None:
    """Kill what's left of a session: a worker that was killed couldn't stop what its jobs had started."""
    for process in all_processes():
        try:
            if os.getsid(process) == leader:
                os.kill(process, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # it has just ended, or isn't ours


def all_processes() -> list[int]:
    """The ids of all processes on this machine that we may see."""
    if Path("/proc/self").exists():
        return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    told = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True)
    return [int(word) for word in told.stdout.split()]
