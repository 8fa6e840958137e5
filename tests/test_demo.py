"""The demo is the promise of the README's first screen: it has to keep it on every commit."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MANAGE = ROOT / "example_project" / "manage.py"
SECONDS = 75  # what `make demo` promises, 60, and room for a busy machine

pytestmark = pytest.mark.slow

pytest.importorskip("aiosmtpd", reason="the demo needs the extra django-kue[demo]")
pytest.importorskip("imageio_ffmpeg", reason="the demo needs the extra django-kue[demo]")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: sockets have no room for long ones."""
    with tempfile.TemporaryDirectory(prefix="kue-demo-") as path:
        yield Path(path)


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``manage.py demo`` with a database, files and an embedded Redis of its own."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "KUE_", "SHOP_"))
    }
    environment |= {"SHOP_VAR": str(folder), "KUE_PREFIX": f"demo-{os.getpid()}", "PYTHONPATH": str(ROOT)}
    demo = subprocess.Popen(
        [sys.executable, str(MANAGE), "demo", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = demo.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        demo.terminate()  # so that it ends what it has started
        out, err = demo.communicate()
        err += f"\n(It took longer than {SECONDS} s.)"
    return subprocess.CompletedProcess(demo.args, demo.returncode, out, err)


def processes_of(folder: Path) -> list[str]:
    """The command lines of the processes that were started for this folder."""
    psutil = pytest.importorskip("psutil")
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("SHOP_VAR") == str(folder)
    ]


def test_the_demo_does_its_work_checks_it_and_leaves_nothing_running(folder: Path) -> None:
    demo = run_demo(folder, "--once")
    log = folder / "runworker.log"
    told = f"{demo.stdout}\n{demo.stderr}\n{log.read_text() if log.exists() else 'the worker has no log'}"

    assert demo.returncode == 0, told
    assert "✗ " not in demo.stdout.partition("Checked")[2], told
    assert re.search(r"All \d+ checks passed\.", demo.stdout), told
    assert "is killed with -9" in demo.stdout, told
    for line in ("ran", "on purpose", "retried", "delayed", "by priority", "files"):
        assert re.search(rf"^  {line} ", demo.stdout, re.MULTILINE), told
    assert list((folder / "media").rglob("*.mp4")), told
    assert processes_of(folder) == []


def test_a_second_demo_in_the_same_folder_is_refused_and_says_why(folder: Path) -> None:
    with (folder / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        demo = run_demo(folder, "--once")

    assert demo.returncode == 1
    assert "Another demo is running" in demo.stderr
    assert "Traceback" not in demo.stderr
