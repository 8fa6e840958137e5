"""What comes in by the browser, and what goes out about the connection to Redis."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.test import Client, override_settings
from django.urls import reverse

from django_kue import EnqueueError, checks, get_queue
from tests.app import jobs
from tests.settings import KUE
from tests.test_admin.hands import LIST, acted, failed_job
from tests.test_cli.hands import enqueued, kue
from tests.worker_process import WorkerProcess

PASSWORD = "kanarienpasswort"
# Nobody listens on port 1.
AWAY = (
    f"redis://kue:{PASSWORD}@127.0.0.1:1/0", f"redis://:{PASSWORD}@127.0.0.1:1/0",
    f"redis://127.0.0.1:1/0?password={PASSWORD}", f"rediss://kue:{PASSWORD}@127.0.0.1:1/0",
)  # fmt: skip
EVIL = (
    "//evil.example",
    "https://evil.example",
    "/\\evil.example",
    "javascript:alert(1)",
    "\n//evil.example",
)


@pytest.fixture(params=AWAY)
def away(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(KUE=KUE | {"REDIS": request.param, "ENQUEUE_TIMEOUT": 0.2}):
        yield request.param


@pytest.mark.parametrize("to", EVIL)
def test_nobody_is_led_to_another_site(boss: Client, to: str) -> None:
    job_id = failed_job()
    wishes = dict.fromkeys(("next", "back", "_popup", "_changelist_filters", "return_to", "url"), to)
    change = reverse("admin:django_kue_job_change", args=[quote(job_id)])
    queue = "/admin/django_kue/queue/default/"
    responses = [
        boss.post(change, {"_retry": "1", **wishes}),
        boss.post(f"{change}?next={to}", {"_cancel": "1", **wishes}),
        boss.post(f"{queue}pause/", {"_pause": "1", **wishes}),
        boss.post(f"{queue}change/", {"_pause": "1", **wishes}),
        acted(boss, "cancel_selected", [job_id], **wishes),
        boss.get(LIST, {"q": job_id, **wishes}),
        boss.get(f"/admin/django_kue/queue/{quote(to)}/change/", wishes),
        boss.get(f"/admin/django_kue/job/{quote(to)}/change/", wishes),
        boss.get(f"/admin/django_kue/worker/{quote(to)}/change/", wishes),
        boss.get(f"/admin/django_kue/schedule/{quote(to)}/change/", wishes),
        boss.post(f"/admin/django_kue/schedule/?next={to}", {"action": "pause", **wishes}),
    ]
    led = [response["Location"] for response in responses if response.status_code == 302]
    assert len(led) >= 4
    for location in led:
        assert location.startswith("/admin/"), location
        assert not location.startswith("//")


def test_run_again_runs_no_other_function_whatever_is_posted(boss: Client) -> None:
    job_id = enqueued(jobs.leave.name, "a", 1)
    url = reverse("admin:django_kue_job_run_again", args=[quote(job_id)])
    wishes = dict.fromkeys(("name", "function", "job", "definition", "callable"), "os.system")
    form = {"arguments": '{"name": "b", "value": 2}', "queue": "default", "priority": "0", "delay": "0"}
    assert boss.post(url, {**wishes, **form}).status_code == 302
    assert {job.name for job in get_queue("default").jobs("waiting")} == {jobs.leave.name}
    assert boss.post(url, {**form, "queue": "nowhere"}).status_code == 200
    assert get_queue("default").counts()["waiting"] == 2


def test_data_for_the_plots_are_json_and_nothing_else(boss: Client) -> None:
    for question in ({}, {"window": "<script>"}):
        response = boss.get(reverse("admin:django_kue_dashboard_data"), question)
        assert response["Content-Type"] == "application/json"
        assert response["X-Content-Type-Options"] == "nosniff"


# ── the password of Redis ──


def test_the_password_is_in_no_error(away: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(EnqueueError) as caught:
        jobs.add.enqueue(1)
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
    assert PASSWORD not in caplog.text


@pytest.mark.django_db
def test_the_password_is_in_no_check_and_in_nothing_that_a_command_prints(away: str) -> None:
    said: list[Any] = [str(message) for message in checks.check_settings() + checks.check_server()]
    for words in (["stats"], ["jobs"], ["doctor"], ["doctor", "--json"], ["enqueue", jobs.add.name, "1"]):
        told = kue(*words)
        assert told.code != 0
        said += [told.out, told.err]
    assert "127.0.0.1" in "".join(said)
    assert PASSWORD not in "".join(said)


def test_the_password_is_on_no_page(away: str, boss: Client) -> None:
    for url in (
        LIST,
        "/admin/django_kue/dashboard/",
        "/admin/django_kue/queue/",
        "/admin/django_kue/worker/",
        "/admin/django_kue/schedule/",
    ):
        html = boss.get(url).content.decode()
        assert "Redis" in html
        assert PASSWORD not in html


def test_the_password_is_not_in_the_worker_s_log_nor_in_the_title_of_its_process() -> None:
    with WorkerProcess("--processes", "1", KUE_TEST_REDIS_SETTING=AWAY[0]) as worker:
        worker.wait_log("waiting for it", 20)
        assert PASSWORD not in worker.log


@pytest.mark.parametrize(
    "url", [f"redis://:{PASSWORD}@h/x", f"http://kue:{PASSWORD}@h", f"redis://h/x?password={PASSWORD}"]
)
def test_a_wrong_url_is_shown_without_its_password(url: str) -> None:
    with override_settings(KUE={"REDIS": url}):
        found = "".join(map(str, checks.check_settings()))
    assert PASSWORD not in found
