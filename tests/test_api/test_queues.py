"""Queues, workers, and all of it in a few numbers."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_kue import get_queue, listing
from tests.test_admin.hands import failed_job, one_of_each
from tests.test_api.hands import call
from tests.test_engine.hands import put
from tests.worker_process import WorkerProcess, wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]

ONE_OF_EACH = dict.fromkeys(("delayed", "waiting", "active", "completed", "failed", "cancelled"), 1)


def test_all_queues_together_are_a_few_numbers(boss: Client) -> None:
    one_of_each("email")
    failed_job()

    stats = boss.get("/kue/stats").json()

    assert stats["counts"] == ONE_OF_EACH | {"failed": 2}
    assert stats["queues"] == 5
    assert stats["workers"] == 0
    assert stats["oldest_waiting"] > 0
    assert stats["work_time"] == get_queue("email").work_time()


def test_queues_are_listed_with_their_numbers(boss: Client) -> None:
    one_of_each("email")

    said = boss.get("/kue/queues").json()

    assert [queue["name"] for queue in said["queues"]] == ["default", "email", "narrow", "other", "slow"]
    assert said["queues"][1]["counts"] == ONE_OF_EACH
    assert said["queues"][1] == boss.get("/kue/queues/email").json() | {
        "oldest_waiting": said["queues"][1]["oldest_waiting"]
    }
    assert said["others"] == 0


def test_of_very_many_queues_the_first_are_listed_and_the_others_counted(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_QUEUES", 6)
    for number in range(3):
        put(f"forgotten{number}")

    said = boss.get("/kue/queues").json()

    assert (len(said["queues"]), said["others"]) == (6, 2)
    assert boss.get("/kue/stats").json()["queues"] == 8


def test_a_queue_is_paused_and_resumed_and_that_is_noted_once(boss: Client) -> None:
    for _ in range(2):
        paused = call(boss, "POST", "/kue/queues/email/pause").json()
        assert paused["paused_since"] is not None
        assert get_queue("email").is_paused
    for _ in range(2):
        assert call(boss, "POST", "/kue/queues/email/resume").json()["paused_since"] is None
        assert not get_queue("email").is_paused
    entries = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    assert [(name, text.partition(":")[0]) for name, text in entries] == [
        ("email", "Paused"),
        ("email", "Resumed"),
    ]


@pytest.mark.parametrize("name", ["nowhere", "*", "a b", "é", "email:d", "x" * 41])
@pytest.mark.parametrize(
    ("method", "route"), [("GET", ""), ("GET", "/events"), ("POST", "/pause"), ("POST", "/resume")]
)
def test_a_queue_that_there_is_not_is_not_found(boss: Client, name: str, method: str, route: str) -> None:
    response = call(boss, method, f"/kue/queues/{name}{route}")

    assert response.status_code == (400 if len(name) > 40 else 404)


def test_workers_are_listed_with_what_they_run(boss: Client) -> None:
    with WorkerProcess("--processes", "1", "--queues", "email,default") as process:
        process.wait_started()
        workers: list[Any] = wait_for(lambda: boss.get("/kue/workers").json()["workers"], 20, "the worker")
    [worker] = workers
    assert worker["state"] == "running"
    assert worker["queues"] == ["email", "default"]
    assert worker["slots"] >= 0
    assert worker["jobs"] == []
