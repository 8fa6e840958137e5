"""A wrong argument of a job is a type error: mypy is run on samples."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SAMPLES = Path(__file__).parent / "typing"
ERROR = re.compile(r"^(?P<path>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")


@pytest.fixture(scope="module")
def found():
    """What mypy says: for each sample its lines with errors, ``{name: {line: {code}}}``."""
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "--no-pretty"]
    run = subprocess.run(
        [*command, *map(str, sorted(SAMPLES.glob("*.py")))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stdout + run.stderr
    errors: dict[str, dict[int, set[str]]] = {"good": {}, "bad": {}}
    for line in run.stdout.splitlines():
        match = ERROR.match(line)
        if match and Path(match["path"]).parent.name == "typing":
            errors[Path(match["path"]).stem].setdefault(int(match["line"]), set()).add(match["code"])
    return errors


def test_right_use_is_accepted(found):
    assert found["good"] == {}


def test_each_wrong_use_is_flagged_and_nothing_else(found):
    lines = (SAMPLES / "bad.py").read_text().splitlines()
    expected = {
        number: set(comment.split(", "))
        for number, line in enumerate(lines, 1)
        if (comment := line.partition("  # ")[2])
    }
    assert len(expected) > 15
    assert found["bad"] == expected
