"""Half a minute of ``make chaos``, with every fault at least once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.worker_process import ROOT


@pytest.mark.slow
def test_half_a_minute_of_all_faults_leaves_nothing_unexplained() -> None:
    options = ("--jobs", "2500", "--minutes", "0.4", "--seed", "1", "--workers", "2")
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *options, "--forget"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "✓ nothing is wrong" in run.stdout
