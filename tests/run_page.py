"""Run the Python of a documentation page, as a reader would: in a small project of its own.

What stands in an HTML comment on the line before a block says what it is:

``<!-- file: shop/jobs.py -->``  is appended to that file before anything runs
``<!-- settings -->``            is appended to the project's settings
``<!-- shell -->`` or nothing    runs in its place; all of a page share one namespace
``<!-- worker -->``              from here on a worker runs; Python runs too
``<!-- not run: reason -->``     isn't run

A page says ``django.tasks``; under Django 5.2 it's run with the backport, as the page tells to.

    python -m tests.run_page PAGE FOLDER

runs a page, with its project in an empty folder, against the Redis at ``KUE_TEST_REDIS``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from django import VERSION

ROOT = Path(__file__).parents[1]
MARKS = ("file", "settings", "shell", "worker", "not run")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.M | re.S
)

SETTINGS = """\
import os

SECRET_KEY = "for the documentation's tests"
USE_TZ, TIME_ZONE = True, "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["PAGE_FOLDER"] + "/db"}}
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["KUE_TEST_REDIS"]}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
"""
OUR_SETTINGS = """\
INSTALLED_APPS += ["django_kue", "shop"]
KUE = {"QUEUES": {"default": {}, "email": {}}}
"""
LAST_SETTINGS = 'KUE["REDIS"] = os.environ["KUE_TEST_REDIS"]\n'


HAS_BACKPORT = VERSION < (6, 0)


class Block(NamedTuple):
    """A block of code in a page. ``what`` is one of :data:`MARKS`, or empty."""

    line: int  # of its first line of code, from 1
    language: str
    what: str
    detail: str
    code: str

    @property
    def is_run(self) -> bool:
        return self.language == "python" and self.what in ("", "shell", "worker")


def blocks(page: Path) -> list[Block]:
    """A page's blocks of code, in order."""
    text = page.read_text("utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        what, _, detail = (match["mark"] or "").partition(": ")
        line = text.count("\n", 0, match.start("code")) + 1
        found.append(Block(line, match["language"], what, detail, match["code"]))
    return found


def run(page: Path, folder: Path) -> None:
    """Run a page; raises what its code raises, with the page's own lines in the traceback."""
    found = blocks(page)
    _make_project(found, folder)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("check")
    namespace: dict[str, Any] = {"__name__": "__page__"}
    with _Worker() as worker:
        for block in found:
            if block.what == "worker":
                worker.start()
            if block.is_run:
                _execute(block, page, namespace)
    _check_settings(namespace)
    _run_tests(found, folder)


def _run_tests(found: list[Block], folder: Path) -> None:
    """The page's own tests: ``test_*.py`` by pytest, ``tests.py`` by Django."""
    files = {block.detail for block in found if block.what == "file"}
    by_pytest = sorted(name for name in files if Path(name).name.startswith("test_"))
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:valkey", "-o", "asyncio_mode=auto"]
    if not any(point.name == "django_kue" for point in entry_points(group="pytest11")):
        options += ["-p", "django_kue.pytest_plugin"]
    if by_pytest:
        command = [sys.executable, "-m", "pytest", *options, *by_pytest]
        subprocess.run(command, cwd=folder, check=True)
    if "shop/tests.py" in files:
        subprocess.run([sys.executable, "-m", "django", "test", "shop"], cwd=folder, check=True)


def _make_project(found: list[Block], folder: Path) -> None:
    files = {"shop/__init__.py": "", "settings.py": SETTINGS}
    for block in found:
        if block.what == "file":
            files[block.detail] = files.get(block.detail, "") + block.code + "\n"
        elif block.what == "settings":
            files["settings.py"] += block.code
    if not any(block.what == "settings" for block in found):
        files["settings.py"] += OUR_SETTINGS
    files["settings.py"] += LAST_SETTINGS
    if HAS_BACKPORT:
        files["settings.py"] += 'INSTALLED_APPS.insert(0, "django_tasks")\n'
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_ported(text), "utf-8")
    sys.path.insert(0, str(folder))
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "settings",
        "PAGE_FOLDER": str(folder),
        "KUE_KEYS": "bm9ib2R5J3Mga2V5LCBmb3IgdGhlc2UgcGFnZXMhISE=",  # pragma: allowlist secret
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
    }


def _execute(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    source = "\n" * (block.line - 1) + _ported(block.code)  # so that a traceback tells the page's line
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    outcome = eval(code, namespace)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)


def _ported(code: str) -> str:
    return code.replace("from django.tasks import", "from django_tasks import") if HAS_BACKPORT else code


def _check_settings(namespace: dict[str, Any]) -> None:
    from django_kue import conf

    if found := conf.problems(namespace.get("KUE", {})):
        raise AssertionError("\n".join(map(str, found)))


class _Worker:
    """``manage.py runworker``, from when the page starts it to the page's end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is None:
            command = [sys.executable, "-m", "django", "runworker", "--processes", "1"]
            self._process = subprocess.Popen(command)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
