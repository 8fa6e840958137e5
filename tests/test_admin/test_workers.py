"""The workers' pages: how they are, what they run, and stopping them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from html import unescape
from types import ModuleType
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import path, reverse

from django_kue import models
from django_kue.admin import register_on
from django_kue.admin.workers import jobs_by_id
from django_kue.store import ask, moves
from tests.conftest import redis_client
from tests.test_admin.conftest import redis_unchanged
from tests.test_engine import hands
from tests.test_engine.hands import Hands

WORKER = "web1:4711:ab_2F"


def url(view: str = "changelist", worker: str = "", site: str = "admin") -> str:
    args = [worker.replace("_", "_5F").replace(":", "_3A")] if worker else None
    return reverse(f"admin:django_kue_worker_{view}", args=args, current_app=site)


def text_of(response: object) -> str:
    return unescape(response.content.decode())  # type: ignore[attr-defined]


def page(client: Client, view: str = "changelist", worker: str = "") -> str:
    response = client.get(url(view, worker))
    assert response.status_code == 200
    return text_of(response)


def announce(worker: str = WORKER, *, age: float = 0, **said: Any) -> None:
    """As a worker's supervisor that was heard of ``age`` seconds ago."""
    portrait = {
        "state": "running", "host": "web1", "pid": 4711, "version": "0.1.0", "queues": ["default", "email"],
        "threads": 8, "coroutines": 100, "started_at": 1_700_000_000.0, "done": 12, "memory": 50_000_000,
        "processes": [{"pid": 4712, "jobs": [], "done": 12, "memory": 60_000_000, "busy": 1, "slots": 108}],
        **said,
    }  # fmt: skip
    ask(moves.announce(worker, json.dumps(portrait).encode()))
    if age:
        redis_client().zadd("{kue}:pulses", {worker: redis_client().time()[0] * 1000 - age * 1000})


def orders() -> dict[bytes, bytes]:
    return dict(redis_client().hgetall("{kue}:orders"))


def test_without_workers_the_page_says_how_to_start_one(viewer: Client) -> None:
    html = page(viewer)
    assert "No worker is running" in html
    assert "manage.py runworker" in html


def test_a_worker_is_listed_with_all_that_it_said_of_itself(viewer: Client) -> None:
    announce()
    html = page(viewer)
    for words in (
        "web1",
        "pid 4711",
        "running</span>",
        "0.1.0",
        "1 of 108",
        ">12</td>",
        f'href="{url("change", WORKER)}"',
    ):
        assert words in html, words
    assert reverse("admin:django_kue_queue_change", args=["email"]) in html


def test_what_runs_now_is_listed_with_links(viewer: Client) -> None:
    hands.put("email", 1, options={"title": "<b>bold</b>"})
    [key] = Hands("email").take()
    announce(processes=[{"pid": 4712, "jobs": [f"email.{key}", "rubbish", "email.AaIO0T7uUtXcBpd13f3FTQ"]}])
    link = reverse("admin:django_kue_job_change", args=[f"email.{key}".replace("_", "_5F")])
    for view, worker in (("changelist", ""), ("change", WORKER)):
        html = viewer.get(url(view, worker)).content.decode()
        assert f'href="{link}"' in html
        assert "&lt;b&gt;bold&lt;/b&gt;" in html
        assert "<b>bold</b>" not in html


def test_who_may_not_see_jobs_is_told_only_how_many_run(client_with: Callable[..., Client]) -> None:
    hands.put("email", 1, options={"title": "Ada's divorce"})
    [key] = Hands("email").take()
    announce(processes=[{"pid": 4712, "jobs": [f"email.{key}"]}])
    client = client_with("view_worker")
    for view, worker in (("changelist", ""), ("change", WORKER)):
        html = page(client, view, worker)
        assert "divorce" not in html
        assert key not in html
        assert '<p class="kue-number kue-pad">1</p>' in html


def test_there_are_no_links_to_what_one_may_not_see(client_with: Callable[..., Client]) -> None:
    hands.put("email", 1)
    Hands("email", f"{WORKER}/1").take()
    announce()
    assert f'href="{url("change", WORKER)}"' not in (html := jobs_page(client_with("view_job")))
    assert WORKER in html
    assert f'href="{url("change", WORKER)}"' in jobs_page(client_with("view_job", "view_worker"))
    for view, worker in (("changelist", ""), ("change", WORKER)):
        assert "/django_kue/queue/" not in page(client_with("view_worker"), view, worker)
        assert "/django_kue/queue/" in page(client_with("view_worker", "view_queue"), view, worker)


def jobs_page(client: Client) -> str:
    response = client.get(reverse("admin:django_kue_job_changelist"), {"state__exact": "active"})
    assert response.status_code == 200
    return text_of(response)


PAGES = {
    models.Dashboard: "dashboard/",
    models.Job: "job/?state__exact=active",
    models.Queue: "queue/",
    models.Worker: "worker/",
}


