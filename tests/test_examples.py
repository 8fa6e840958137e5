"""The examples in docstrings are true: they're run as a reader would type them, with a real Redis.

An example is about one thing, and takes the rest of a project for granted: its jobs, a worker, three failed
jobs. What all of them may use is in ``PROJECT``, and ``NEEDS`` says which fixtures make the rest for whom.
``...`` in what's expected stands for any text.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import itertools
import logging.config
import os
import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import TestCase
from django.urls import path

import django_kue
from django_kue import Job, current_job, declared, get_queue, ids, job, registry, schedules
from django_kue.events import Event, listen
from django_kue.store import moves, send
from django_kue.testing import Kue, WorkerThread, inline
from tests.conftest import redis_client
from tests.test_engine.hands import wait_until

PACKAGE = Path(django_kue.__file__).parent
Names = dict[str, Any]

# ── the examples ──


class Docstring(NamedTuple):
    """A docstring that has examples."""

    module: str
    name: str  # of what it's about
    text: str
    file: Path
    line: int  # where it begins

    def examples(self, names: Names) -> doctest.DocTest:
        parser = doctest.DocTestParser()
        return parser.get_doctest(self.text, names, self.name, str(self.file), self.line - 1)


def docstrings() -> Iterator[Docstring]:
    """Those of the package. They're found without importing it: some modules need optional packages."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>>" in (source := file.read_text("utf-8")):
            parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
            module = ".".join(parts).removesuffix(".__init__")
            for name, node in _documented(ast.parse(source), module):
                text = ast.get_docstring(node, clean=False) or ""
                if ">>>" in text:
                    yield Docstring(module, name, text, file, node.body[0].lineno)


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, Any]]:
    """A module, its classes and functions, and theirs, by name."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield name, node
    for child in ast.iter_child_nodes(node):
        own_name = getattr(child, "name", None) if isinstance(child, ast.stmt) else None
        yield from _documented(child, f"{name}.{own_name}" if own_name else name)


DOCSTRINGS = list(docstrings())

# ── the project that they're taken from ──


@job(queue="email", search_keys=["order_id"])
def send_receipt(order_id: int, *, copy_to: str | None = None) -> str:
    if order_id < 0:
        raise ValueError(f"there's no order {order_id}")
    return "sent"


@job
def weekly_report(region: str) -> None: ...


class Order:
    def __init__(self, pk: int) -> None:
        self.pk = pk

    def pay(self) -> None:
        send_receipt.enqueue(self.pk)


def pay(request: HttpRequest, order_id: int) -> HttpResponse:
    Order(order_id).pay()
    return HttpResponse()


urlpatterns = [path("orders/<int:order_id>/pay", pay)]
KEY = b"AY3w8kR2Sx6mTn0pQv4zWg"  # of the job whose id is written down in examples
PROJECT: Names = {
    "__name__": "shop.jobs",
    "Job": Job,
    "current_job": current_job,
    "get_queue": get_queue,
    "order": Order(17),
    "os": os,
    "path": path,
    "schedules": schedules,
    "send_receipt": send_receipt,
    "weekly_report": weekly_report,
}
# A fixture may return more names for the examples to use.
NEEDS = {
    "django_kue.admin.jobs.JobAdminMixin": ["unfold"],
    "django_kue.admin.seam.JobQuerySet": ["three_failures"],
    "django_kue.conf": ["only_defaults"],
    "django_kue.context.JobContext.log": ["picture", "inside_a_run"],
    "django_kue.context.JobContext.progress": ["rows", "inside_a_run"],
    "django_kue.contrib.prometheus.KueCollector": ["registry_of_its_own"],
    "django_kue.contrib.prometheus.metrics": ["token"],
    "django_kue.declared.place_of": ["nightly_in_the_settings"],
    "django_kue.doctor": ["db"],
    "django_kue.embedded": ["server_of_its_own"],
    "django_kue.events.listen": ["two_events"],
    "django_kue.jobs.Job": ["well_known_id", "one_failure"],
    "django_kue.jobs.Job.wait": ["worker"],
    "django_kue.listing.Listing": ["three_failures"],
    "django_kue.logging.JobFilter": ["logging_settings"],
    "django_kue.logging.add_job": ["structlog"],
    "django_kue.metrics.series": ["three_failures"],
    "django_kue.metrics.totals": ["three_failures"],
    "django_kue.overview.Watch": ["one_slot_of_four_busy"],
    "django_kue.queue.Queue": ["three_failures"],
    "django_kue.queue.Queue.find": ["one_receipt"],
    "django_kue.schedules.schedule.Schedule": ["schedule_of_the_report"],
    "django_kue.schedules.verbs.all": ["north_paused"],
    "django_kue.templatetags.kue.ago": ["standing_clock"],
    "django_kue.testing.modes.Kue.assert_count": ["three_enqueued"],
    "django_kue.testing.modes.Kue.assert_enqueued": ["two_of_one_order_enqueued"],
    "django_kue.testing.unittests.KueTestMixin": ["its_tests_pass"],
}


@pytest.fixture(autouse=True)
def nothing_stays_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples declare jobs and schedules of their own."""
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    monkeypatch.setattr(declared, "_wishes", dict(declared._wishes))
    monkeypatch.setattr(builtins, "_", None, raising=False)  # what an example shows is kept there


