"""The wheel and the sdist, each in an environment of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import django_kue
from tests.test_installed.conftest import Project, environment

ROOT = Path(__file__).parents[2]
EXTRAS = ("cryptography", "django_tasks", "hiredis", "orjson", "setproctitle")
RUN_ONE = """
from shop.jobs import send_receipt
from django.core.management import call_command
import django_kue, sys
receipt = send_receipt.enqueue(17)
try:
    call_command("runworker", burst=True, processes=1)
except SystemExit as end:
    assert not end.code, end.code
assert receipt.refresh().result == "receipt 17", receipt.refresh()
print(django_kue.__version__, django_kue.__file__)
"""
MEDIA = """
from django.contrib import admin
from django.test import override_settings
with override_settings(DEBUG=False):
    for model, page in admin.site._registry.items():
        if model._meta.app_label == "django_kue":
            print(page.media)
"""


@pytest.mark.parametrize("which", ["bare", "full"])
def test_a_project_on_what_is_built_passes_its_checks_and_runs_a_job(
    which: str, request: pytest.FixtureRequest
) -> None:
    project: Project = request.getfixturevalue(which)

    project.run("manage.py", "check", "--fail-level", "WARNING")
    project.run("manage.py", "migrate", "--verbosity", "0")
    assert "No changes detected" in project.run("manage.py", "makemigrations", "--check", "--dry-run")
    version, where = project.shell(RUN_ONE).split()[-2:]

    assert version == django_kue.__version__
    assert Path(where).is_relative_to(project.folder)


def test_without_extras_nothing_optional_is_there(bare: Project) -> None:
    assert installed(bare, *EXTRAS) == []


def test_with_extras_all_of_them_are_there(full: Project) -> None:
    wanted = [name for name in EXTRAS if name != "django_tasks" or needs_backport(full)]

    assert installed(full, *wanted) == wanted


def test_translations_are_compiled(bare: Project) -> None:
    translated = bare.shell(
        "from django.utils import translation\n"
        "for language in ('de', 'es', 'fr', 'zh-hans'):\n"
        "    with translation.override(language): print(translation.gettext('Retry all failed'))\n"
    ).splitlines()[-4:]

    assert len({*translated, "Retry all failed"}) == 5


def test_static_files_are_found_and_each_names_only_files_that_are_there(bare: Project) -> None:
    """The manifest's storage fails at a ``url()`` that leads nowhere, and at a file that it doesn't know."""
    bare.run("manage.py", "collectstatic", "--noinput", "--verbosity", "0")
    manifest = json.loads((bare.folder / "static/staticfiles.json").read_text())["paths"]
    static = ROOT / "django_kue/static"
    media = bare.shell(MEDIA)

    assert {str(path.relative_to(static)) for path in static.rglob("*.*")} <= manifest.keys()
    assert re.search(r"/static/django_kue/kue\.[0-9a-f]{12}\.css", media)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A small package of somebody's, which knows django-kue from its installation only."""
    package = tmp_path / "outside"
    package.mkdir()
    for name in ("good", "bad"):
        shutil.copy(ROOT / f"tests/typing/{name}.py", package / f"{name}.py")
    return package


def test_types_are_seen_from_outside(bare: Project, outside: Path) -> None:
    good, bad = (by_mypy(outside / f"{name}.py", bare) for name in ("good", "bad"))

    assert good.returncode == 0, good.stdout
    assert "[import-untyped]" not in bad.stdout
    assert "[arg-type]" in bad.stdout


def by_mypy(file: Path, project: Project) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--python-executable", project.python]
    return subprocess.run(
        [*command, f"--cache-dir={project.folder}/mypy", file.name],
        cwd=file.parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def installed(project: Project, *names: str) -> list[str]:
    found = project.run(
        "-c", f"from importlib.util import find_spec\nprint(*[n for n in {names!r} if find_spec(n)])"
    )
    return found.split()


def needs_backport(project: Project) -> bool:
    return project.run("-m", "django", "--version") < "6"
