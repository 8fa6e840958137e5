"""Kue's JSON API: ``/stats``, ``/job/:id``, ``/jobs/:type/:state/:from..:to/:order``, ``POST /job`` …"""

from typing import Any

import pytest
from django.test import Client

from django_kue import Job
from tests.app import api_jobs
from tests.test_admin.hands import delayed_job, failed_job, waiting_job
from tests.test_api.hands import call

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]

RECEIPT = api_jobs.send_receipt.name


@pytest.fixture
def boss(django_user_model: Any, client: Client) -> Client:
    client.force_login(django_user_model.objects.create_superuser("boss"))
    return client


def test_stats(boss: Client) -> None:
    """``GET /stats``"""
    failed_job()
    stats = boss.get("/kue/stats").json()
    assert stats["counts"]["failed"] == 1
    assert "work_time" in stats


def test_types(boss: Client) -> None:
    """``GET /job/types``"""
    assert RECEIPT in [function["name"] for function in boss.get("/kue/functions").json()]


def test_search(boss: Client) -> None:
    """``GET /job/search?q=``"""
    job = api_jobs.send_receipt.using(on_commit=False).enqueue(4711)
    waiting_job()
    assert [found["id"] for found in boss.get("/kue/jobs?q=4711").json()["jobs"]] == [job.id]


def test_one_job_and_its_log(boss: Client) -> None:
    """``GET /job/:id``, ``GET /job/:id/log``"""
    job_id = failed_job()
    assert boss.get(f"/kue/jobs/{job_id}").json()["state"] == "failed"
    assert boss.get(f"/kue/jobs/{job_id}/log").json() == {"lines": []}


def test_ranges_by_state_and_type_in_both_orders(boss: Client) -> None:
    """``GET /jobs/:from..:to/:order?``, ``/jobs/:state/…``, ``/jobs/:type/:state/…``, ``…/stats``"""
    first, second = failed_job(), failed_job()
    add = waiting_job()

    def ids(query: str) -> list[str]:
        return [job["id"] for job in boss.get(f"/kue/jobs?{query}").json()["jobs"]]

    assert set(ids("offset=0&limit=3")) == {first, second, add}
    assert ids("state=failed&order=oldest&limit=1") == [first]
    assert ids("state=failed&offset=0&limit=1") == [second]
    assert ids("state=inactive") == [add]
    assert ids("state=inactive&name=tests.app.jobs.add") == [add]
    assert boss.get("/kue/jobs?state=failed&name=tests.app.jobs.fail&limit=0").json()["count"] == 2


def test_creating_one_or_many(boss: Client) -> None:
    """``POST /job`` with an object, and with an array"""
    one = call(boss, "POST", "/kue/jobs", {"name": RECEIPT, "args": [1], "options": {"priority": "high"}})
    many = call(boss, "POST", "/kue/jobs", [{"name": RECEIPT, "args": [2]}, {"name": RECEIPT, "args": [3]}])
    assert Job.get(one.json()["id"]).priority == 10
    assert [Job.get(job["id"]).args for job in many.json()] == [(2,), (3,)]


def test_states_are_changed_by_moves(boss: Client) -> None:
    """``PUT /job/:id/state/inactive`` of a failed, and of a delayed job"""
    assert call(boss, "POST", f"/kue/jobs/{failed_job()}/retry").json()["state"] == "waiting"
    assert call(boss, "POST", f"/kue/jobs/{delayed_job()}/promote").json()["state"] == "waiting"


def test_priorities_and_removing(boss: Client) -> None:
    """``PUT /job/:id/priority/:level``, ``DELETE /job/:id``"""
    job_id = waiting_job()
    assert call(boss, "PATCH", f"/kue/jobs/{job_id}", {"priority": "critical"}).json()["priority"] == 15
    assert call(boss, "DELETE", f"/kue/jobs/{job_id}").status_code == 204
    assert boss.get(f"/kue/jobs/{job_id}").status_code == 404
