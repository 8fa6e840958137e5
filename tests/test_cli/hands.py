"""``manage.py kue`` under test: called here, or as a process of its own, on a pipe or a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from django.core.management import CommandError, call_command

from django_kue import ids
from django_kue.handover import submit
from django_kue.records import NewJob, encode_arguments
from tests.test_engine.hands import Hands

ROOT = Path(__file__).parents[2]
COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Said(NamedTuple):
    """What a call printed, and its exit code; ``CommandError`` counts as Django's ``manage.py`` has it."""

    out: str
    err: str
    code: int

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def kue(*words: str) -> Said:
    """Call the command in this process."""
    out, err = StringIO(), StringIO()
    code = 0
    try:
        call_command("kue", *words, stdout=out, stderr=err)
    except CommandError as error:
        err.write(f"{error}\n")
        code = error.returncode
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    return Said(out.getvalue(), err.getvalue(), code)


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT), **changes}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "django", "kue", *words]


def kue_process(*words: str, timeout: float = 30, **changes: str) -> Said:
    """The command as a process of its own, its output in pipes."""
    done = subprocess.run(
        command(*words),
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Said(done.stdout, done.stderr, done.returncode)


def kue_terminal(*words: str, columns: int = 80, typed: str = "") -> Said:
    """The command on a terminal of so many columns; ``out`` is what would reach the screen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    changes = {name: value for name, value in environment().items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        command(*words), env={**changes, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    if typed:
        os.write(ours, typed.encode())
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the process has ended: Linux says EIO, macOS an empty read
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(ours)
    return Said(b"".join(chunks).decode().replace("\r\n", "\n"), "", process.wait(10))


def without_color(text: str) -> str:
    return COLOR.sub("", text)


def enqueued(name: str = "tests.app.jobs.add", *args: Any, queue: str = "default", **options: Any) -> str:
    """The id of a job that was put there without its function."""
    [key] = ids.new_keys(1)
    new = NewJob(key=key, name=name, arguments=encode_arguments(args, {}), **options)
    submit(queue, [new])
    return f"{queue}.{key.decode()}"


def ended(
    outcome: bytes, name: str = "tests.app.jobs.add", *args: Any, queue: str = "default", **options: Any
) -> str:
    """The id of a job that ran, and ended so."""
    hands = Hands(queue)
    job_id = enqueued(name, *args, queue=queue, **options)
    hands.take()
    hands.settle(job_id.partition(".")[2], outcome)
    return job_id
