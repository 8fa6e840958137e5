"""A theme's own ModelAdmin goes with our pages."""

from __future__ import annotations

import subprocess
import sys

from tests.worker_process import ROOT


def test_the_pages_can_be_made_of_a_themes_model_admin() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.test_admin.themed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