@pytest.mark.parametrize("left_out", PAGES)
def test_a_site_may_leave_pages_out(
    boss: Client, monkeypatch: pytest.MonkeyPatch, settings: Any, left_out: type[Any]
) -> None:
    hands.put("email", 3, options={"title": "one of three"})
    worker = Hands("email", f"{WORKER}/1")
    worker.settle(worker.take_one(), hands.failed())
    running = worker.take_one()
    announce(processes=[{"pid": 4712, "jobs": [f"email.{running}"]}])
    site = admin.AdminSite("few")
    register_on(site)
    site.unregister(left_out)
    urls = ModuleType("urls_of_few")
    urls.urlpatterns = [path("admin/", site.urls)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, urls.__name__, urls)
    settings.ROOT_URLCONF = urls.__name__
    pages = [name for model, name in PAGES.items() if model is not left_out]
    if left_out is not models.Queue:
        pages.append("queue/email/change/")
    if left_out is not models.Worker:
        pages.append("worker/web1_3A4711_3Aab_5F2F/change/")
    for name in pages:
        response = boss.get(f"/admin/django_kue/{name}")
        assert response.status_code == 200, name
        assert f"/django_kue/{left_out._meta.model_name}/" not in text_of(response), name


def test_a_worker_or_a_queue_without_a_name_leads_nowhere(boss: Client) -> None:
    announce("", queues=[""])
    assert "web1" in page(boss)


def test_jobs_that_are_gone_or_no_jobs_are_left_out() -> None:
    key = hands.put_one("email")
    assert list(jobs_by_id([f"email.{key}", "rubbish", "default.AaIO0T7uUtXcBpd13f3FTQ"])) == [f"email.{key}"]
    assert jobs_by_id([]) == {}


@pytest.mark.parametrize(
    ("age", "said", "badge"),
    [(0, {}, "running"), (0, {"state": "stopping"}, "stopping"), (60, {}, "lost")],
)
def test_running_stopping_and_lost_are_told_apart(
    operator: Client, age: float, said: dict[str, str], badge: str
) -> None:
    announce(age=age, **said)
    html = page(operator)
    assert f"kue-worker-{badge}" in html
    assert ("without saying goodbye: it was killed" in html) == (badge == "lost")
    assert (url("stop", WORKER) in html) == (badge == "running")
    assert (url("stop", WORKER) in page(operator, "change", WORKER)) == (badge == "running")


def test_different_releases_are_told_of_but_not_those_of_lost_workers(viewer: Client) -> None:
    announce("w1", version="0.1.0")
    announce("w2", version="0.0.9", age=60)
    assert "different releases" not in page(viewer)
    announce("w3", version="0.2.0")
    assert "different releases of django-kue: 0.1.0, 0.2.0" in page(viewer)


def test_a_worker_is_asked_to_stop(operator: Client) -> None:
    announce()
    response = operator.post(url("stop", WORKER), follow=True)
    assert response.redirect_chain == [(url("change", WORKER), 302)]
    assert "was asked to stop" in text_of(response)
    assert orders() == {WORKER.encode(): b"stop"}
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == (WORKER, "Asked to stop.")
    assert page(operator, "history", WORKER).count("Asked to stop.") == 1


def test_a_worker_thats_gone_cant_be_stopped_or_seen(operator: Client) -> None:
    for response in (
        operator.post(url("stop", "w9"), follow=True),
        operator.get(url("change", "w9"), follow=True),
    ):
        assert response.redirect_chain == [(url(), 302)]
        assert "Worker w9 isn’t in the list any more" in text_of(response)
    assert not orders()
    assert not LogEntry.objects.exists()


def test_stopping_needs_the_permission_to_change_workers(client_with: Callable[..., Client]) -> None:
    announce()
    for client in (client_with("view_worker"), client_with("change_queue"), client_with()):
        with redis_unchanged():
            assert client.post(url("stop", WORKER)).status_code == 403
    assert url("stop", WORKER) not in page(client_with("view_worker"))


def test_a_get_stops_nobody(boss: Client) -> None:
    announce()
    with redis_unchanged():
        assert boss.get(url("stop", WORKER)).status_code == 405


def test_nobody_removes_a_worker(boss: Client) -> None:
    announce()
    assert boss.post(url("delete", WORKER), {"post": "yes"}).status_code == 403


def test_without_permission_theres_nothing_to_see(outsider: Client) -> None:
    announce()
    assert outsider.get(url()).status_code == 403
    assert outsider.get(url("change", WORKER)).status_code == 403


def test_what_a_worker_says_is_never_html(viewer: Client) -> None:
    announce(host="<script>alert(1)</script>", version="<i>", queues=["<u>"])
    for view, worker in (("changelist", ""), ("change", WORKER)):
        html = viewer.get(url(view, worker)).content.decode()
        assert "<script>alert" not in html
        assert "<i>" not in html
        assert "<u>" not in html


def test_another_site_links_to_itself(boss: Client) -> None:
    announce()
    html = text_of(boss.get(url(site="ops")))
    assert url("change", WORKER, "ops") in html
    assert 'href="/admin/' not in html
