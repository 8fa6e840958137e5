"""A Redis that's full refuses new jobs and lets everything else go on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from django_kue import EnqueueError, job
from django_kue.queue import Queue
from django_kue.states import State
from django_kue.store import forget_links, moves, send
from django_kue.workers import workers
from tests.conftest import free_port, start_redis
from tests.test_engine.hands import Hands, completed, completed_kept, failed, job_of, put, rescue, retried

QUEUE = Queue("default")


@job(name="tests.full")
def full() -> None: ...


@pytest.fixture
def server(settings: Any, tmp_path: Path) -> Iterator[redis.Redis]:
    port = free_port()
    process: subprocess.Popen[bytes] = start_redis(port, str(tmp_path), "--maxmemory-policy", "noeviction")
    settings.KUE = {**settings.KUE, "REDIS": f"redis://127.0.0.1:{port}/0", "ENQUEUE_TIMEOUT": 1}
    client = redis.Redis(port=port)
    yield client
    client.close()
    forget_links()
    process.kill()
    process.wait()


def test_enqueue_is_refused_with_the_reason_and_stores_nothing(server: redis.Redis) -> None:
    full.enqueue()
    server.config_set("maxmemory", 1)
    before = time.monotonic()
    for _ in range(2):
        with pytest.raises(EnqueueError, match=r"not enqueued.*maxmemory"):
            full.enqueue()
        with pytest.raises(EnqueueError, match=r"not enqueued.*maxmemory"):
            full.using(delay=60).enqueue()
    assert time.monotonic() - before < 6
    assert QUEUE.counts()["waiting"] == 1
    server.config_set("maxmemory", 0)
    full.enqueue()
    assert QUEUE.counts() == {**QUEUE.counts(), "waiting": 2, "delayed": 0}


def test_workers_go_on_and_people_can_steer(server: redis.Redis) -> None:
    keys = put(count=12)
    hands, other = Hands(name="w1"), Hands(name="w2")
    assert hands.take(6) == keys[:6]
    server.config_set("maxmemory", 1)
    assert other.take(1) == [keys[6]]
    outcomes = [completed("ok"), failed(), retried(), retried(60_000), completed_kept(60_000), b"b"]
    turn = hands.turn(2, dict(zip(keys[:6], outcomes, strict=True)))
    assert turn.refused == []
    assert [key.decode() for key in turn.keys] == [keys[5], keys[7]]
    assert job_of(keys[0]).result == "ok"
    assert hands.beat().is_alive
    assert hands.report(keys[5], "p", b"[50,null]") == []
    assert hands.report(keys[5], "l", b"a line") == []
    assert send(moves.announce("w1", b"{}"))[0] == ""
    [worker] = workers()
    worker.stop()
    assert send(moves.announce("w1", b"{}"))[0] == "stop"
    job_of(keys[7]).cancel()
    assert hands.turn(0, {keys[7]: completed()}).cancelled == [keys[7].encode()]
    job_of(keys[8]).cancel()
    job_of(keys[9]).remove()
    job_of(keys[3]).promote()
    job_of(keys[1]).retry()
    job_of(keys[10]).set_priority(3)
    assert QUEUE.pause()
    assert QUEUE.resume()
    server.config_set("maxmemory", 0)
    other.let_lease_run_out(server)
    server.config_set("maxmemory", 1)
    assert rescue() == [keys[6].encode()]
    assert hands.sync() == [keys[5]]
    hands.take(1)
    hands.bury()
    assert QUEUE.clean("completed") == 2
    counts = QUEUE.counts()
    assert counts["waiting"] >= 4
    assert QUEUE.empty() == counts["waiting"] + counts["delayed"]
    assert job_of(keys[8]).state is State.CANCELLED
