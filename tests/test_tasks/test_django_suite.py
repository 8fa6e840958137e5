"""Django's own tests of tasks hold for our backend, but for a written list that can't."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import django
import pytest

from tests.test_tasks.django_suite import NOT_APPLICABLE, adapt

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(
        django.VERSION < (6, 0), reason="Django 5.2 has no django.tasks, and no tests of it: 6.0 and 6.1 have"
    ),
    pytest.mark.timeout(300),  # the source is 11 MB, and fetched once
]


@pytest.fixture(scope="module")
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tests/tasks`` of the Django that's installed, from its source distribution."""
    version = django.get_version()
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir(f"django-{version}") if cache else tmp_path_factory.mktemp("django")
    found = folder / f"django-{version}" / "tests" / "tasks"
    if not found.exists():
        _fetch(version, folder)
    return found


def _fetch(version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", "django", "--dest", str(folder), f"django=={version}"]
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        reason = f"Django's source distribution can't be fetched: {fetched.stderr[-400:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        members = [one for one in opened.getmembers() if "/tests/tasks/" in one.name]
        opened.extractall(folder, members, filter="data")
    archive.unlink()


def test_djangos_own_tests_pass_but_for_the_list_of_those_that_cannot_apply(
    source: Path, tmp_path: Path
) -> None:
    adapt(source, tmp_path)

    command = [sys.executable, "-m", "tests.test_tasks.django_suite", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["bad"] == [], run.stdout + run.stderr
    assert told["skipped"] == []
    assert told["run"] >= 60
    assert set(told["left out"]) == set(NOT_APPLICABLE), (
        "the list names tests that Django doesn't have any more"
    )
