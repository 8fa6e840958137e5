"""Foreign or corrupt data under our keys: that job fails with a clear error, and the worker goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from django_kue import ids
from django_kue.conf import settings
from django_kue.handover import submit
from django_kue.jobs import Job
from django_kue.records import NewJob
from tests.app import jobs
from tests.conftest import redis_client
from tests.worker_process import WorkerProcess, broke, counts, finished, in_state, wait_for, wait_marks


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "2", KUE_TEST_LEASE="2") as worker:
        yield worker.wait_started()


@pytest.fixture(autouse=True)
def is_unharmed(worker: WorkerProcess) -> Iterator[None]:
    worker.bookmark()
    child = worker.child()
    yield
    assert worker.child() == child, worker.new_log
    assert not broke(worker.new_log), worker.new_log[-3000:]
    assert finished(jobs.add.using(queue="email").enqueue(1)).result == 3


def put_raw(record: bytes, key: bytes | None = None, queue: str = "default") -> Job:
    """A job with a record of one's own words, as another program could have left it."""
    [key] = [key] if key else ids.new_keys(1)
    client = redis_client()
    prefix = f"{settings.PREFIX}:{{{queue}}}:"
    with client.pipeline() as pipe:
        pipe.hset(prefix + "d", key, record)
        pipe.rpush(prefix + "w:0", key)
        pipe.zadd(prefix + "p", {"0": 0})
        pipe.zadd(prefix + "k", {"0": 0})
        pipe.execute()
    return Job.get(f"{queue}.{key.decode()}")


NAME = "tests.app.jobs.add"


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"no bars at all",
        b"\xff\xfe\x00|\xff|\xff",
        b"|" + NAME.encode() + b"|{not json",
        b"|" + NAME.encode() + b"|42",
        b"|" + NAME.encode() + b'|{"a": 1, "z": 2}',
        b"|" + NAME.encode() + b'|{"a": 1}',
        b"|" + NAME.encode() + b'|{"a": [1], "k": []}',
        b"|" + NAME.encode() + b'|{"a": [1], "k": {"b": 1, "c": 2}}',
        b"|" + NAME.encode() + b"|[1,2,3,4,5]",
        b"|" + NAME.encode() + b"|[[[",
        b"|" + NAME.encode() + b"|" + b"[" * 100_000,
        b"o4|" + NAME.encode() + b"|[1,2][1]",
        b"o99|" + NAME.encode() + b"|{}[1]",
        b"ox|" + NAME.encode() + b"|{}[1]",
        b"o17|" + NAME.encode() + b'|{"attempts":"x"} [1]',
        b"o14|" + NAME.encode() + b'|{"timeout":-1}[1]',
        b"o14|" + NAME.encode() + b'|{"backoff":{}}[1]',
        b"o17|" + NAME.encode() + b'|{"backoff":[1,2]}[1]',
        b"mx|" + NAME.encode() + b"|[1]",
        b"zx|" + NAME.encode() + b"|[1]",
        b"z-5|" + NAME.encode() + b"|[1]",
        b"dx|" + NAME.encode() + b"|[1]",
        b"cx|" + NAME.encode() + b"|[1]",
        b",,,|" + NAME.encode() + b"|[1]",
        b'|' + NAME.encode() + b'|[{"__kue__": "model", "v": 1}]',
    ],
    ids=range(26),
)  # fmt: skip
def test_a_corrupt_record_fails_its_job_and_nothing_else(record: bytes) -> None:
    job = put_raw(record)
    after = jobs.add.enqueue(2)
    assert finished(after).result == 4
    job = finished(job)
    if job.state == "completed":  # read as it could be
        assert job.result in (3, 4)
    else:
        assert job.state == "failed"
        assert job.error.message
    assert "active" not in counts()


@pytest.mark.parametrize(
    "key", [b"x", b"short", b"a" * 200, b"with|bars~and", b"\xff\xfe", b"22-characters-not-made"]
)
def test_a_foreign_key_is_settled_too(worker: WorkerProcess, key: bytes) -> None:
    client = redis_client()
    with client.pipeline() as pipe:
        pipe.hset("kue:{default}:d", key, b"|tests.app.jobs.add|[1]")
        pipe.rpush("kue:{default}:w:0", key)
        pipe.zadd("kue:{default}:p", {"0": 0})
        pipe.zadd("kue:{default}:k", {"0": 0})
        pipe.execute()
    assert finished(jobs.add.enqueue(2)).result == 4
    wait_for(lambda: not counts().get("active") and not counts().get("waiting"), what=lambda: str(counts()))