# jobs


@pytest.fixture
def well_known_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the one job that's enqueued."""
    monkeypatch.setattr(ids, "new_key", lambda: KEY)
    monkeypatch.setattr(ids, "new_keys", lambda count: [KEY])


@pytest.fixture
def one_failure() -> None:
    fail(-1)


@pytest.fixture
def three_failures() -> None:
    fail(-1, -2, -3)


def fail(*order_ids: int) -> None:
    for order_id in order_ids:
        send_receipt.using(attempts=1).enqueue(order_id)
    WorkerThread("email", is_burst=True).start().join()


@pytest.fixture
def one_receipt() -> None:
    send_receipt.enqueue(17)


@pytest.fixture
def two_of_one_order_enqueued(kue: Kue) -> Names:
    send_receipt.enqueue(17)
    send_receipt.using(delay=60).enqueue(17)
    return {"kue": kue}


@pytest.fixture
def three_enqueued(kue: Kue) -> Names:
    send_receipt.enqueue_many([(17,), (18,), (19,)])
    return {"kue": kue}


@pytest.fixture
def two_events(well_known_id: None) -> Names:
    """A job is enqueued and the queue paused, as soon as somebody listens; ``listen()`` ends after that."""

    def act() -> None:
        wait_until(lambda: redis_client().pubsub_channels() and redis_client().hexists("kue:{email}:h", "ev"))
        send_receipt.enqueue(17)
        get_queue("email").pause()

    def listen_for_a_while(queue: str) -> Iterator[Event]:
        acting = threading.Thread(target=act)
        acting.start()
        told = listen(queue)
        yield from itertools.islice(told, 2)
        told.close()  # type: ignore[attr-defined]
        acting.join()

    return {"listen": listen_for_a_while}


# workers and their runs


@pytest.fixture
def worker() -> Iterator[None]:
    with WorkerThread("email"):
        yield


@pytest.fixture
def one_slot_of_four_busy() -> None:
    send(moves.announce("one", b"{}", busy=1, slots=4))


@pytest.fixture
def rows() -> Names:
    return {"rows": ["one", "two", "three"]}


@pytest.fixture
def picture() -> Names:
    return {"name": "cat.png", "width": 640}


@pytest.fixture
def inside_a_run() -> Names:
    """The examples are run by a job, which must have progress or log lines afterwards."""

    def run(examples: Callable[[], None]) -> None:
        with inline():
            done = job(name="shop.jobs.example")(lambda: examples()).enqueue().refresh()
            assert done.progress == 100 or done.logs()

    return {"__run__": run}


# schedules


@pytest.fixture
def schedule_of_the_report() -> None:
    schedules.create("weekly report", weekly_report, cron="30 2 * * mon", args=["north"])


@pytest.fixture
def north_paused() -> None:
    for name in ("north", "south"):
        schedules.create(name, weekly_report, cron="30 2 * * mon", args=[name])
    schedules.pause("north")


