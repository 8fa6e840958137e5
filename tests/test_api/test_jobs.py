"""Looking at jobs, and steering one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.test import Client

from django_kue import Job, get_queue, listing
from tests.app import api_jobs
from tests.conftest import redis_client
from tests.test_admin.conftest import redis_unchanged
from tests.test_admin.hands import (
    active_job,
    cancelled_job,
    completed_job,
    delayed_job,
    failed_job,
    one_of_each,
    waiting_job,
)
from tests.test_api.hands import call
from tests.test_cli.hands import ended
from tests.test_engine.hands import Hands, completed, put_one, retried

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]


def listed(client: Client, **question: Any) -> Any:
    response = client.get("/kue/jobs", question)
    assert response.status_code == 200, response.content
    return response.json()


def ids(page: Any) -> list[str]:
    return [job["id"] for job in page["jobs"]]


# ── one job ──


def test_a_job_is_shown_with_its_arguments_and_its_state(boss: Client) -> None:
    job = api_jobs.send_receipt.using(priority="high", on_commit=False).enqueue(17, copy_to="me@example.org")

    shown = boss.get(f"/kue/jobs/{job.id}").json()

    assert shown["id"] == job.id
    assert shown["name"] == job.name
    assert shown["queue"] == "email"
    assert shown["title"] == "Receipt 17"
    assert (shown["state"], shown["priority"], shown["attempts"]) == ("waiting", 10, 3)
    assert shown["arguments"] == {"order_id": 17, "copy_to": "me@example.org"}
    assert datetime.fromisoformat(shown["created_at"]) == job.created_at
    assert (shown["result"], shown["error"], shown["finished_at"]) == (None, None, None)


def test_a_failed_job_is_shown_with_its_error(boss: Client) -> None:
    shown = boss.get(f"/kue/jobs/{failed_job('the mail server is away')}").json()

    assert shown["state"] == "failed"
    assert shown["error"]["type"] == "builtins.ValueError"
    assert shown["error"]["message"] == "the mail server is away"


def test_a_completed_job_is_shown_with_its_result(boss: Client) -> None:
    shown = boss.get(f"/kue/jobs/{completed_job()}").json()

    assert (shown["state"], shown["result"], shown["attempts_made"]) == ("completed", 3, 1)


@pytest.mark.parametrize(
    "id", ["x", "email.AAAAAAAAAAAAAAAAAAAAAA", "*.AAAAAAAAAAAAAAAAAAAAAA", "é", "email."]
)
@pytest.mark.parametrize("route", ["", "/log", "/runs", "/events"])
def test_a_job_that_there_is_not_is_not_found(boss: Client, id: str, route: str) -> None:
    response = boss.get(f"/kue/jobs/{id}{route}")

    assert response.status_code == 404
    assert "job" in response.json()["detail"]


def test_the_log_is_shown_to_its_newest_lines(boss: Client) -> None:
    job_id = active_job()
    queue, _, key = job_id.partition(".")
    redis_client().rpush(f"kue:{{{queue}}}:l:{key}", *[f"{1700000000000 + n} line {n}" for n in range(5)])

    assert len(boss.get(f"/kue/jobs/{job_id}/log").json()["lines"]) == len(Job.get(job_id).logs()) == 5
    shown = boss.get(f"/kue/jobs/{job_id}/log", {"limit": 2}).json()["lines"]
    assert [line["text"] for line in shown] == [line.text for line in Job.get(job_id).logs()[-2:]]


def test_runs_that_did_not_complete_are_shown(boss: Client) -> None:
    hands = Hands("email")
    key = put_one("email")
    hands.take()
    hands.settle_all(retried(0, "not yet"))

    [run] = boss.get(f"/kue/jobs/email.{key}/runs").json()["runs"]

    assert (run["attempt"], run["outcome"], run["error"]["message"]) == (1, "retried", "not yet")


def test_secrets_are_in_nothing_that_is_shown(boss: Client) -> None:
    job = api_jobs.pay.using(on_commit=False).enqueue("1", "2031-05-01", password="hunter22")

    for url in (f"/kue/jobs/{job.id}", "/kue/jobs", "/kue/jobs?q=pay"):
        said = boss.get(url).content.decode()
        assert "hunter22" not in said
        assert "\\u2022" in said, "and it's masked"


@pytest.mark.parametrize("text", [b"", b"\xff" * 9, b"||", b"|x|[", b"x9|y|[1] {", b"\x80\x04K\x01."])
def test_what_cannot_be_read_is_no_error_of_ours(boss: Client, text: bytes) -> None:
    job_id = waiting_job(queue="email")
    redis_client().hset("kue:{email}:d", job_id.partition(".")[2], text)

    for url in (f"/kue/jobs/{job_id}", f"/kue/jobs/{job_id}/log", "/kue/jobs", "/kue/jobs?q=tea"):
        assert boss.get(url).status_code == 200


def test_halves_of_characters_are_spelt_out(boss: Client) -> None:
    job_id = failed_job("half a \ud800")

    assert boss.get(f"/kue/jobs/{job_id}").json()["error"]["message"] == "half a \\ud800"
    assert boss.get("/kue/jobs").status_code == 200


# ── lists ──


def test_all_jobs_are_listed_the_newest_first(boss: Client) -> None:
    there = one_of_each("email")

    page = listed(boss)

    assert set(ids(page)) == set(there.values())
    assert page["count"] == 6
    assert page["scope"] == {"looked": 6, "total": 6, "is_exact": True}
    assert page["next_offset"] is None


@pytest.mark.parametrize("state", ["delayed", "waiting", "active", "completed", "failed", "cancelled"])
def test_a_state_is_listed(boss: Client, state: str) -> None:
    there = one_of_each("email")

    assert ids(listed(boss, state=state)) == [there[state]]


@pytest.mark.parametrize(("word", "state"), [("inactive", "waiting"), ("complete", "completed")])
def test_kue_s_words_for_states_work(boss: Client, word: str, state: str) -> None:
    there = one_of_each()

    assert ids(listed(boss, state=word)) == [there[state]]


def test_queues_functions_and_times_narrow_a_list(boss: Client) -> None:
    mail, other = failed_job(queue="email"), failed_job(name="tests.app.jobs.add")
    soon = datetime.now(UTC) + timedelta(minutes=1)

    assert ids(listed(boss, queue="email")) == [mail]
    assert ids(listed(boss, name="tests.app.jobs.add")) == [other]
    assert ids(listed(boss, name="tests.app.jobs.add", state="failed")) == [other]
    assert listed(boss, since=soon.isoformat())["count"] == 0
    assert listed(boss, state="failed", until=soon.isoformat())["count"] == 2


def test_a_list_goes_in_either_order_and_in_pages(boss: Client) -> None:
    there = [failed_job(queue="email") for _ in range(5)]

    oldest = listed(boss, state="failed", queue="email", order="oldest", limit=2)
    assert ids(oldest) == there[:2]
    assert (oldest["next_offset"], oldest["count"]) == (2, 5)
    last = listed(boss, state="failed", queue="email", order="oldest", limit=2, offset=4)
    assert ids(last) == there[4:]
    assert last["next_offset"] is None
    assert ids(listed(boss, state="failed", limit=2)) == there[:2:-1]


def test_a_list_of_no_jobs_only_counts(boss: Client) -> None:
    failed_job(queue="email")

    page = listed(boss, state="failed", limit=0)

    assert (page["jobs"], page["count"], page["next_offset"]) == ([], 1, None)


def test_a_list_says_how_far_it_has_looked(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LOOKED_AT", 3)
    monkeypatch.setattr("django_kue.api.jobs.LOOKED_AT", 3)
    for queue in ("email", "default"):
        for _ in range(3):
            waiting_job(queue=queue)

    page = listed(boss, limit=2)

    assert (page["count"], page["scope"]["is_exact"]) == (6, False)
    assert page["next_offset"] == 2
    assert listed(boss, limit=2, offset=2)["next_offset"] is None


def test_jobs_are_found_by_text_id_and_search_key(boss: Client) -> None:
    send = api_jobs.send_receipt.using(on_commit=False)
    job, _ = send.enqueue(17), send.enqueue(18)
    broken = failed_job("the mail server is away")

    assert ids(listed(boss, q="mail server")) == [broken]
    assert ids(listed(boss, q="RECEIPT 17")) == [job.id]
    assert ids(listed(boss, q=job.id)) == [job.id]
    assert ids(listed(boss, q="order_id=17")) == [job.id]
    assert ids(listed(boss, q="*")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "-1"), ("limit", "1000000000"), ("limit", "abc"), ("limit", "1e3"), ("offset", "-1"),
     ("offset", "99999999999999999999"), ("order", "sideways"), ("state", "asleep"), ("since", "yesterday"),
     ("since", "2031-05-01T09:30:00"), ("since", "0.5"), ("until", "1900000000"), ("q", "x" * 201),
     ("queue", "x" * 41)],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(boss: Client, name: str, value: str) -> None:
    response = boss.get("/kue/jobs", {name: value})

    assert response.status_code == 400
    assert response.json()["errors"][0]["where"] == f"query.{name}"


def test_a_queue_that_there_is_not_is_not_found(boss: Client) -> None:
    response = boss.get("/kue/jobs", {"queue": "emial"})

    assert response.status_code == 404
    assert "Did you mean 'email'?" in response.json()["detail"]


# ── verbs ──


@pytest.mark.parametrize(
    ("make", "verb", "after", "noted"),
    [
        (failed_job, "retry", "waiting", "Retried."),
        (completed_job, "retry", "waiting", "Retried."),
        (delayed_job, "promote", "waiting", "Promoted."),
        (waiting_job, "cancel", "cancelled", "Cancelled."),
        (active_job, "cancel", "active", "Cancelled."),
    ],
)
def test_a_verb_moves_a_job_and_is_noted(
    boss: Client, make: Callable[[], str], verb: str, after: str, noted: str
) -> None:
    job_id = make()

    response = call(boss, "POST", f"/kue/jobs/{job_id}/{verb}")

    assert response.status_code == 200
    assert response.json()["state"] == after == Job.get(job_id).state
    assert response.json()["is_cancelling"] == (verb == "cancel" and after == "active")
    [entry] = LogEntry.objects.all()
    assert (entry.object_id, entry.change_message) == (job_id, noted)


@pytest.mark.parametrize(
    ("make", "verb"),
    [(waiting_job, "retry"), (active_job, "retry"), (failed_job, "promote"), (cancelled_job, "cancel")],
)
def test_a_verb_that_the_state_does_not_allow_changes_nothing(
    boss: Client, make: Callable[[], str], verb: str
) -> None:
    job_id = make()

    with redis_unchanged():
        response = call(boss, "POST", f"/kue/jobs/{job_id}/{verb}")

    assert response.status_code == 409
    assert "Can't" in response.json()["detail"]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(("given", "number"), [(7, 7), (-100, -100), ("critical", 15)])
def test_a_priority_is_changed_by_number_or_name(boss: Client, given: Any, number: int) -> None:
    job_id = waiting_job()

    response = call(boss, "PATCH", f"/kue/jobs/{job_id}", {"priority": given})

    assert response.json()["priority"] == number == Job.get(job_id).priority
    assert LogEntry.objects.get().change_message == f"Changed priority to {number}."


@pytest.mark.parametrize(
    "body",
    [{}, [], {"priority": 101}, {"priority": "urgent"}, {"priority": "7"}, {"priority": True},
     {"priority": 1.5}, {"priority": 5, "state": "failed"}, {"state": "failed"}],
)  # fmt: skip
def test_nothing_but_a_right_priority_is_changed(boss: Client, body: Any) -> None:
    job_id = waiting_job()

    with redis_unchanged():
        response = boss.patch(f"/kue/jobs/{job_id}", body, content_type="application/json")

    assert response.status_code == 422
    assert response.json()["errors"]


def test_a_job_is_removed(boss: Client) -> None:
    job_id = failed_job()

    response = call(boss, "DELETE", f"/kue/jobs/{job_id}")

    assert (response.status_code, response.content) == (204, b"")
    assert get_queue("default").counts()["failed"] == 0
    assert call(boss, "DELETE", f"/kue/jobs/{job_id}").status_code == 404
    assert LogEntry.objects.get().action_flag == DELETION


def test_secrets_in_results_are_masked(boss: Client) -> None:
    job_id = ended(completed({"password": "hunter22", "n": 1}))

    shown = boss.get(f"/kue/jobs/{job_id}").json()

    assert shown["result"] == {"password": "•••", "n": 1}
