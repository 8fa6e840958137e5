"""A process is killed at each step of a job's way through the outbox: the job runs, and it runs once.

The processes, the database and the worker are real. The steps are done one after the other, while a worker
relays what the dead left; then each is looked at.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from django_kue import get_queue, handover
from tests.conftest import redis_client
from tests.databases import SERVERS, sqlite
from tests.outbox_steps import STEPS
from tests.worker_process import ROOT, WorkerProcess, broke, is_well, marks, wait_for

pytestmark = pytest.mark.slow  # three databases; the versions of Python and Django make no difference to them

SOON = 5.0  # seconds within which what a dead process committed is relayed
COMMITTED = [step for step in STEPS if step != "before the commit"]
CAN_SKIP_LOCKED = ("postgresql", "mariadb")


class Project:
    """A project's process, which forks for each step."""

    def __init__(self, databases: dict[str, Any]) -> None:
        self.environment = {
            "KUE_TEST_DATABASES": json.dumps(databases), "KUE_TEST_OUTBOX": "yes",
            "KUE_TEST_OUTBOX_OF_NARROW": "second",
        }  # fmt: skip
        environment = {**os.environ, **self.environment, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.outbox_steps"], cwd=ROOT, text=True,
            env={**environment, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._line() == "ready"

    def do(self, step: str) -> int:
        """The step's exit code."""
        code = self._ask(step)
        return int(code)

    def look(self, what: str = "look") -> Any:
        """What a step printed."""
        found = json.loads(self._ask(what))
        assert self._line() == "0"
        return found

    def _ask(self, step: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{step}\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, f"it ended with {self._process.wait(10)}"
        return line

    def end(self) -> None:
        self._process.communicate(timeout=10)


@dataclass
class Aftermath:
    """What became of the steps."""

    database: str
    together: list[int]  # two relays: rows that the second sent, rows that were left, jobs in the queue
    ages: list[float]  # of a fresh row, in seconds, for sessions of other time zones
    codes: dict[str, int]
    ran: list[str]
    users: list[str]
    seconds: float  # from the last death to the last run


@pytest.fixture(scope="module", params=SERVERS)
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    redis_client().flushall()
    handover._known.clear()
    with ExitStack() as stack:
        databases = {
            "default": stack.enter_context(SERVERS[request.param]()),
            "second": stack.enter_context(sqlite()),
        }
        project = Project(databases)
        stack.callback(project.end)
        together = [*project.look("two relays"), get_queue("other").counts()["waiting"]]
        get_queue("other").empty()
        ages = project.look("look from other zones")
        worker = stack.enter_context(WorkerProcess("--processes", "1", **project.environment))
        worker.wait_started()
        codes = {step: project.do(step) for step in STEPS}
        began = time.monotonic()
        wait_for(lambda: {*marks("ran")} >= {*COMMITTED}, 20, lambda: f"{marks('ran')}; {worker.log}")
        seconds = time.monotonic() - began
        wait_for(lambda: project.look()[0] == 0, 20, "an empty outbox")
        wait_for(lambda: is_well("default"), what="keys that agree")
        assert worker.stop() == 0
        assert not broke(worker.log)
        yield Aftermath(request.param, together, ages, codes, marks("ran"), project.look()[1], seconds)


@pytest.mark.parametrize("step", COMMITTED)
def test_what_was_committed_runs_once_wherever_its_process_died(aftermath: Aftermath, step: str) -> None:
    assert aftermath.codes[step] == (0 if step == "nothing happens" else -signal.SIGKILL)
    assert aftermath.users.count(step) == 1
    assert aftermath.ran.count(step) == 1


def test_what_wasnt_committed_doesnt_run(aftermath: Aftermath) -> None:
    assert aftermath.codes["before the commit"] == -signal.SIGKILL
    assert "before the commit" not in aftermath.users
    assert "before the commit" not in aftermath.ran


def test_what_a_dead_process_left_is_relayed_soon(aftermath: Aftermath) -> None:
    assert aftermath.seconds < SOON


def test_of_two_relays_each_sends_its_own_rows_where_locked_ones_can_be_skipped(aftermath: Aftermath) -> None:
    """Of 600 rows the first relay holds 500. Elsewhere both send these, and each job is there once."""
    sent, left, jobs = aftermath.together
    assert left + jobs == 600
    if aftermath.database in CAN_SKIP_LOCKED:
        assert (sent, left) == (100, 0)
    else:
        assert (sent, left) == (500, 100)


def test_how_old_a_row_is_doesnt_depend_on_the_time_zone_of_a_session(aftermath: Aftermath) -> None:
    assert all(0 <= age < 30 for age in aftermath.ages), aftermath.ages
