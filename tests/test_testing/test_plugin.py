"""The pytest plugin: what it costs who doesn't use it, and a real worker for who does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_kue import JobTimeout, current_job, job
from django_kue.conf import settings as kue_settings
from django_kue.jobs import Job
from django_kue.store import erase_tests_keys
from django_kue.testing import Kue, WorkerThread, fake, inline
from tests.app.jobs import add, anap

ROOT = Path(__file__).parents[2]


@job(name="tests.count_users")
def count_users() -> int:
    return User.objects.count()


is_running = threading.Event()


@job(name="tests.wait_to_be_stopped")
def wait_to_be_stopped() -> None:
    is_running.set()
    while not current_job().is_cancelled:
        threading.Event().wait(0.01)


@job(name="tests.run_for_ever", timeout=0.1)
def run_for_ever() -> None:
    while True:
        threading.Event().wait(0.01)


def test_the_plugin_is_registered_by_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    [(name, module)] = project["entry-points"]["pytest11"].items()
    assert name == "django_kue"
    assert hasattr(import_module(module), "kue_worker")


def test_pytest_imports_nothing_of_django_with_it() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import django_kue.pytest_plugin; "
        "new = set(sys.modules) - before; print(*new); "
        "sys.exit(bool(new - {'django_kue', 'django_kue.pytest_plugin'}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_its_fixtures_serve_a_project(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(
        """
from django_kue import testing
from tests.app.jobs import add


def test_fake(kue):
    add.enqueue(1)
    assert kue.assert_enqueued(add, 1).id
    assert [job.result for job in kue.drain()] == [3]


def test_inline(kue_inline):
    assert add.enqueue(1).refresh().result == 3


def test_worker(kue_worker):
    assert add.enqueue(1).wait(timeout=10) == 3


def test_that_fails(kue):
    kue.assert_enqueued(add, 1)


def test_that_fails_by_the_function(kue):
    testing.assert_count(1, add)
"""
    )
    is_installed = any(point.name == "django_kue" for point in entry_points(group="pytest11"))
    plugin = [] if is_installed else ["-p", "django_kue.pytest_plugin"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    environment["KUE_TEST_REDIS"] = "redis://127.0.0.1:1/0"  # nobody is there

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", *plugin]

    run = subprocess.run(
        [*command, "--durations=9", str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert "2 failed, 3 passed" in run.stdout, run.stdout + run.stderr
    assert "AssertionError: tests.app.jobs.add(1) was not enqueued." in run.stdout
    assert "django_kue/testing/" not in run.stdout, "a failure shows the test's line, and none of ours"


def test_a_real_worker_runs_functions_and_coroutines(kue_worker: WorkerThread) -> None:
    jobs = [add.enqueue(1), anap.using(queue="email").enqueue(0)]

    assert [one.wait(timeout=10) for one in jobs] == [3, "rested"]
    assert jobs[0].refresh().worker == f"{kue_worker.id}/1"


@pytest.mark.parametrize("mode", ["kue", "kue_inline"])
def test_it_gets_its_jobs_though_the_whole_suite_has_a_test_mode(
    mode: str, kue_redis_url: str, request: pytest.FixtureRequest
) -> None:
    kue: Kue = request.getfixturevalue(mode)
    worker: WorkerThread = request.getfixturevalue("kue_worker")

    job = add.enqueue(1)

    assert job.wait(timeout=10) == 3
    assert job.refresh().worker == f"{worker.id}/1"
    kue.assert_nothing_enqueued()


@pytest.mark.parametrize("mode", [fake, inline])
def test_a_test_mode_goes_on_when_the_worker_has_ended(
    mode: Callable[[], AbstractContextManager[Kue]], kue_redis_url: str, settings: Any
) -> None:
    settings.KUE = {"REDIS": kue_redis_url, "PREFIX": f"kue-test-{os.urandom(6).hex()}"}
    with mode() as kue:
        with WorkerThread():
            assert add.enqueue(1).wait(timeout=10) == 3
        add.enqueue(2)
        kue.assert_count(1, add, 2)
    assert erase_tests_keys() > 0


def test_a_test_mode_has_its_break_until_the_last_worker_has_ended(kue_redis_url: str, settings: Any) -> None:
    settings.KUE = {"REDIS": kue_redis_url, "PREFIX": f"kue-test-{os.urandom(6).hex()}"}
    with fake() as kue:
        one, other = WorkerThread().start(), WorkerThread().start()
        one.stop()
        assert add.enqueue(1).wait(timeout=10) == 3
        for run in (kue.drain, lambda: kue.perform(add, 1)):
            with pytest.raises(RuntimeError, match="a real worker is running"):
                run()
        other.stop()
        add.enqueue(2)
        kue.assert_count(1, add)
        last = WorkerThread().start()
    last.stop()
    assert add.enqueue(3).refresh().state == "waiting", "in Redis: no mode is left"
    assert erase_tests_keys() > 0


@pytest.mark.django_db(transaction=True)
def test_it_sees_what_is_committed(kue_worker: WorkerThread) -> None:
    User.objects.create(username="ada")

    assert count_users.enqueue().wait(timeout=10) == 1


def test_it_stops_what_is_cancelled_or_late(kue_worker: WorkerThread) -> None:
    is_running.clear()
    late, stopped = run_for_ever.enqueue(), wait_to_be_stopped.enqueue()
    assert is_running.wait(10)

    stopped.cancel()

    for one, state in ((late, "failed"), (stopped, "cancelled")):
        with pytest.raises(Exception, match=state):
            one.wait(timeout=10)
    assert late.refresh().error.type.endswith(JobTimeout.__name__)  # type: ignore[union-attr]


def test_a_worker_that_cannot_stop_says_what_it_runs(kue_worker: WorkerThread) -> None:
    is_running.clear()
    running = wait_to_be_stopped.enqueue()
    assert is_running.wait(10)

    with pytest.raises(TimeoutError, match=f"it runs {running.id}"):
        kue_worker.stop(timeout=0.05)

    running.cancel()
    kue_worker.join()


PREFIXES: list[str] = []


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_has_a_prefix_of_its_own_and_leaves_nothing(kue_worker: WorkerThread, number: int) -> None:
    job = add.enqueue(number)
    job.wait(timeout=10)
    PREFIXES.append(kue_settings.PREFIX)

    kue_worker.stop()
    assert erase_tests_keys() > 0

    assert erase_tests_keys() == 0
    assert len(set(PREFIXES)) == len(PREFIXES)
    with pytest.raises(Exception, match="No job"):
        Job.get(job.id)


def test_keys_that_are_not_a_tests_are_left_alone() -> None:
    with pytest.raises(Exception, match="keys under 'kue' aren't a test's"):
        erase_tests_keys()


def test_no_thread_is_left(kue_redis_url: str) -> None:
    from django.test import override_settings

    before = set(threading.enumerate())
    with override_settings(KUE={"REDIS": kue_redis_url, "PREFIX": "kue-test-0"}):
        with WorkerThread():
            anap.enqueue(0).wait(timeout=10)
            add.enqueue(1).wait(timeout=10)
        erase_tests_keys()

    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert {name for name in left if name.startswith("kue")} == set()
