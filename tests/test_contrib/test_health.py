"""Pages that say whether all is well, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from django_kue import get_queue
from django_kue.contrib import health
from django_kue.contrib.health import live, ready
from tests.conftest import redis_client
from tests.test_cli.hands import enqueued
from tests.test_cli.test_workers import announce

AWAY = {"REDIS": "redis://127.0.0.1:1/0", "ENQUEUE_TIMEOUT": 0.2}
ALL = ["default", "email", "other", "narrow", "slow"]


def asked(page: Callable[[HttpRequest], HttpResponse]) -> tuple[int, Any]:
    answer = page(RequestFactory().get("/healthz"))
    assert "no-store" in answer["Cache-Control"]
    return answer.status_code, json.loads(answer.content)


def test_a_process_that_answers_is_alive_even_without_redis() -> None:
    with override_settings(KUE=AWAY):
        assert asked(live) == (200, {"status": "ok"})


def test_all_is_ready_when_each_queue_has_a_worker() -> None:
    announce(queues=ALL)
    assert asked(ready()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "worker",
    [{"queues": ALL[:-1]}, {"queues": ALL, "state": "stopping"}, {"queues": ALL, "age": 3000}],
    ids=["serves another", "is stopping", "is lost"],
)
def test_a_queue_without_a_running_worker_is_not_ready(worker: dict[str, Any]) -> None:
    announce(**worker)
    assert asked(ready()) == (503, {"status": "error", "failing": ["workers"]})
    assert asked(ready(workers=False))[0] == 200


def test_only_the_queues_that_matter_are_looked_at() -> None:
    announce(queues=["email"])
    assert asked(ready(queues=["email"]))[0] == 200
    assert asked(ready(queues=["email", "other"]))[0] == 503


def test_a_queue_that_is_not_declared_is_an_error_when_the_urls_are_read() -> None:
    with pytest.raises(LookupError, match="emial.*Did you mean 'email'"):
        ready(queues=["emial"])


def test_a_job_that_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH", 0)
    page = ready(workers=False, oldest_waiting=100)
    enqueued(queue="email")
    assert asked(page)[0] == 200
    record = redis_client().hgetall("kue:{email}:d")
    [(key, text)] = record.items()
    old = b"d%d" % (redis_client().time()[0] * 1000 - 101_000)
    redis_client().hset("kue:{email}:d", key, old + b"|" + text.partition(b"|")[2])
    assert asked(page) == (503, {"status": "error", "failing": ["waiting"]})
    get_queue("email").pause()
    assert asked(page)[0] == 200


def test_redis_away_is_all_that_is_told_then() -> None:
    with override_settings(KUE=AWAY):
        assert asked(ready(oldest_waiting=1)) == (503, {"status": "error", "failing": ["redis"]})


def test_redis_is_asked_once_a_second_however_often_the_page_is(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def look(*args: Any) -> list[str]:
        looks.append(1)
        return []

    monkeypatch.setattr(health, "_failing", look)
    monkeypatch.setattr(health, "FRESH", 3600)
    page = ready()
    assert {asked(page)[0] for _ in range(50)} == {200}
    assert len(looks) == 1


def test_the_pages_are_only_read() -> None:
    assert [page(RequestFactory().post("/")).status_code for page in (live, ready())] == [405, 405]
