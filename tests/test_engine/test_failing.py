"""Failed jobs by function: every way into the failed state and out of it keeps the index right.

The audit after each test (conftest.py) compares the index with the failed jobs themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from django_kue import ids
from django_kue.handover import submit
from django_kue.queue import Queue
from django_kue.records import NewJob
from django_kue.store import ask, reads
from tests.conftest import redis_client
from tests.test_engine.hands import (
    Hands,
    completed,
    completed_kept,
    crashed,
    failed,
    job_of,
    put,
    put_one,
    rescue,
    wait_until,
)

QUEUE = Queue("default")
HOSTILE = ["", ":", "f", "fn:", "a:b", "a", "{x}", "a\x00b", "a\x00", "naïve", "\n", "x" * 300]


def put_named(name: str, count: int = 1) -> list[str]:
    return [
        key.decode() for key in submit("default", [NewJob(key=key, name=name) for key in ids.new_keys(count)])
    ]


def fail_named(name: str, count: int = 1, outcome: bytes = failed()) -> list[str]:
    keys = put_named(name, count)
    hands = Hands()
    hands.turn(0, dict.fromkeys(hands.take(count), outcome))
    return keys


def failing() -> dict[str, int]:
    return ask(reads.failing("default"))


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_any_text_can_be_a_functions_name_and_no_two_share_an_index(name: str) -> None:
    for other in HOSTILE:
        fail_named(other)
    assert failing() == dict.fromkeys(HOSTILE, 1)
    [job] = [job for job in QUEUE.jobs("failed") if job.name == name]
    job.retry()
    assert failing() == {other: 1 for other in HOSTILE if other != name}


def test_a_name_of_any_bytes_is_indexed() -> None:
    key = put_one()
    redis_client().hset("kue:{default}:d", key, b"|\xff\x00\xfe:|")
    hands = Hands()
    hands.settle(hands.take_one(), failed())
    assert list(failing().values()) == [1]
    job_of(key).remove()
    assert failing() == {}


LEAVE: dict[str, Callable[[list[str]], Any]] = {
    "retry": lambda keys: [job_of(key).retry() for key in keys],
    "retry_failed": lambda keys: QUEUE.retry_failed(),
    "remove": lambda keys: [job_of(key).remove() for key in keys],
    "clean": lambda keys: QUEUE.clean("failed"),
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_who_leaves_the_failed_leaves_the_index(leave: Callable[[list[str]], Any]) -> None:
    keys = fail_named("a", 3)
    assert failing() == {"a": 3}
    leave(keys)
    assert failing() == {}
    assert not redis_client().exists("kue:{default}:fn:a", "kue:{default}:fs")


def test_a_job_that_completed_after_all_is_no_longer_listed() -> None:
    [key] = fail_named("a")
    job_of(key).retry()
    hands = Hands()
    hands.settle(hands.take_one(), completed())
    assert failing() == {}


def test_what_is_trimmed_by_count_leaves_the_index(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"KEEP_FAILED": 3}}}
    for name in "abcde":
        fail_named(name)
        time.sleep(0.002)
    assert failing() == dict.fromkeys("cde", 1)


def test_what_is_trimmed_by_age_leaves_the_index(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"KEEP_FAILED_FOR": 0.05}}}
    fail_named("a", 2)
    time.sleep(0.1)
    rescue()
    assert failing() == {}


def test_a_job_with_a_keep_of_its_own_leaves_the_index_when_that_is_over() -> None:
    fail_named("a", outcome=failed(30))
    assert failing() == {"a": 1}

    def is_gone() -> bool:
        rescue()
        return failing() == {}

    wait_until(is_gone)


def test_a_failed_job_that_is_not_kept_is_never_listed() -> None:
    fail_named("a", outcome=failed(0))
    assert failing() == {}


def test_a_poison_pill_is_listed() -> None:
    put_named("a")
    for _ in range(3):
        hands = Hands()
        key = hands.take_one()
        hands.bury({key: crashed()})
    assert QUEUE.counts()["failed"] == 1
    assert failing() == {"a": 1}


@pytest.mark.foreign_data
def test_a_failed_job_whose_record_was_evicted_is_dropped_from_the_index_with_the_others() -> None:
    lost, kept = fail_named("a")[0], fail_named("b")[0]
    redis_client().hdel("kue:{default}:d", lost)
    assert QUEUE.clean("failed") == 2
    assert failing() == {}
    assert not redis_client().exists("kue:{default}:fn:a")
    assert kept


def test_completing_asks_nothing_of_the_index() -> None:
    put(count=50)
    hands = Hands()
    taken = hands.take(50)
    redis = redis_client()
    with redis.monitor() as monitor:
        heard = monitor.listen()
        hands.turn(0, {key: completed() if at % 2 else completed_kept(None) for at, key in enumerate(taken)})
        redis.echo("over")
        commands = []
        for command in heard:
            if command["command"].startswith("ECHO"):
                break
            commands.append(command)
    inner = [one["command"] for one in commands if one["client_type"] == "lua"]
    assert any(one.startswith("ZADD kue:{default}:c") for one in inner)
    assert not [one for one in inner if "}:fn:" in one or "}:fs" in one]