def test_entries_that_lead_nowhere_are_passed() -> None:
    client = redis_client()
    client.rpush("kue:{default}:w:0", *[f"nobody-{n}" for n in range(1000)])
    client.zadd("kue:{default}:p", {"0": 0})
    assert finished(jobs.add.enqueue(1)).result == 3


def test_a_job_whose_function_is_unknown_stays_and_is_said_once_a_minute(worker: WorkerProcess) -> None:
    for _ in range(3):
        put_raw(b"|shop.jobs.gone|[1]")
    job = put_raw(b"|shop.jobs.gone|[1]")
    job = in_state(job, "delayed")
    assert job.is_parked
    assert job.attempts_made == 0
    assert finished(jobs.add.enqueue(1)).result == 3
    assert "unknown job shop.jobs.gone" in worker.wait_log("unknown job")
    assert worker.new_log.count("unknown job") == 1
    # now and then one of them is taken, and put aside once more
    wait_for(lambda: counts() == {"delayed": 4, "completed": 1}, what=lambda: str(counts()))


def test_a_record_of_a_newer_release_is_left_for_who_can_read_it(worker: WorkerProcess) -> None:
    job = put_raw(b"v2|whatever a newer release|writes")
    assert in_state(job, "delayed").state == "delayed"
    assert finished(jobs.add.enqueue(1)).result == 3
    assert redis_client().hget("kue:{default}:d", job.key).endswith(b"|whatever a newer release|writes")


@pytest.mark.parametrize(
    "suffix", ["a", "d", "p", "w:0", "hb", "z", "c", "o", "k", "tt", "st", "g", "cm", "h", "sd"]
)
def test_a_key_of_the_wrong_type_stops_only_its_queue(worker: WorkerProcess, suffix: str) -> None:
    client = redis_client()
    running = jobs.nap.enqueue(0.3, "before")
    wait_marks("before")
    name = "kue:{default}:" + suffix
    old = client.dump(name)
    client.delete(name)
    client.set(name, "foreign")
    for n in range(3):
        assert finished(jobs.add.using(queue="other").enqueue(n)).result == n + 2
    client.delete(name)
    if old is not None:
        client.restore(name, 0, old, replace=True)
    client.zadd("kue:{default}:k", {"0": 0})
    submit("default", [NewJob(key=ids.new_keys(1)[0], name=NAME, arguments=b"[5]")])
    wait_for(lambda: counts().get("completed", 0) >= 1, 6, lambda: f"{counts()} {worker.new_log}")
    assert running


def test_a_broken_queue_is_said_now_and_then_not_again_and_again(worker: WorkerProcess) -> None:
    jobs.nap.enqueue(0.1, "untold")  # its outcome can't be told
    wait_marks("untold")
    redis_client().delete("kue:{default}:a")
    redis_client().set("kue:{default}:a", "foreign")
    spent = worker.cpu_seconds()
    until = time.monotonic() + 2.5
    wait_for(lambda: time.monotonic() > until, 5)
    assert worker.cpu_seconds() - spent < 0.6
    assert 1 <= worker.new_log.count("WRONGTYPE") <= 12


def test_what_workers_say_of_themselves_may_be_foreign(worker: WorkerProcess) -> None:
    client = redis_client()
    for name in ("{kue}:workers", "{kue}:pulses", "{kue}:orders", "{kue}:queues"):
        client.set(name, "foreign")
    until = time.monotonic() + 2.5
    wait_for(lambda: time.monotonic() > until, 5)
    from django_kue.handover import _known

    _known.add((settings.PREFIX, "default"))
    _known.add((settings.PREFIX, "email"))
    assert finished(jobs.add.enqueue(1)).result == 3


def test_arguments_of_another_signature_fail_with_a_type_error() -> None:
    job = finished(put_raw(b"|tests.app.jobs.leave|" + json.dumps([1]).encode()))
    assert (job.state, job.error.type) == ("failed", "builtins.TypeError")
