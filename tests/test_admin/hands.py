"""Jobs in every state, and the list of them as the admin shows it."""

from __future__ import annotations

import re
import time
from typing import Any

from django.test import Client

from tests.test_cli.hands import ended, enqueued
from tests.test_engine.hands import CANCELLED, Hands, completed, failed

LIST = "/admin/django_kue/job/"


def tick() -> None:
    """Wait for the next millisecond, so that what's made then is newer."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= now:
        pass


def failed_job(message: str = "it broke", name: str = "tests.app.jobs.fail", **options: Any) -> str:
    tick()
    return ended(failed(message=message), name, **options)


def completed_job(**options: Any) -> str:
    return ended(completed(3), **options)


def cancelled_job(**options: Any) -> str:
    return ended(CANCELLED, **options)


def delayed_job(**options: Any) -> str:
    return enqueued("tests.app.jobs.add", 1, **{"delay": 3_600_000, **options})


def active_job(queue: str = "default", worker: str = "host:1:a") -> str:
    job_id = enqueued("tests.app.jobs.add", 1, queue=queue)
    hands = Hands(queue, worker)
    hands.take()
    return job_id


def waiting_job(**options: Any) -> str:
    tick()
    return enqueued("tests.app.jobs.add", 1, **options)


def one_of_each(queue: str = "default") -> dict[str, str]:
    """A job in each state; their ids. Each is taken before another waits."""
    return {
        "failed": failed_job(queue=queue),
        "completed": completed_job(queue=queue),
        "cancelled": cancelled_job(queue=queue),
        "active": active_job(queue=queue),
        "delayed": delayed_job(queue=queue),
        "waiting": waiting_job(queue=queue),
    }


def listed(client: Client, query: str = "", url: str = LIST) -> list[str]:
    """The ids on a page of the list, in its order."""
    response = client.get(url + query)
    assert response.status_code == 200, response
    return re.findall(r'data-kue-id="([^"]+)"', response.content.decode())


def acted(
    client: Client, action: str, ids: list[str], query: str = "", *, confirm: bool = True, **data: Any
) -> Any:
    """Post an action of the list, and the page that asks, unless ``confirm`` is off."""
    answer = {"post": "yes"} if confirm else {"index": "0"}
    posted = {"action": action, "_selected_action": ids, "select_across": "0", **answer, **data}
    return client.post(LIST + query, posted)
