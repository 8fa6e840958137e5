"""Django's own tests of tasks, run with our backend in the places of Django's two.

    python -m tests.test_tasks.django_suite FOLDER

runs the adapted tests in ``FOLDER/tasks`` (see :func:`adapt`), against the Redis at ``KUE_TEST_REDIS``, and
writes what became of each as JSON into ``FOLDER/told.json``. A process of its own, with its own settings.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

# The few that can't apply, and why. Whatever else is in the files has to pass.
NOT_APPLICABLE = {
    "test_immediate_backend.ImmediateBackendTestCase.test_cannot_get_result":
        "that a backend without results says so; ours has them",
    "test_immediate_backend.ImmediateBackendTestCase.test_cannot_refresh_result":
        "that a backend without results says so; ours has them",
    "test_immediate_backend.ImmediateBackendTestCase.test_cannot_pass_run_after":
        "that a backend without run_after says so; ours has it",
    "test_immediate_backend.ImmediateBackendTestCase.test_throws_keyboard_interrupt":
        "that Ctrl-C reaches whoever enqueues; a task of ours runs in a worker, where it fails that run",
    "test_immediate_backend.ImmediateBackendTransactionTestCase"
    ".test_doesnt_wait_until_transaction_commit_by_default":
        "that a task runs inside the transaction; ours waits for the commit by default",
    "test_dummy_backend.DummyBackendTransactionTestCase"
    ".test_doesnt_wait_until_transaction_commit_by_default":
        "that a task is stored inside the transaction; ours waits for the commit by default",
    "test_dummy_backend.DummyBackendTestCase.test_refresh_result":
        "it changes the list in the dummy's memory; our results are in Redis",
    "test_dummy_backend.DummyBackendTestCase.test_refresh_result_async":
        "it changes the list in the dummy's memory; our results are in Redis",
    "test_custom_backend":
        "tests of classes that the file defines itself; no backend of ours is in them",
}  # fmt: skip

# Django's backend → ours in its place: see suite_backends.
_OURS = "tests.test_tasks.suite_backends"
_PLACES = {
    ("django.tasks.backends.dummy", "DummyBackend"): "Waiting",
    ("django.tasks.backends.immediate", "ImmediateBackend"): "Working",
}


def adapt(source: Path, folder: Path) -> None:
    """Copy Django's ``tests/tasks``, with our backends for Django's."""
    shutil.copytree(source, folder / "tasks")
    for path in (folder / "tasks").glob("test_*.py"):
        text = path.read_text("utf-8")
        for (module, name), ours in _PLACES.items():
            text = text.replace(f'"{module}.{name}"', f'"{_OURS}.{ours}"')
            text = text.replace(
                f"from {module} import {name}",
                f"from tests.test_tasks.suite_backends import {ours} as {name}",
            )
        path.write_text(text, "utf-8")


def main(folder: Path) -> None:
    from django.conf import settings

    settings.configure(
        SECRET_KEY="for tests only",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.contenttypes", "django_kue"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        KUE={
            "REDIS": os.environ["KUE_TEST_REDIS"],
            "PREFIX": "kue-django-suite",
            "QUEUES": {name: {} for name in ("queue_1", "queue-1", "queue-2", "unknown_queue", "high")},
        },
    )
    import django

    django.setup()
    (folder / "told.json").write_text(json.dumps(_run(folder)))


def _run(folder: Path) -> dict[str, Any]:
    from django.test.runner import DiscoverRunner

    told: dict[str, Any] = {"left out": []}

    class Runner(DiscoverRunner):
        def build_suite(self, *args: Any, **kwargs: Any) -> Any:
            whole = super().build_suite(*args, **kwargs)
            suite = self.test_suite()
            for test in whole:
                name = test.id().removeprefix("tasks.")
                if reason := [key for key in NOT_APPLICABLE if name == key or name.startswith(f"{key}.")]:
                    told["left out"] += reason
                else:
                    suite.addTest(test)
            told["run"] = suite.countTestCases()
            return suite

        def suite_result(self, suite: Any, result: Any, **kwargs: Any) -> Any:
            told["bad"] = [test.id() for test, _ in [*result.failures, *result.errors]]
            told["skipped"] = [test.id() for test, _ in result.skipped]
            return super().suite_result(suite, result, **kwargs)

    os.chdir(folder)
    sys.path.insert(0, str(folder))
    Runner(verbosity=1, interactive=False).run_tests(["tasks"])
    return told


if __name__ == "__main__":
    main(Path(sys.argv[1]))