# settings


@pytest.fixture
def only_defaults(settings: Any) -> None:
    settings.KUE = {"REDIS": settings.KUE["REDIS"]}


@pytest.fixture
def nightly_in_the_settings(settings: Any) -> None:
    schedule = {"JOB": weekly_report.name, "CRON": "30 2 * * *", "ARGS": ["north"]}
    settings.KUE = settings.KUE | {"SCHEDULES": {"nightly": schedule}}


@pytest.fixture
def server_of_its_own(settings: Any) -> Iterator[None]:
    from django_kue import embedded

    with tempfile.TemporaryDirectory() as folder:  # pytest's own are too long for a socket's name
        settings.DEBUG, settings.BASE_DIR = True, Path(folder) / "shop"
        settings.BASE_DIR.mkdir()
        yield
        embedded.stop(embedded.project_folder())


@pytest.fixture
def logging_settings() -> Iterator[Names]:
    config: dict[str, Any] = {"version": 1, "formatters": {}}
    yield {"LOGGING": config}
    configurator = logging.config.DictConfigurator(config)
    assert configurator.configure_filter(config["filters"]["job"])
    assert configurator.configure_formatter(config["formatters"]["plain"])


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_TOKEN", "a long random text")


# other packages


@pytest.fixture
def structlog() -> Iterator[Names]:
    package = pytest.importorskip("structlog")
    yield {"structlog": package}
    package.reset_defaults()


@pytest.fixture
def unfold() -> Names:
    pytest.importorskip("unfold.admin")
    return {"unfold": import_module("unfold")}


@pytest.fixture
def registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("prometheus_client")
    monkeypatch.setattr(package, "REGISTRY", package.CollectorRegistry())


# the rest


@pytest.fixture
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> Names:
    class Standing(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2031, 5, 1, 9, 35, tzinfo=UTC)

    monkeypatch.setattr("django_kue.templatetags.kue.datetime", Standing)
    return {"five_minutes_before": Standing.now() - timedelta(minutes=5)}


@pytest.fixture
def its_tests_pass(db: None, settings: Any) -> Iterator[Names]:
    settings.ROOT_URLCONF = __name__
    base = type("TestCase", (TestCase,), {})
    yield {"TestCase": base}
    [case] = base.__subclasses__()
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


# ── the tests ──


@pytest.mark.parametrize("docstring", [pytest.param(one, id=one.name) for one in DOCSTRINGS])
def test_the_examples_of_a_docstring_are_true(docstring: Docstring, request: pytest.FixtureRequest) -> None:
    names = names_for(docstring, request)
    examples = docstring.examples(names)
    runner, said = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS), []
    names.get("__run__", lambda run: run())(lambda: runner.run(examples, out=said.append, clear_globs=False))
    if runner.failures:
        pytest.fail("".join(said), pytrace=False)
    assert runner.tries == len(examples.examples)


def names_for(docstring: Docstring, request: pytest.FixtureRequest) -> Names:
    try:
        module = import_module(docstring.module)
    except (ModuleNotFoundError, ImproperlyConfigured) as error:
        missing = getattr(error.__cause__ or error, "name", None)
        if missing is None or missing.startswith("django_kue"):
            raise
        pytest.skip(str(error))
    names = vars(module) | PROJECT
    for fixture in NEEDS.get(docstring.name, []):
        names |= request.getfixturevalue(fixture) or {}
    return names


def test_no_example_is_overlooked() -> None:
    written = sum(file.read_text("utf-8").count(">>> ") for file in PACKAGE.rglob("*.py"))
    assert written == sum(len(docstring.examples({}).examples) for docstring in DOCSTRINGS) > 0


def test_needs_are_only_noted_for_docstrings_that_exist() -> None:
    assert NEEDS.keys() - {one.name for one in DOCSTRINGS} == set()


def test_no_example_is_skipped() -> None:
    skipped = [
        docstring.name
        for docstring in DOCSTRINGS
        if any(doctest.SKIP in example.options for example in docstring.examples({}).examples)
    ]
    assert skipped == []
