"""What's around every view: how much may come in, what every answer says, and what went wrong."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.test import Client

import django_kue.api
from tests.settings import KUE
from tests.test_admin.conftest import redis_unchanged
from tests.test_admin.hands import failed_job, waiting_job
from tests.test_api.hands import RECEIPT, call, enqueued, operations

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]

JSON = "application/json"


def test_every_answer_is_json_that_no_one_keeps_a_copy_of(boss: Client, client: Client) -> None:
    job_id = failed_job(queue="email")
    for who in (boss, client):
        for asked in operations(job_id):
            response = asked.ask(who)
            assert response["Content-Type"].partition(";")[0] in (JSON, "text/event-stream"), asked
            assert response["Cache-Control"] == "private, no-store", asked
            assert response["X-Content-Type-Options"] == "nosniff", asked
            response.close()


def test_what_is_known_already_is_not_sent_again(boss: Client) -> None:
    job_id = waiting_job()
    url = f"/kue/jobs/{job_id}"
    tag = boss.get(url)["ETag"]

    again = boss.get(url, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", tag)
    call(boss, "POST", f"{url}/cancel")
    changed = boss.get(url, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed["ETag"] != tag


def test_a_method_that_is_not_there_says_which_are(boss: Client) -> None:
    response = call(boss, "PUT", f"/kue/jobs/{failed_job()}")

    assert response.status_code == 405
    assert set(response["Allow"].split(", ")) == {"GET", "PATCH", "DELETE"}
    assert "PATCH" in response.json()["detail"]


# ── what comes in ──


def test_a_body_over_the_limit_is_refused(boss: Client, settings: Any) -> None:
    settings.KUE = {**KUE, "API_MAX_BODY": 1000}
    with redis_unchanged():
        response = enqueued(boss, RECEIPT, "x" * 1000)
    assert response.status_code == 413
    assert "1000 bytes" in response.json()["detail"]
    assert enqueued(boss, RECEIPT, 17).status_code == 201


class Endless:
    """A body that says nothing of its length, and counts what's read of it."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "all of it was asked for"
        self.taken += size
        return b"x" * size


def test_a_body_that_hides_its_length_is_read_no_further_than_the_limit(
    boss: Client, settings: Any, rf: Any
) -> None:
    from django_kue.api.guard import guarded

    settings.KUE = {**KUE, "API_MAX_BODY": 1000}
    body = Endless()
    request = rf.post("/kue/jobs", content_type=JSON)
    request._stream, request.META["CONTENT_LENGTH"] = body, ""
    response: Any = guarded(lambda request: pytest.fail("it came through"))(request)
    assert response.status_code == 413
    assert body.taken == 1001


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_body_that_is_not_called_json_is_refused(boss: Client, kind: str) -> None:
    with redis_unchanged():
        response = boss.generic("POST", "/kue/jobs", f'{{"name": "{RECEIPT}", "args": [17]}}', kind)
    assert response.status_code == 415


@pytest.mark.parametrize(
    "text",
    ["", "null", "{", "NaN", "\0", "\xff", '{"name": "' + RECEIPT + '", "args": [NaN]}', '"x"', "[" * 100_000,
     '{"name": "' + RECEIPT + '", "args": [1e999]}', f'{{"name": "{RECEIPT}", "args": [{"9" * 5000}]}}',
     '{"name": "tests.app.api_jobs.tidy", "args": [' + "[" * 300 + "]" * 300 + "]}", "true", "0"],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_a_body_that_is_no_json_or_no_job_is_refused(boss: Client, text: str) -> None:
    with redis_unchanged():
        response = boss.generic("POST", "/kue/jobs", text.encode("latin-1"), JSON)
    assert response.status_code in (400, 422), response.content
    assert response.json()["detail"]


# ── what goes wrong ──


def test_while_redis_is_away_every_answer_says_so(boss: Client, settings: Any) -> None:
    settings.KUE = {**KUE, "REDIS": "redis://:hunter22@127.0.0.1:1/0", "ENQUEUE_TIMEOUT": 0.1}
    for asked in operations():
        if asked.name == "list_functions":
            continue  # it asks nobody
        response = asked.ask(boss)
        assert response.status_code == 503, asked
        assert response["Retry-After"]
        assert "hunter22" not in response.content.decode()


def test_no_request_is_a_transaction(boss: Client) -> None:
    from django_kue.api.urls import urlpatterns

    for pattern in urlpatterns:
        assert "default" in pattern.callback._non_atomic_requests


def test_a_job_is_there_when_the_answer_comes_even_inside_a_transaction(boss: Client) -> None:
    with transaction.atomic():
        assert connection.in_atomic_block
        job_id = enqueued(boss, RECEIPT, 17).json()["id"]
        assert boss.get(f"/kue/jobs/{job_id}").status_code == 200


def test_without_django_ninja_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ninja", None)
    with pytest.raises(ImproperlyConfigured, match=r'pip install "django-kue\[api\]"'):
        importlib.reload(django_kue.api)


def test_without_the_admin_nothing_is_noted(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.contrib.admin.models import LogEntry

    from django_kue import history

    monkeypatch.setattr(history.apps, "is_installed", lambda name: name != "django.contrib.admin")
    assert call(boss, "POST", f"/kue/jobs/{failed_job()}/retry").status_code == 200
    assert not LogEntry.objects.exists()
