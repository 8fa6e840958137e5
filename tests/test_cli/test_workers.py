"""``kue workers``, and the workers' records."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from django_kue.store import ask, moves
from django_kue.workers import WorkerState, workers
from tests.conftest import redis_client
from tests.test_cli.hands import kue, kue_process
from tests.worker_process import WorkerProcess, wait_for


def announce(worker: str = "w1", *, age: float = 0, **said: Any) -> None:
    """As a worker's supervisor that was heard of ``age`` seconds ago."""
    portrait = {
        "host": "web1", "pid": 4711, "version": "0.1.0", "queues": ["default"],
        "threads": 8, "coroutines": 100, "started_at": time.time() - 60, "state": "running", "done": 12,
        "processes": [{"pid": 4712, "jobs": ["default.AaIO0T7uUtXcBpd13f3FTQ"], "done": 12}],
    } | said  # fmt: skip
    ask(moves.announce(worker, json.dumps(portrait).encode()))
    if age:
        pulses = redis_client()
        pulses.zadd("{kue}:pulses", {worker: pulses.time()[0] * 1000 - age * 1000})


def test_workers_are_listed_with_what_they_run() -> None:
    announce()
    lines = kue("workers").lines
    assert lines[1].split()[:3] == ["w1", "running", "default"]
    assert "1 × (8 + 100)" in lines[1]
    assert lines[2] == "process 4712 of w1 runs default.AaIO0T7uUtXcBpd13f3FTQ"


def test_no_worker_is_said_with_the_remedy() -> None:
    assert kue("workers").lines == ["No worker is running. Start one: manage.py runworker"]
    assert kue("workers", "--json").json == []


def test_a_worker_is_a_record() -> None:
    announce()
    [worker] = workers()
    assert (worker.id, worker.host, worker.pid, worker.queues) == ("w1", "web1", 4711, ("default",))
    assert (worker.threads, worker.coroutines, worker.done) == (8, 100, 12)
    assert worker.jobs == ("default.AaIO0T7uUtXcBpd13f3FTQ",)
    assert worker.state is WorkerState.RUNNING


@pytest.mark.parametrize(
    ("age", "said", "state"),
    [(3, "running", "running"), (3, "stopping", "stopping"), (30, "running", "lost")],
)
def test_silence_makes_a_worker_lost(age: float, said: str, state: str) -> None:
    announce(age=age, state=said)
    assert [worker.state for worker in workers()] == [state]
    assert kue("workers", "--json").json[0]["state"] == state


@pytest.mark.parametrize(
    "text", [b"rubbish", b"[1]", b'{"pid": "x"}', b'{"processes": [1]}', b"\xff", b'{"queues": 3}']
)
def test_foreign_words_leave_the_worker_in_the_list(text: bytes) -> None:
    ask(moves.announce("odd\x1b[31m", text))
    announce("w1")
    assert {worker.id for worker in workers()} == {"odd\x1b[31m", "w1"}
    said = kue("workers")
    assert said.code == 0
    assert "\x1b" not in said.out


def test_an_order_to_stop_reaches_the_worker_by_its_id_or_the_beginning_of_it() -> None:
    announce("web1:4711:a1b2")
    announce("web2:4711:a1b2")
    assert kue("workers", "--stop", "web1").lines == ["web1:4711:a1b2 is asked to stop; 1 job running there."]
    assert ask(moves.announce("web1:4711:a1b2", b"{}")) == "stop"
    assert ask(moves.announce("web2:4711:a1b2", b"{}")) == ""


def test_an_order_that_nobody_would_hear_is_refused() -> None:
    announce("w1", age=30)
    announce("w2")
    announce("w22")
    for words, message in (
        (["w1"], "it can't hear an order"),
        (["w3"], "There is no worker 'w3'; there are: w1, w2, w22"),
        (["w"], "Several workers begin with 'w'"),
    ):
        said = kue("workers", "--stop", *words)
        assert said.code == 1
        assert message in said.err
    assert kue("workers", "--stop", "w2").code == 0
    [gone] = [worker for worker in workers() if worker.id == "w22"]
    ask(moves.announce("w22", b"", is_leaving=True))
    with pytest.raises(LookupError, match="no worker w22 any more"):
        gone.stop()


@pytest.mark.parametrize("start", ["", " "])
def test_a_variable_that_is_not_set_stops_nobody(start: str) -> None:
    announce("w1")
    said = kue_process("workers", "--stop", start)
    assert (said.code, said.out) == (2, "")
    assert "an id is empty" in said.err
    assert ask(moves.announce("w1", b"{}")) == ""


def test_a_real_worker_is_seen_and_stopped() -> None:
    with WorkerProcess("--processes", "1", "--queues", "default,email") as process:
        [seen] = wait_for(workers, what="the worker announces itself")
        assert seen.queues == ("default", "email")
        assert seen.state is WorkerState.RUNNING
        assert seen.pid == process.process.pid  # type: ignore[union-attr]
        assert kue("workers", "--stop", seen.id).code == 0
        assert process.process.wait(15) == 0  # type: ignore[union-attr]
    assert workers() == []
