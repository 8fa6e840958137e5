"""A real worker among jobs that somebody else wrote into Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from django_kue import Job, registry
from django_kue.rows import JobError
from tests.app import classified, jobs
from tests.conftest import redis_client
from tests.test_worker.test_foreign_data import put_raw
from tests.worker_process import WorkerProcess, finished, in_state, marks, wait_for

# What pickle makes of os.system("id").
PICKLE = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94."


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "2") as worker:
        yield worker.wait_started()


@pytest.fixture(autouse=True)
def begin(worker: WorkerProcess) -> None:
    worker.bookmark()


STRANGE_NAMES = (
    "os.system", "posix.system", "builtins.eval", "__import__", "subprocess:run", "a:b", "../canary",
    "tests.app.canary", "tests.app.canary.boom", "tests.app.canary:boom", "tests.app.jobs.mark",
    "django.core.management.call_command", "django_kue.jobs.Job.remove",
)  # fmt: skip


def test_only_registered_functions_run_and_no_name_leads_to_an_import(worker: WorkerProcess) -> None:
    strangers = [put_raw(f'|{name}|["canary","called"]'.encode()) for name in STRANGE_NAMES]
    for job in strangers:
        assert in_state(job, "delayed").is_parked
        assert registry.get(job.refresh().name) is None
    asked = finished(classified.loaded.enqueue(["tests.app.canary", "tests.app.jobs"]))
    assert asked.result == ["tests.app.jobs"]
    assert marks("canary") == []


def test_an_error_s_type_is_text_and_no_exception_is_made_of_it(worker: WorkerProcess) -> None:
    text = b'{"type":"tests.app.canary.boom","message":"x","traceback":"x"}'
    job = finished(jobs.fail.enqueue())
    redis_client().hset("kue:{default}:o", job.key, b"f|1|w|1|" + text)
    again = job.refresh()
    assert type(again.error) is JobError
    assert again.error.type == "tests.app.canary.boom"
    assert marks("canary") == []


@pytest.mark.parametrize(
    "record",
    [PICKLE, b"|tests.app.jobs.leave|" + PICKLE, PICKLE + b"||", b"o9|tests.app.jobs.leave|" + PICKLE],
)
def test_pickled_bytes_are_bytes_that_are_no_job(worker: WorkerProcess, record: bytes) -> None:
    job = put_raw(record)
    ended = wait_for(lambda: now if (now := job.refresh()).state in ("failed", "delayed") else None)
    assert ended.error is None or "Unreadable" in ended.error.type or "Codec" in ended.error.type
    assert finished(jobs.add.enqueue(1)).result == 3


def test_a_name_from_redis_is_one_escaped_line_of_the_log(worker: WorkerProcess) -> None:
    put_raw(b"|shop.gone\n12:00:00 ERROR    forged line \x1b[2J\xe2\x80\xae|[1]")
    line = worker.wait_log("unknown job shop.gone")
    assert r"shop.gone\n12:00:00 ERROR    forged line \x1b[2J\u202e" in line
    assert "\x1b" not in worker.new_log
    assert not [text for text in worker.new_log.splitlines() if text.startswith("12:00:00 ERROR    forged")]


def test_a_key_from_redis_is_one_escaped_line_of_the_log(worker: WorkerProcess) -> None:
    key = b"k\n12:00:00 ERROR    forged \x1b[2J"
    client = redis_client()
    client.hset("kue:{default}:d", key, b"|tests.app.jobs.add|[1]")
    client.rpush("kue:{default}:w:0", key)
    client.zadd("kue:{default}:p", {"0": 0})
    client.zadd("kue:{default}:k", {"0": 0})
    line = worker.wait_log("forged")
    assert r"default.k\n12:00:00 ERROR    forged \x1b[2J" in line
    assert "\x1b" not in worker.new_log


@pytest.mark.parametrize("value", [2**53 + 1, 2**64 - 1, 2**70, "\x00\u2028</script>", [0.1, {"$int": "x"}]])
def test_results_come_back_as_they_were(worker: WorkerProcess, value: Any) -> None:
    job = classified.echo.enqueue(value)
    assert job.wait(timeout=10) == value
    assert Job.get(job.id).result == value


def test_a_worker_listens_on_no_port(worker: WorkerProcess) -> None:
    for pid in (worker.pid, worker.child()):
        open_ports = psutil.Process(pid).net_connections(kind="inet")
        assert [one for one in open_ports if one.status == psutil.CONN_LISTEN] == []
