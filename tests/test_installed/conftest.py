"""What's built is installed as people install it: into environments with nothing else in them.

``make package`` builds ``dist/`` and names it in ``KUE_TEST_DIST``. Dependencies come from pip's index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.run_page import ROOT

SETTINGS = """
INSTALLED_APPS += ["django_kue", "shop"]
KUE = {"REDIS": "%s", "QUEUES": {"default": {}, "email": {}}}
STATIC_ROOT = BASE_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
"""
JOBS = """
from django_kue import job


@job(queue="email")
def send_receipt(order_id: int) -> str:
    return f"receipt {order_id}"
"""


class Dist(NamedTuple):
    wheel: Path
    sdist: Path


class Project(NamedTuple):
    """A project made by ``startproject``, and the Python of its environment."""

    folder: Path
    python: Path

    def run(self, *arguments: str) -> str:
        """What a command prints; a failure tells all of it."""
        run = subprocess.run(
            [self.python, "-W", "error", *arguments],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, f"{' '.join(arguments)}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    def shell(self, code: str) -> str:
        return self.run("manage.py", "shell", "--no-startup", "-c", code)


def environment(**more: str) -> Mapping[str, str]:
    """This process's, without what leads back into the checkout or to its settings."""
    ours = ("PYTHON", "DJANGO_", "KUE_", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


@pytest.fixture(scope="session")
def dist() -> Dist:
    if "KUE_TEST_DIST" not in os.environ:
        pytest.skip("`make package` builds what's installed here, and runs these tests")
    folder = Path(os.environ["KUE_TEST_DIST"]).resolve()
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Dist(wheel, sdist)


@pytest.fixture(scope="session")
def bare(dist: Dist) -> Iterator[Project]:
    """A project on the wheel, without extras."""
    with tempfile.TemporaryDirectory(prefix="kue-bare-") as folder:
        yield make_project(Path(folder), str(dist.wheel))


@pytest.fixture(scope="session")
def full(dist: Dist) -> Iterator[Project]:
    """A project on the sdist, with all extras but those for developing django-kue itself."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    extras = ",".join(sorted(known.keys() - {"audit", "demo", "dev", "docs", "test"}))
    with tempfile.TemporaryDirectory(prefix="kue-full-") as folder:
        yield make_project(Path(folder), f"{dist.sdist}[{extras}]")


def make_project(folder: Path, requirement: str) -> Project:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    project = Project(folder, folder / "venv/bin/python")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--python", project.python, "install", requirement], env=environment(), check=True)
    project.run("-m", "django", "startproject", "site1", ".")
    project.run("manage.py", "startapp", "shop")
    with (folder / "site1/settings.py").open("a") as settings:
        settings.write(SETTINGS % os.environ["KUE_TEST_REDIS"])
    (folder / "shop/jobs.py").write_text(JOBS)
    return project
