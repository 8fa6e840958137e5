"""Enqueuing from outside: what may be, and with what."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_kue import EnqueueError, Job, get_queue, job, registry
from django_kue.errors import StoreUnavailable
from tests.app import api_jobs
from tests.settings import KUE
from tests.test_admin.conftest import redis_unchanged
from tests.test_api.hands import RECEIPT, call, enqueued

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]

PAY, TIDY = api_jobs.pay.name, api_jobs.tidy.name


def test_a_job_is_enqueued_and_the_answer_says_where_it_is(boss: Client) -> None:
    response = enqueued(boss, RECEIPT, 17)

    assert response.status_code == 201
    said = response.json()
    job = Job.get(said["id"])
    assert (job.name, job.args, job.queue, job.state) == (RECEIPT, (17,), "email", "waiting")
    assert datetime.fromisoformat(said.pop("created_at")) == job.created_at
    assert said == {"id": job.id, "queue": "email", "name": RECEIPT, "state": "waiting"}
    assert response["Location"] == f"/kue/jobs/{job.id}"
    assert boss.get(response["Location"]).status_code == 200
    assert not LogEntry.objects.exists(), "they'd be millions"


def test_keyword_arguments_are_given_by_name(boss: Client) -> None:
    body = {"name": RECEIPT, "kwargs": {"order_id": 17, "copy_to": "me@example.org"}}

    said = call(boss, "POST", "/kue/jobs", body).json()

    assert Job.get(said["id"]).kwargs == {"copy_to": "me@example.org"}
    assert Job.get(said["id"]).args == (17,)


def test_many_are_enqueued_in_their_order(boss: Client) -> None:
    body = [{"name": RECEIPT, "args": [n]} for n in range(3)] + [{"name": TIDY, "args": ["desk"]}]

    said = call(boss, "POST", "/kue/jobs", body).json()

    jobs = [Job.get(one["id"]) for one in said]
    assert [(job.name, job.args) for job in jobs] == [*((RECEIPT, (n,)) for n in range(3)), (TIDY, ("desk",))]
    assert get_queue("email").counts()["waiting"] == 3


def test_options_say_when_and_where(boss: Client) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    later = enqueued(boss, RECEIPT, 17, run_at=soon.isoformat(), priority="low", title="Soon").json()
    delayed = enqueued(boss, RECEIPT, 17, delay=60, queue="other", priority=7, expires=600).json()

    job = Job.get(later["id"])
    assert (job.state, job.run_at, job.priority, job.title) == ("delayed", soon, -10, "Soon")
    job = Job.get(delayed["id"])
    assert (job.queue, job.state, job.priority, job.title) == ("other", "delayed", 7, "Receipt 17")


@pytest.mark.parametrize(
    "options",
    [
        *({name: value} for name, value in {
            "attempts": 1000, "timeout": 1, "backoff": 0, "unique": False, "keep": 0, "on_commit": True,
            "outbox": True, "search_keys": ["order_id"], "takes_context": True, "api": True,
        }.items()),
        {"queue": "nowhere"}, {"queue": "*"}, {"priority": 101}, {"priority": "urgent"}, {"priority": "5"},
        {"delay": -1}, {"delay": "60"}, {"delay": 1e12}, {"run_at": "2031-05-01T09:30:00"}, {"run_at": 5},
        {"run_at": "1900000000"}, {"delay": 5, "run_at": "2031-05-01T09:30:00Z"}, {"expires": 0},
        {"title": ""}, {"title": "x" * 201}, {"title": " "}, {"title": "a\0b"},
        {"run_at": "9999-12-31T23:59:59Z"},
    ],
    ids=str,
)  # fmt: skip
def test_other_options_and_wrong_ones_are_refused(boss: Client, options: dict[str, Any]) -> None:
    with redis_unchanged():
        response = enqueued(boss, RECEIPT, 17, **options)

    assert response.status_code == 422, response.content
    assert response.json()["detail"]


# ── which functions ──


@pytest.mark.parametrize(
    "name",
    [
        "tests.app.api_jobs.internal",
        "django_kue.bulk",
        "os.system",
        "tests.app.api_jobs",
        "__import__",
        "*",
        "a:b",
    ],
)
def test_nothing_but_what_is_marked_so_is_enqueued(boss: Client, name: str) -> None:
    with redis_unchanged():
        response = enqueued(boss, name, "x")

    assert response.status_code == 404
    assert "@job(api=True)" in response.json()["detail"]


def test_a_former_name_works_as_it_does_elsewhere(boss: Client) -> None:
    @job(name="tests.new", aliases=["tests.old"], api=True)
    def renamed() -> None: ...

    try:
        assert Job.get(enqueued(boss, "tests.old").json()["id"]).name == "tests.new"
    finally:
        registry.unregister(renamed)


def test_functions_are_listed_with_what_they_take(boss: Client) -> None:
    functions = {function["name"]: function for function in boss.get("/kue/functions").json()}

    assert functions[RECEIPT]["doc"] == "Mail a receipt."
    assert functions[RECEIPT]["queue"] == "email"
    assert functions[RECEIPT]["arguments"] == {
        "order_id": {"type": "integer"},
        "copy_to": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }
    assert functions[PAY]["arguments"]["due"] == {"type": "string", "format": "date"}
    assert functions[PAY]["arguments"]["notes"]["type"] == "array"
    assert functions[TIDY]["arguments"] == {"anything": {}, "depth": {}}
    assert functions[api_jobs.greet.name]["arguments"] == {"user": {}}
    assert list(functions[api_jobs.told.name]["arguments"]) == ["topic"]
    assert functions[api_jobs.internal.name]["arguments"] is None
    assert functions[api_jobs.internal.name]["api"] is False


# ── which arguments ──


def test_texts_become_what_the_annotations_say(boss: Client) -> None:
    body = {"name": PAY, "args": ["19.90", "2031-05-01", "soon", "please"], "kwargs": {"extra": 3}}

    found = Job.get(call(boss, "POST", "/kue/jobs", body).json()["id"])

    assert found.args == (Decimal("19.90"), date(2031, 5, 1), "soon", "please")
    assert found.kwargs == {"extra": 3}


@pytest.mark.parametrize(
    "value", [None, True, [1, {"a": "b"}], {"$model": ["auth.user", 1, "default"]}, 2**53 + 1]
)
def test_what_is_not_annotated_takes_anything_as_it_is(boss: Client, value: Any) -> None:
    found = Job.get(enqueued(boss, TIDY, value).json()["id"])

    assert found.args == (value,)


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "where"),
    [
        (RECEIPT, [], {}, None),
        (RECEIPT, [1, 2], {}, None),
        (RECEIPT, [1], {"order_id": 1}, None),
        (RECEIPT, [1], {"cc": "x"}, None),
        (RECEIPT, ["17"], {}, "order_id"),
        (RECEIPT, [1.5], {}, "order_id"),
        (RECEIPT, [True], {}, "order_id"),
        (RECEIPT, [None], {}, "order_id"),
        (RECEIPT, [1], {"copy_to": 5}, "copy_to"),
        (RECEIPT, [1], {"copy_to": "\ud800"}, "copy_to"),
        (PAY, ["x", "2031-05-01"], {}, "amount"),
        (PAY, ["1", "2031-13-01"], {}, "due"),
        (PAY, ["1", "2031-05-01", "a", 5], {}, "notes.1"),
        (PAY, ["1", "2031-05-01"], {"more": "x"}, "more.more"),
        (api_jobs.greet.name, [1], {}, "user"),
        (api_jobs.greet.name, [{"$model": ["auth.user", 1, "default"]}], {}, "user"),
        (api_jobs.told.name, [], {}, None),
        (api_jobs.told.name, ["x"], {"context": 1}, None),
    ],
)
def test_wrong_arguments_are_refused_with_where_and_why(
    boss: Client, name: str, args: list[Any], kwargs: dict[str, Any], where: str | None
) -> None:
    with redis_unchanged():
        response = call(boss, "POST", "/kue/jobs", {"name": name, "args": args, "kwargs": kwargs})

    said = response.json()
    assert response.status_code == 422
    assert name in said["detail"]
    assert [mistake["where"] for mistake in said.get("errors", [])] == ([where] if where else [])


def test_a_secret_argument_is_in_no_refusal(boss: Client) -> None:
    body = {"name": PAY, "args": ["1", "2031-05-01"], "kwargs": {"password": ["hunter22"]}}

    response = call(boss, "POST", "/kue/jobs", body)

    assert response.status_code == 422
    assert "hunter22" not in response.content.decode()


def test_arguments_over_the_limit_are_refused(boss: Client, settings: Any) -> None:
    settings.KUE = {**KUE, "MAX_ARGUMENTS": 1000}
    with redis_unchanged():
        response = enqueued(boss, TIDY, "x" * 1000)
    assert response.status_code == 422
    assert "MAX_ARGUMENTS" in response.json()["detail"]


def test_of_many_none_is_enqueued_when_one_is_wrong(boss: Client) -> None:
    body = [{"name": RECEIPT, "args": [1]}, {"name": TIDY, "args": [1]}, {"name": RECEIPT, "args": ["x"]}]
    with redis_unchanged():
        response = call(boss, "POST", "/kue/jobs", body)
    assert response.status_code == 422
    assert response.json()["detail"].startswith("Job 2: ")


@pytest.mark.parametrize("last", ["x" * 1000, [[[]]] * 500, 1e308 * 10, {"queue": "nowhere"}])
def test_of_many_none_is_enqueued_when_one_cannot_be_stored(boss: Client, settings: Any, last: Any) -> None:
    settings.KUE = {**KUE, "MAX_ARGUMENTS": 1000}
    options = last if isinstance(last, dict) else {}
    body = [{"name": RECEIPT, "args": [1]}, {"name": TIDY, "args": [last], "options": options}]
    with redis_unchanged():
        response = boss.post(
            "/kue/jobs", json.dumps(body).replace("Infinity", "1e999"), content_type="application/json"
        )
    assert response.status_code == 422
    assert response.json()["detail"].startswith("Job 1: ")


@pytest.mark.parametrize(
    "body",
    [[], [{}], [5], 5, "x", {}, {"name": ""}, {"name": RECEIPT, "args": {}}, {"name": RECEIPT, "type": "x"},
     [{"name": RECEIPT, "args": [1]}] * 1001],
)  # fmt: skip
def test_what_is_no_job_is_refused(boss: Client, body: Any) -> None:
    with redis_unchanged():
        response = boss.post("/kue/jobs", body, content_type="application/json")
    assert response.status_code in (400, 422)


# ── what else may happen ──


def test_a_unique_job_that_is_there_is_the_answer(boss: Client) -> None:
    first, second = enqueued(boss, TIDY, "desk").json(), enqueued(boss, TIDY, "desk").json()

    assert first["id"] == second["id"]
    assert get_queue("default").counts()["waiting"] == 1


def test_who_may_only_enqueue_is_shown_nothing_of_a_job_that_is_there(client_with: Any) -> None:
    api_jobs.tidy.using(on_commit=False, title="a secret matter").enqueue("desk")

    response = enqueued(client_with("enqueue_job"), TIDY, "desk")

    assert response.status_code == 201
    assert "secret" not in response.content.decode()


def test_when_redis_is_away_nobody_is_told_that_it_worked(boss: Client, settings: Any) -> None:
    settings.KUE = {**KUE, "REDIS": "redis://:hunter22@127.0.0.1:1/0", "ENQUEUE_TIMEOUT": 0.1}

    response = enqueued(boss, RECEIPT, 17)

    assert response.status_code == 503
    assert response["Retry-After"]
    assert "hunter22" not in response.content.decode()
    assert "127.0.0.1" not in response.content.decode()


def test_of_many_those_that_are_there_are_told_when_redis_goes_away(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_kue import enqueueing

    enqueue, done = enqueueing.enqueue, []

    def once(*args: Any, **kwargs: Any) -> Any:
        if done:
            raise EnqueueError("gone", may_be_stored=True) from StoreUnavailable("gone")
        done.extend(enqueue(*args, **kwargs))
        return done

    monkeypatch.setattr(enqueueing, "enqueue", once)
    body = [{"name": RECEIPT, "args": [1]}, {"name": RECEIPT, "args": [2]}, {"name": TIDY, "args": [1]}]

    response = call(boss, "POST", "/kue/jobs", body)

    assert response.status_code == 503
    assert response.json()["enqueued"] == [job.id for job in done]
    assert "may have been enqueued all the same" in response.json()["detail"]
