"""Canaries in arguments that ``REDACT`` names: in Redis they stand among the arguments, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import reverse

from django_kue import Job
from django_kue.redaction import MASK, secret_texts, without_texts
from tests.app import classified, jobs
from tests.conftest import redis_client
from tests.test_admin.test_permissions import urls
from tests.test_cli.hands import kue
from tests.test_security.conftest import stored
from tests.worker_process import WorkerProcess, finished, wait_for

CANARY = 'kan"arien\nvogel-é'
TOKEN = "deep-canary-4711"
FORMS = (
    CANARY, repr(CANARY)[1:-1], json.dumps(CANARY)[1:-1], "arien", TOKEN,
)  # fmt: skip


def assert_hidden(text: str) -> None:
    assert [form for form in FORMS if form in text] == []


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "1", KUE_TEST_RECEIVERS="1") as worker:
        yield worker.wait_started()


@pytest.fixture
def told() -> Iterator[Any]:
    """What was published on the default queue's channel."""
    client = redis_client()
    listener = client.pubsub()
    listener.subscribe("kue:{default}:ev")
    listener.get_message(timeout=1)
    client.hset("kue:{default}:h", "ev", 2**50)
    yield lambda: listener.get_message(timeout=0.1, ignore_subscribe_messages=True)
    listener.close()


@pytest.fixture
def culprit(worker: WorkerProcess, told: Any) -> Job:
    """A job that said its secrets wherever it could, and failed with them."""
    worker.bookmark()
    job = finished(classified.log_in.enqueue("ann", CANARY, {"token": TOKEN, "plan": "gold"}))
    assert job.state == "failed"
    worker.wait_log("FAILED")
    return job


def test_secrets_are_in_no_error_and_no_log_line_of_a_job(culprit: Job) -> None:
    assert culprit.error is not None
    assert culprit.error.message == f"ann may not use {MASK}"
    assert f"KeyError: '{MASK}'" in culprit.error.traceback
    assert [str(line) for line in culprit.logs()] == [f"trying {MASK}, {{'t': '{MASK}'}} and ann"] * 2
    assert [run.error.message for run in culprit.runs() if run.error] == [f"ann may not use {MASK}"] * 2


def test_secrets_are_in_redis_among_the_arguments_and_nowhere_else(culprit: Job) -> None:
    held = {key for key, value in stored("*kue*").items() if TOKEN.encode() in value or b"arien" in value}
    assert held == {"kue:{default}:d"}
    assert culprit.progress_data == {"password": MASK, "user": "ann"}


def test_secrets_are_in_no_line_of_the_worker_s_log(worker: WorkerProcess, culprit: Job) -> None:
    assert "PermissionError" in worker.new_log
    assert_hidden(worker.new_log)


def test_secrets_are_in_no_event(culprit: Job, told: Any) -> None:
    messages = []
    while (message := told()) is not None:
        messages.append(json.loads(message["data"]))
    names = {item[0] for _, items in messages for item in items}
    assert {"enqueued", "progressed", "retrying", "failed"} <= names
    assert_hidden(json.dumps(messages, ensure_ascii=False).replace("\\\\", "\\"))


def test_secrets_are_in_no_repr_and_no_title(culprit: Job) -> None:
    for job in (culprit, classified.log_in.enqueue("ann", CANARY)):
        for text in (repr(job), str(job), job.title, repr(job.error), f"{classified.log_in!r}"):
            assert_hidden(text)
    assert culprit.title == f"Log ann in with {MASK}"


def test_secrets_are_on_no_page_of_the_admin(culprit: Job, boss: Client) -> None:
    pages = [*urls(culprit.id), "/admin/", "/admin/django_kue/job/?q=ann"]
    read = {url: boss.get(url, follow=True).content.decode() for url in pages}
    for html in read.values():
        assert_hidden(html)
    job_page = read[reverse("admin:django_kue_job_change", args=[quote(culprit.id)])]
    assert f"ann may not use {MASK}" in job_page


@pytest.mark.django_db(transaction=True)
def test_secrets_are_in_nothing_that_the_commands_print(culprit: Job) -> None:
    said = [
        kue("show", culprit.id), kue("show", culprit.id, "--json"), kue("jobs"), kue("jobs", "--json"),
        kue("retry", culprit.id), kue("doctor"),
    ]  # fmt: skip
    for one in said:
        assert_hidden(one.out + one.err)
    assert MASK in said[0].out


def test_jobs_are_not_found_by_their_secrets(culprit: Job, boss: Client) -> None:
    for query in (CANARY, f"password={CANARY}", TOKEN):
        html = boss.get("/admin/django_kue/job/", {"q": query}).content.decode()
        assert culprit.id not in html
    assert culprit.id in boss.get("/admin/django_kue/job/", {"q": "user=ann"}).content.decode()


def test_what_listeners_print_hides_progress_data_and_results() -> None:
    from datetime import UTC, datetime

    from django_kue.cli.listen import _as_json, _detail
    from django_kue.events import Event

    data = {"result": {"token": TOKEN}, "data": [{"password": CANARY}]}
    event = Event("completed", None, "default", datetime.now(UTC), data)
    assert_hidden(json.dumps(_as_json(event), default=str))
    assert_hidden("".join(_detail(key, value) for key, value in data.items()))


# ── the texts that are looked for ──


def test_only_values_that_are_hidden_are_looked_for_and_short_ones_are_not() -> None:
    values = {
        "user": "anna",
        "password": "long enough",
        "pin_token": 123456,
        "cookie": "abc",
        "flag_secret": True,
    }
    nested = {"a": [{"secret": {"deep": ["one-two", Decimal("12.345")]}}, ("x", {"token": UUID(int=7)})]}
    assert set(secret_texts(values)) == {"long enough", "123456"}
    assert set(secret_texts(nested)) == {"one-two", "12.345", str(UUID(int=7))}


def test_of_two_secrets_one_inside_the_other_both_are_masked() -> None:
    secrets = secret_texts({"password": "1234", "token": "0012345600"})
    assert without_texts("0012345600 and 1234", secrets) == f"{MASK} and {MASK}"


def test_a_function_that_takes_no_secrets_writes_what_it_likes(worker: WorkerProcess) -> None:
    job = finished(jobs.fail.enqueue("password 1234"))
    assert job.error is not None
    assert job.error.message == "password 1234"
    wait_for(lambda: "password 1234" in worker.new_log)
