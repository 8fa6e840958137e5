"""Middleware: what it's around, in which order, and what it may do."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_kue import EnqueueError, Job, bulk, current_job, get_queue, job
from django_kue.batch import _checked_headers
from django_kue.middleware import chain
from django_kue.records import decode
from django_kue.states import State
from django_kue.testing import Kue, fake
from django_kue.testing.worker import WorkerThread
from tests.conftest import redis_client
from tests.test_middleware.chain import seen


@job(name="tests.middleware.double", attempts=2)
def double(value: int) -> int:
    seen.append(f"double {value}")
    if value < 0:
        raise ValueError(f"{value} is negative")
    return 2 * value


@job(name="tests.middleware.adouble")
async def adouble(value: int) -> int:
    seen.append(f"adouble {value}")
    return 2 * value


def middleware(*names: str, **settings: Any) -> Any:
    paths = [f"tests.test_middleware.chain.{name}" for name in names]
    kue = {"PREFIX": "kue", "QUEUES": {"other": {}}, "MIDDLEWARE": paths, **settings}
    return override_settings(KUE=kue)


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    chain.cache_clear()


def work() -> None:
    WorkerThread(is_burst=True).start().join()


def test_threads_that_start_together_have_one_object() -> None:
    everybody = threading.Barrier(8)

    def ask(_: int) -> Any:
        everybody.wait(timeout=10)
        return chain()

    with middleware("Slow"), ThreadPoolExecutor(8) as threads:
        assert len({id(one) for one in threads.map(ask, range(8))}) == 1

    assert seen == ["Slow was made"]


def test_the_first_of_the_list_is_the_outermost() -> None:
    with middleware("Outer", "Inner"):
        double.enqueue(1)
        work()

    assert seen == [
        "Outer before enqueue of 1",
        "Inner before enqueue of 1",
        "Inner after enqueue of 1",
        "Outer after enqueue of 1",
        "Outer before run",
        "Inner before run",
        "double 1",
        "Inner after run",
        "Outer after run",
    ]


def test_it_is_around_each_attempt_and_sees_what_was_raised() -> None:
    with middleware("Outer"):
        double.enqueue(-1)
        work()

    run = ["Outer before run", "double -1", "Outer saw -1 is negative"]
    assert seen[2:] == run * 2


def test_many_jobs_of_one_call_pass_at_once() -> None:
    with middleware("Outer"):
        jobs = double.enqueue_many([(1,), (2,), (3,)])

    assert seen == ["Outer before enqueue of 3", "Outer after enqueue of 3"]
    assert len(jobs) == get_queue().counts()["waiting"] == 3


async def test_plain_hooks_are_around_async_code_too() -> None:
    with middleware("Outer"), fake() as kue:
        await adouble.aenqueue(1)
        await kue.adrain()

    assert seen == [
        "Outer before enqueue of 1",
        "Outer after enqueue of 1",
        "Outer before run",
        "adouble 1",
        "Outer after run",
    ]


def test_async_hooks_are_around_async_code_only() -> None:
    import asyncio

    async def enqueue() -> None:
        await adouble.aenqueue(1)

    with middleware("Async", "Outer"):
        asyncio.run(enqueue())
        double.enqueue(1)
        work()

    assert seen[:2] == ["async before enqueue", "Outer before enqueue of 1"]
    assert seen[2:4] == ["Outer after enqueue of 1", "async after enqueue"]
    assert seen[4:6] == ["Outer before enqueue of 1", "Outer after enqueue of 1"]
    at = seen.index("adouble 1")
    assert {"async before run", "async after run"} <= set(seen)
    assert seen.count("async before run") == 1
    assert seen.index("async before run") < at < seen.index("async after run")


def test_headers_travel_from_the_enqueue_to_each_run() -> None:
    with middleware("Stamping"):
        enqueued = double.enqueue(-1)
        work()

    stamp = {"stamp": {"by": "tests", "n": 1}}
    assert [one for one in seen if isinstance(one, tuple)] == [(1, stamp), (2, stamp)]
    assert enqueued.headers == enqueued.refresh().headers == stamp


def test_headers_come_beside_other_options() -> None:
    with middleware("Stamping"):
        enqueued = double.using(title="Two", attempts=5).enqueue(1)

    found = enqueued.refresh()
    assert (found.title, found.attempts, found.headers["stamp"]["n"]) == ("Two", 5, 1)


def test_a_job_without_headers_stores_none() -> None:
    with middleware("Outer"):
        double.enqueue(1)
    [record] = redis_client().hvals("kue:{default}:d")

    assert record == b"|tests.middleware.double|[1]"
    assert decode(record).options == b""


def test_a_copy_has_the_headers_of_its_original() -> None:
    with middleware("Stamping"):
        original = double.enqueue_many([(1,), (2,)])[0]
    with middleware():
        assert bulk.copy_of(original.refresh()).headers == {"stamp": {"by": "tests", "n": 2}}


def test_a_hook_may_change_what_is_enqueued() -> None:
    with middleware("Rerouting"):
        enqueued = double.enqueue(1)

    assert (enqueued.queue, enqueued.priority, enqueued.args) == ("other", 9, (20,))


def test_a_hook_that_raises_stops_the_enqueue() -> None:
    with middleware("Outer", "Refusing"), pytest.raises(PermissionError, match="no jobs today"):
        double.enqueue(1)

    assert get_queue().counts()["waiting"] == 0


def test_a_hook_that_raises_is_as_if_the_job_had() -> None:
    enqueued = double.enqueue(1)
    with middleware("Refusing"):
        work()

    found = enqueued.refresh()
    assert (found.state, found.attempts_made) == (State.FAILED, 2)
    assert str(found.error) == "builtins.PermissionError: no runs today"
    assert seen == []


def test_a_hook_that_keeps_a_runs_exception_to_itself_completes_the_job() -> None:
    enqueued = double.enqueue(-1)
    with middleware("Swallowing"):
        work()

    assert (enqueued.refresh().state, enqueued.refresh().result) == (State.COMPLETED, None)
    assert seen == ["double -1", "-1 is negative"]


def test_a_hook_cannot_keep_it_to_itself_that_nothing_was_enqueued() -> None:
    with middleware("Swallowing"), pytest.raises(EnqueueError, match="swallowed the exception"):
        double.enqueue(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BadHeader", r"tests.middleware.double: headers\['who'\]\['am'\]\[0\]: object can't be stored"),
        ("LargeHeader", "the headers are 50.. bytes of JSON, 4096 at most"),
    ],
)
def test_headers_that_cannot_travel_are_an_error_at_once(name: str, said: str) -> None:
    with middleware(name), pytest.raises(EnqueueError, match=said):
        double.enqueue(1)


def test_a_hook_that_makes_no_job_of_one_is_told_so() -> None:
    with middleware("Losing"), pytest.raises(EnqueueError, match="a middleware turned one job into 0"):
        double.enqueue(1)


def test_a_model_instance_is_refused_as_a_header() -> None:
    """It would be read from the database wherever a job is looked at, and in the loop that fetches jobs."""
    user = User(pk=1)
    user._state.adding, user._state.db = False, "default"  # as if it were stored
    with pytest.raises(EnqueueError, match="Send its primary key"):
        _checked_headers(double, {"user": user})


def test_it_is_around_runs_in_the_test_mode_too(kue: Kue) -> None:
    with middleware("Outer"):
        double.enqueue(1)
        kue.drain()

    assert seen[-3:] == ["Outer before run", "double 1", "Outer after run"]


def test_inside_its_hooks_the_job_is_the_current_one() -> None:
    assert current_job().headers == {}
    with middleware("Stamping"):
        assert isinstance(double.enqueue(1), Job)


# ── mistakes ──


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Missing", "tests.test_middleware.chain.Missing can't be imported"),
        ("Stranger", "chain.Stranger isn't a subclass of django_kue.middleware.Middleware"),
        ("NoYield", r"chain.NoYield: its run\(\) must be a generator function that yields once; write"),
    ],
)
def test_each_mistake_is_told_by_the_check_at_use_and_by_the_worker(name: str, said: str) -> None:
    with middleware(name):
        assert [one.id for one in run_checks(tags=["django_kue"])].count("django_kue.E009") == 1
        with pytest.raises(ImproperlyConfigured, match=said):
            double.enqueue(1)
        with pytest.raises(CommandError, match=said):
            call_command("runworker", "--burst")


def test_who_has_none_loads_none() -> None:
    code = "import django; django.setup(); import sys; sys.exit('django_kue.travelling' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True)
