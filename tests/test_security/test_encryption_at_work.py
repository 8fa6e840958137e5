"""Jobs of a worker that has ``ENCRYPTION_KEYS``: sealed wherever they stand, open to who asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.test import Client

from django_kue import JobFailed
from django_kue.conf import settings
from tests.app import classified
from tests.conftest import redis_client
from tests.test_cli.hands import kue
from tests.test_security.conftest import stored
from tests.test_security.test_encryption import MARK, NEW, OLD, USER, keys
from tests.worker_process import WorkerProcess, finished, wait_for


@pytest.fixture(autouse=True)
def sealed() -> Iterator[None]:
    with keys(NEW):
        yield


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess(
        "--processes", "1", "--threads", "2", KUE_TEST_ENCRYPTION_KEYS=f"{NEW} {OLD}"
    ) as worker:
        yield worker.wait_started()


def test_nothing_that_a_job_brings_along_can_be_read_in_redis(worker: WorkerProcess, tmp_path: Path) -> None:
    door = tmp_path / "open"
    job = classified.greet.enqueue(USER, str(door))
    seen = wait_for(lambda: now if (now := job.refresh()).progress and now.logs() else None)
    assert seen.progress_data == {"for": USER}
    assert [str(line) for line in seen.logs()] == [f"for {USER}"]
    door.touch()
    assert job.wait(timeout=10) == {"greeting": f"Hello {USER}"}
    failure = finished(classified.complain.enqueue(USER))
    assert failure.error is not None
    assert failure.error.message == f"{USER} is unknown"
    assert finished(classified.agreet.enqueue(USER)).result == f"Hello {USER}"
    assert {key: value for key, value in stored("*kue*").items() if MARK in value} == {}
    assert [run.error.message for run in failure.runs() if run.error] == [f"{USER} is unknown"]


def test_events_travel_sealed_and_are_opened_by_who_listens(worker: WorkerProcess, tmp_path: Path) -> None:
    client = redis_client()
    listener = client.pubsub()
    listener.subscribe("kue:{default}:ev")
    client.hset("kue:{default}:h", "ev", 2**50)
    data = {}
    job = classified.greet.enqueue(USER, str(tmp_path / "open"))
    for event in job.events(timeout=5):
        data[event.name] = event.data
        (tmp_path / "open").touch()
    failure = classified.complain.enqueue(USER)
    with pytest.raises(JobFailed, match=f"{USER} is unknown"):
        failure.wait(timeout=5)
    heard = b""
    while message := listener.get_message(timeout=0.3):
        heard += message["data"] if isinstance(message["data"], bytes) else b""
    listener.close()
    assert data["completed"] == {"result": {"greeting": f"Hello {USER}"}}
    for name in (b"progressed", b"completed", b"failed"):
        assert name in heard
    assert MARK not in heard


def test_a_retry_keeps_the_seal_and_runs_again(worker: WorkerProcess) -> None:
    job = finished(classified.complain.enqueue(USER))
    job.retry()
    again = wait_for(lambda: now if (now := finished(job)).finished_at != job.finished_at else None)
    assert again.error is not None
    assert again.error.message == f"{USER} is unknown"


def test_the_keys_are_on_no_page_and_in_no_message(worker: WorkerProcess, boss: Client) -> None:
    assert NEW not in worker.log
    assert NEW not in kue("doctor").out
    assert NEW not in boss.get("/admin/django_kue/dashboard/").content.decode()
    assert Fernet(NEW)
    assert settings.ENCRYPTION_KEYS == (NEW,)
