"""Log lines of a job's code say which job it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from django_kue import current_job, job
from django_kue.logging import JobFilter, add_job
from django_kue.testing import Kue, WorkerThread
from tests.app import jobs
from tests.worker_process import WorkerProcess, finished

logger = logging.getLogger("tests.logging")


@job(name="tests.logging.speak", queue="email", attempts=2)
def speak(text: str) -> None:
    logger.warning(text)
    if current_job().attempt == 1:
        raise ValueError("once more")


@job(name="tests.logging.aspeak")
async def aspeak(text: str) -> None:
    logger.warning(text)


@pytest.fixture
def written() -> Iterator[StringIO]:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("{message} {job_id} {job_name} {queue} {attempt}", style="{"))
    handler.addFilter(JobFilter())
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def test_each_line_of_a_run_has_its_job_and_its_attempt(written: StringIO) -> None:
    put = speak.enqueue("hello")
    WorkerThread(is_burst=True).start().join()
    assert written.getvalue().splitlines() == [
        f"hello {put.id} tests.logging.speak email 1",
        f"hello {put.id} tests.logging.speak email 2",
    ]


def test_coroutine_functions_too(written: StringIO) -> None:
    put = aspeak.enqueue("hello")
    WorkerThread(is_burst=True).start().join()
    assert written.getvalue() == f"hello {put.id} tests.logging.aspeak default 1\n"


def test_the_test_mode_too(written: StringIO, kue: Kue) -> None:
    put = aspeak.enqueue("hello")
    kue.drain()
    assert written.getvalue() == f"hello {put.id} tests.logging.aspeak default 1\n"


def test_outside_of_jobs_there_is_a_dash_or_what_you_want(written: StringIO) -> None:
    logger.warning("hello")
    assert written.getvalue() == "hello - - - -\n"
    record = logging.makeLogRecord({"msg": "hello"})
    assert JobFilter(nothing=None).filter(record)
    assert (record.job_id, record.attempt) == (None, None)  # type: ignore[attr-defined]


def test_what_a_line_says_of_itself_stands() -> None:
    record = logging.makeLogRecord({"msg": "done", "job_id": "email.1"})
    JobFilter().filter(record)
    assert (record.job_id, record.queue) == ("email.1", "-")  # type: ignore[attr-defined]


def test_structlog_gets_the_same_names(kue: Kue) -> None:
    seen: list[dict[str, object]] = []

    @job(name="tests.logging.structured")
    def structured() -> None:
        seen.append(dict(add_job(None, "info", {"event": "hello", "queue": "mine"})))

    put = structured.enqueue()
    kue.drain()
    facts = {"job_id": put.id, "job_name": "tests.logging.structured", "attempt": 1}
    assert seen == [{"event": "hello", "queue": "mine", **facts}]
    render = structlog.processors.JSONRenderer()
    assert json.loads(render(None, "info", add_job(None, "info", {"event": "bye"}))) == {"event": "bye"}


def test_a_workers_own_lines_have_the_job_that_they_are_about() -> None:
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"job": {"()": "django_kue.logging.JobFilter"}},
        "formatters": {
            "plain": {"format": "<{job_id} {job_name} {queue} {attempt}> {message}", "style": "{"}
        },
        "handlers": {"out": {"class": "logging.StreamHandler", "filters": ["job"], "formatter": "plain"}},
        "loggers": {"django_kue": {"handlers": ["out"], "level": "INFO", "propagate": False}},
    }
    with WorkerProcess("--processes", "1", KUE_TEST_LOGGING=json.dumps(config)) as worker:
        worker.wait_started()
        put = finished(jobs.add.enqueue(1))
        assert worker.stop() == 0
        assert f"<{put.id} {put.name} default 1> done" in worker.log
        assert "<- - - ->" in worker.log
