"""A newcomer follows the tutorial to the letter, on a machine with Python, the wheel, and no Redis."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

import django_kue
from django_kue import embedded
from tests.conftest import free_port
from tests.run_page import ROOT, Block, blocks
from tests.test_installed.conftest import Dist, environment

PAGE = blocks(ROOT / "docs/tutorial/first-job.md")
SHELL = """
import json, sys
for line in sys.stdin:
    exec(compile(json.loads(line), "the tutorial", "exec"), globals())
    print("done", flush=True)
"""
PATIENCE = 60.0  # seconds


class Newcomer:
    """Types what the page says, in a folder of their own, in several terminals."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        tools = folder / "tools"  # all that's on this machine: python3, and what `activate` calls
        tools.mkdir()
        (tools / "python3").symlink_to(os.path.realpath(sys.executable))
        for tool in ("bash", "uname"):
            (tools / tool).symlink_to(shutil.which(tool))
        constraints = folder / "constraints.txt"  # so that pip takes this very wheel
        constraints.write_text(f"django-kue=={django_kue.__version__}\n")
        links = f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}"
        self._terminals: list[subprocess.Popen[str]] = []
        self._environment = environment(
            PATH=f"{self.folder}/venv/bin:{tools}",
            PIP_CONSTRAINT=str(constraints),
            PIP_FIND_LINKS=links,
            PIP_NO_COMPILE="1",  # most of Django isn't imported here
            PIP_QUIET="1",
            DJANGO_SUPERUSER_USERNAME="ann",
            DJANGO_SUPERUSER_PASSWORD="secret",
            DJANGO_SUPERUSER_EMAIL="ann@example.org",
        )
        self._shell: subprocess.Popen[str] | None = None

    def types(self, command: str) -> str:
        """A command that ends; what it prints."""
        run = subprocess.run(
            ["bash", "-ec", command], cwd=self.folder, env=self._environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
        return run.stdout + run.stderr

    def starts(self, command: str, **pipes: Any) -> subprocess.Popen[str]:
        """A command that goes on, in a terminal of its own."""
        terminal = subprocess.Popen(
            ["bash", "-ec", f"exec {command}"], cwd=self.folder, env=self._environment, text=True,
            start_new_session=True, **pipes,
        )  # fmt: skip
        self._terminals.append(terminal)
        return terminal

    def writes(self, name: str, text: str) -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)

    def types_into_the_shell(self, code: str) -> None:
        if self._shell is None:
            command = f"python manage.py shell --verbosity 0 -c '{SHELL}'"
            self._shell = self.starts(command, stdin=PIPE, stdout=PIPE)
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(json.dumps(code) + "\n")
        self._shell.stdin.flush()
        assert self._shell.stdout.readline() == "done\n", code

    def leaves(self) -> None:
        for terminal in self._terminals:
            kill(terminal)
        if (self.folder / embedded.FOLDER).exists():  # or else it ends itself, in a minute
            embedded.stop(self.folder / embedded.FOLDER)


def kill(terminal: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(terminal.pid, signal.SIGKILL)
    terminal.wait()
    for pipe in (terminal.stdin, terminal.stdout):
        if pipe:
            pipe.close()


@pytest.fixture
def newcomer(dist: Dist) -> Iterator[Newcomer]:
    with tempfile.TemporaryDirectory(prefix="kue-tutorial-", ignore_cleanup_errors=True) as folder:
        newcomer = Newcomer(Path(folder), dist.wheel)
        yield newcomer
        newcomer.leaves()


def test_a_newcomer_who_follows_the_tutorial_comes_to_its_end(newcomer: Newcomer) -> None:
    page = iter(PAGE)

    for command in commands(next(page)):
        newcomer.types(command)
    newcomer.writes("site1/settings.py", next(page).code)
    assert "no issues" in newcomer.types(*commands(next(page)))
    with misspelt(newcomer.folder / "site1/settings.py"), pytest.raises(AssertionError, match="ATTEMPTS"):
        newcomer.types("python manage.py check")
    jobs = next(page)
    newcomer.writes(jobs.detail, jobs.code)

    assert commands(next(page)) == ["python manage.py shell"]
    newcomer.types_into_the_shell(next(page).code)
    [run_worker] = commands(next(page))
    worker = newcomer.starts(run_worker)
    newcomer.types_into_the_shell(next(page).code)
    newcomer.types_into_the_shell(next(page).code)

    [create_user, run_server] = commands(next(page))
    newcomer.types(f"{create_user} --noinput")
    address = f"127.0.0.1:{free_port()}"
    newcomer.starts(f"{run_server} --noreload {address}", stdout=DEVNULL, stderr=DEVNULL)
    assert "Newsletter 1" in the_jobs_page(f"http://{address}/admin/")

    newcomer.types_into_the_shell(next(page).code)
    newcomer.types_into_the_shell(until('long.refresh().state == "active"'))
    newcomer.types_into_the_shell("first = long.refresh()")
    assert commands(next(page)) == ["pkill -9 -f runworker"]
    kill(worker)  # not by name: this machine may have others
    newcomer.starts(run_worker)
    newcomer.types_into_the_shell(
        until('long.refresh().state == "active" and long.refresh().worker != first.worker')
    )
    newcomer.types_into_the_shell("assert long.refresh().attempts_made == 0")
    assert next(page, None) is None, "the page has a block that nobody types here"


def commands(block: Block) -> list[str]:
    """What a block of a terminal says to type."""
    assert block.language == "console"
    return [line.removeprefix("$ ") for line in block.code.splitlines() if line.startswith("$ ")]


class misspelt:
    """The settings with the page's mistake in them, for a moment."""

    def __init__(self, settings: Path) -> None:
        self._settings, self._right = settings, settings.read_text()

    def __enter__(self) -> None:
        self._settings.write_text(self._right.replace('"ATTEMPTS"', '"ATEMPTS"'))

    def __exit__(self, *exc: object) -> None:
        self._settings.write_text(self._right)


def until(condition: str) -> str:
    return (
        "import time\n"
        f"late = time.monotonic() + {PATIENCE}\n"
        f"while not ({condition}):\n"
        f"    assert time.monotonic() < late, long.refresh()\n"
        "    time.sleep(0.05)"
    )


def the_jobs_page(admin: str) -> str:
    """The page of jobs, once somebody has logged in."""
    browser = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))
    form = patiently(lambda: browser.open(f"{admin}login/").read().decode())
    [token] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
    answers = {"username": "ann", "password": "secret", "csrfmiddlewaretoken": token}
    browser.open(f"{admin}login/?next=/admin/", urlencode(answers).encode())
    return browser.open(f"{admin}django_kue/job/").read().decode()


def patiently(get: Callable[[], str]) -> str:
    """As soon as the server is there."""
    late = time.monotonic() + PATIENCE
    while True:
        try:
            return get()
        except URLError:
            assert time.monotonic() < late
            time.sleep(0.05)
