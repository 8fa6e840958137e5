"""The dashboard: tiles, plots, functions, failures, and Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import reverse

from django_kue import Queue
from django_kue.admin import dashboard, failures, server
from django_kue.admin.failures import grouped, pattern_of
from django_kue.admin.index import forget as forget_index
from django_kue.admin.links import jobs_url, workers_url
from django_kue.errors import StoreError
from django_kue.metrics import FunctionStats
from django_kue.overview import overview
from django_kue.store import ask, moves
from tests.conftest import NOBODY, redis_client
from tests.test_engine import hands
from tests.test_engine.hands import Hands

URL = "/admin/django_kue/dashboard/"
DATA = f"{URL}data/"


@pytest.fixture(autouse=True)
def looked_anew() -> Iterator[None]:
    for forget in (server.forget, forget_index):
        forget()
    yield
    for forget in (server.forget, forget_index):
        forget()


def html_of(client: Client, url: str = URL, **headers: str) -> str:
    response = client.get(url, headers=headers)
    assert response.status_code == 200
    return unescape(response.content.decode())


def fail(queue: str, *messages: str, kind: str = "builtins.ValueError") -> None:
    hands.put(queue, len(messages))
    worker = Hands(queue)
    for message in messages:
        worker.settle(worker.take_one(), b"f|1|" + hands.error_text(message, kind))


def announce(*queues: str) -> None:
    said = {
        "state": "running", "host": "web1", "pid": 7, "version": "1", "queues": queues,
        "processes": [{"pid": 8, "jobs": [], "done": 0, "busy": 3, "slots": 12}],
    }  # fmt: skip
    ask(moves.announce("w1", json.dumps(said).encode()))


# ── tiles ──


def test_tiles_count_and_link_to_what_they_count(viewer: Client) -> None:
    hands.put("email", 3)
    hands.put("other", 1, delay=60_000)
    fail("other", "one", "two")
    announce("email")
    tiles = {
        tile.name: tile
        for tile in dashboard.tiles_of(overview(), None, jobs_url("admin"), workers_url("admin"))
    }
    numbers = {name: tile.value for name, tile in tiles.items()}
    assert numbers == {"waiting": 3, "delayed": 1, "active": 0, "failed": 2, "completed": 2, "workers": 1}
    assert tiles["failed"].url == jobs_url("admin", state="failed")
    assert tiles["workers"].note == "3 of 12 busy"
    html = html_of(viewer)
    for tile in tiles.values():
        assert f'href="{tile.url}"' in html


def test_tiles_of_one_queue_count_only_that(viewer: Client) -> None:
    hands.put("email", 3)
    fail("other", "one")
    announce("email")
    tiles = {tile.name: tile for tile in dashboard.tiles_of(overview(), "other", jobs_url("admin"), None)}
    assert (tiles["waiting"].value, tiles["failed"].value, tiles["workers"].value) == (0, 1, 0)
    assert tiles["failed"].url == jobs_url("admin", state="failed", queue="other")


# ── the plots' data ──


@pytest.mark.parametrize("window", list(dashboard.WINDOWS))
def test_the_data_have_a_number_for_each_bucket(viewer: Client, window: str) -> None:
    hands.put("email", 3)
    data = viewer.get(DATA, {"window": window}).json()
    count = len(data["times"])
    for name in (
        "completed",
        "failed",
        "retried",
        "wait_p50",
        "wait_p95",
        "run_p50",
        "run_p95",
        "utilisation",
    ):
        assert len(data[name]) == count, name
    depths = {line["queue"]: line["values"] for line in data["depth"]}
    assert depths["email"][-1] == 3
    assert all(len(values) == count for values in depths.values())
    assert data["window"] == window


def test_the_data_of_one_queue_are_only_that_queues(viewer: Client) -> None:
    data = viewer.get(DATA, {"window": "5m", "queue": "email"}).json()
    assert [line["queue"] for line in data["depth"]] == ["email"]


def test_the_deepest_queues_are_drawn_and_the_others_added_up() -> None:
    depth: dict[str, list[int | None]] = {f"q{number}": [number, None] for number in range(11)}
    lines = dashboard._deepest(depth)
    assert [line["queue"] for line in lines] == [f"q{number}" for number in range(10, 2, -1)] + [None]
    assert lines[-1]["values"] == [0 + 1 + 2, None]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"window": "2h"}, "There’s no window '2h'; the windows are 5m, 1h, 24h, 7d."),
        ({"window": ""}, "There’s no window ''"),
        ({"queue": "nowhere"}, "There’s no queue 'nowhere'."),
        ({"queue": "<script>"}, "There’s no queue '<script>'."),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_wrong(
    viewer: Client, question: dict[str, str], said: str
) -> None:
    response = viewer.get(DATA, question)
    assert response.status_code == 400
    assert said in response.json()["error"]
    html_of(viewer, f"{URL}?window=2h&queue=nowhere")  # the page itself shows the usual instead


def test_a_fetch_for_the_regions_only_has_no_plots_in_it(viewer: Client) -> None:
    assert 'id="kue-data"' in html_of(viewer)
    assert 'id="kue-data"' not in html_of(viewer, **{"X-Kue-Live": "1"})


# ── functions ──


def stats(name: str, **numbers: Any) -> FunctionStats:
    usual: dict[str, Any] = {
        "queue": "email", "runs": 1, "completed": 1, "failed": 0, "retried": 0,
        "mean": 0.1, "p50": 0.1, "p95": 0.1, "total": 0.1,
    }  # fmt: skip
    return FunctionStats(name=name, **(usual | numbers))


def test_functions_are_ranked_by_time_and_by_failures() -> None:
    found = [
        stats("quick", failed=1), stats("slow", p95=9.0), stats("idle", runs=0, p95=None),
        stats("flaky", failed=1, retried=5), stats("middling", p95=2.0),
    ]  # fmt: skip
    assert [one.name for one in dashboard.slowest(found)] == ["slow", "middling", "quick", "flaky"]
    assert [one.name for one in dashboard.failing(found)] == ["flaky", "quick"]


def test_functions_link_to_their_jobs(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [stats("shop.<b>", failed=2), stats("(others)", p95=3.0)]
    monkeypatch.setattr(dashboard.metrics, "functions", lambda window, queue: found)
    html = viewer.get(URL).content.decode()
    assert "shop.&lt;b&gt;</a>" in html
    assert "shop.<b>" not in html
    assert "name__exact=shop.%3Cb%3E" in html
    assert "(others)</a>" not in html


# ── failures ──


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("", ""),
        ("Order 17 not found", "Order … not found"),
        ("Order 17 not found\nsecond line", "Order … not found"),
        ("no b0b5e7a2-1111-2222-3333-444455556666 here", "no … here"),
        ("job email.AY3w8kR2Sx6mTn0pQv4zWg is gone", "job email.… is gone"),
        ("at 0x7f3a took 1.5 s, then 12:30:01", "at … took … s, then …"),
        ("internationalisation_of_things failed", "internationalisation_of_things failed"),
    ],
)
def test_what_differs_between_cases_of_one_bug_is_left_out(message: str, pattern: str) -> None:
    assert pattern_of(message) == pattern


def test_a_long_message_is_cut() -> None:
    pattern = pattern_of("word " * 500)
    assert len(pattern) <= failures.SHOWN
    assert pattern.endswith("…")


def test_failures_of_one_bug_are_one_line() -> None:
    fail("email", "Order 17 is gone", "Order 18 is gone", "other")
    fail("other", "Order 19 is gone", kind="shop.errors.Gone")
    found = failures.newest_failures(overview().queues)
    assert (found.looked_at, found.of) == (4, 4)
    lines = {(group.error, group.pattern): (group.count, group.words) for group in found.groups}
    assert lines == {
        ("Gone", "Order … is gone"): (1, "is gone"),
        ("ValueError", "Order … is gone"): (2, "is gone"),
        ("ValueError", "other"): (1, "other"),
    }


def test_groups_and_the_jobs_in_them_are_ordered_by_when_they_failed() -> None:
    fail("email", "Order 17 is gone", "Order 18 is gone", "other")
    days = {"Order 17 is gone": 9, "Order 18 is gone": 3, "other": 5}
    jobs = [
        replace(job, finished_at=datetime(2031, 1, days[job.error.message], tzinfo=UTC))
        for job in Queue("email").jobs("failed")
        if job.error
    ]
    gone, other = grouped(jobs)
    assert (gone.first.day, gone.last.day, gone.newest.error.message) == (3, 9, "Order 17 is gone")
    assert (other.first.day, other.last.day) == (5, 5)


def test_a_failed_job_whose_error_cant_be_read_is_a_group_too() -> None:
    fail("email", "one")
    [job] = Queue("email").jobs("failed")
    [group] = grouped([replace(job, error=None)])
    assert (group.error, group.pattern, group.words) == ("", "", "")


def test_failures_link_to_the_newest_job_and_to_all_of_them(viewer: Client) -> None:
    fail("email", "<script>alert(17)</script> broke")
    [job] = Queue("email").jobs("failed")
    html = viewer.get(URL).content.decode()
    assert reverse("admin:django_kue_job_change", args=[job.id.replace("_", "_5F")]) in html
    assert "state__exact=failed&amp;name__exact=tests.noop&amp;q=" in html
    assert "&lt;script&gt;alert" in html
    assert "<script>alert" not in html


def test_errors_are_shown_only_to_who_may_see_jobs(client_with: Callable[..., Client]) -> None:
    fail("email", "the secret of the failure")
    assert "the secret" in html_of(client_with("view_dashboard", "view_job"))
    assert "the secret" not in html_of(client_with("view_dashboard"))


# ── alerts, and Redis ──


def test_a_queue_that_waits_without_a_worker_is_told_of(viewer: Client) -> None:
    hands.put("email", 1)
    assert "No worker listens to the queue <strong>email" in html_of(viewer)
    announce("email")
    assert "No worker listens" not in html_of(viewer)


def test_what_redis_may_lose_is_warned_of(viewer: Client) -> None:
    html = html_of(viewer)
    assert "append-only file is off" in html
    assert "off: a restart loses jobs" in html
    assert "throws jobs away" not in html


def test_an_eviction_policy_that_loses_jobs_is_warned_of(viewer: Client) -> None:
    client = redis_client()
    client.config_set("maxmemory", "200mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        html = html_of(viewer)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "0")
    assert "maxmemory-policy must be noeviction; found allkeys-lru" in html
    assert "it throws jobs away" in html
    assert "of 200.0\xa0MB" in html


def test_a_redis_that_doesnt_say_how_it_is_spoils_nothing(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise StoreError("NOPERM")

    monkeypatch.setattr(server, "server_info", refuse)
    assert "doesn’t report its state" in html_of(viewer)


# ── permissions, and Redis away ──


def test_without_the_permission_theres_neither_page_nor_data(client_with: Callable[..., Client]) -> None:
    client = client_with("view_job", "view_queue", "view_worker")
    assert client.get(URL).status_code == 403
    assert client.get(DATA).status_code == 403


def test_a_stranger_is_asked_to_log_in(client: Client, db: None) -> None:
    for url in (URL, DATA):
        assert client.get(url)["Location"].startswith("/admin/login/")


def test_nobody_adds_changes_or_deletes_a_dashboard(boss: Client) -> None:
    assert boss.get(f"{URL}add/").status_code == 403
    assert boss.post(f"{URL}1/delete/").status_code in (302, 403)


def test_while_redis_is_away_page_and_data_say_so(viewer: Client) -> None:
    with override_settings(KUE={"REDIS": NOBODY}):
        assert viewer.get(URL).status_code == 503
        assert viewer.get(DATA).status_code == 503


def test_another_site_links_to_itself(boss: Client) -> None:
    fail("email", "one")
    html = html_of(boss, "/ops/django_kue/dashboard/")
    assert 'data-url="/ops/django_kue/dashboard/data/"' in html
    assert 'href="/admin/' not in html


def test_nothing_on_the_page_needs_inline_code_or_style(viewer: Client) -> None:
    fail("email", "one")
    body = html_of(viewer).partition('id="content-main"')[2]
    assert " style=" not in body
    assert " onclick" not in body
    assert body.count("<script") == body.count('type="application/json"')
