"""The page of one job: what it tells, what can be done there, and by whom."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_kue import Job, bulk, get_queue, ids
from django_kue.admin.story import Story
from django_kue.errors import JobDoesNotExist
from django_kue.handover import submit
from django_kue.jobs import JobError
from django_kue.listing import Listing
from django_kue.records import NewJob
from django_kue.registry import register, unregister
from django_kue.states import State
from django_kue.store import moves, send
from tests.app import jobs as app_jobs
from tests.conftest import redis_client
from tests.test_admin.conftest import redis_unchanged
from tests.test_engine import hands
from tests.test_engine.hands import Hands, next_millisecond

TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/payments/jobs.py", line 12, in pay
    bank.charge(card)
  File "/srv/venv/lib/python3.12/site-packages/bank/api.py", line 99, in charge
    raise Refused("<b>no money</b>")
bank.errors.Refused: <b>no money</b>
"""
REFUSED = JobError("bank.errors.Refused", "<b>no money</b>", TRACEBACK).as_text()


def url(job_id: str, view: str = "change", site: str = "admin") -> str:
    return reverse(f"admin:django_kue_job_{view}", args=[job_id.replace("_", "_5F")], current_app=site)


def page(client: Client, job_id: str, **headers: str) -> str:
    response = client.get(url(job_id), headers=headers)
    assert response.status_code == 200, response
    return response.content.decode()


def press(client: Client, job_id: str, button: str, **fields: Any) -> str:
    """The page that a button leads to."""
    response = client.post(url(job_id), {f"_{button}": "1", **fields}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def words(html: str) -> str:
    """What's to be read, without tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def buttons(html: str) -> set[str]:
    named = re.findall(r'id="kue-verb-(\w+)"', html)
    others = [name for name in ("run-again", "set-priority", "remove") if f'id="kue-{name}"' in html]
    return {*named, *others}


def enqueued(definition: Any, *args: Any, **options: Any) -> str:
    """At once: a test is a transaction that's never committed."""
    return definition.using(on_commit=False, **options).enqueue(*args).id


def waiting(**options: Any) -> str:
    return enqueued(app_jobs.add, 1, 2, **options)


def delayed() -> str:
    return waiting(delay=3600)


def active() -> str:
    job_id = waiting()
    Hands().take_one()
    return job_id


def ended(outcome: bytes) -> str:
    job_id = waiting()
    hand = Hands()
    hand.settle(hand.take_one(), outcome)
    return job_id


def completed() -> str:
    return ended(hands.completed({"sum": 3}))


def failed(error: bytes = REFUSED) -> str:
    return ended(b"f|%d|%s" % (time.time() * 1000 - 1500, error))


def cancelled() -> str:
    job_id = waiting()
    Job.get(job_id).cancel()
    return job_id


MAKERS = {
    "waiting": waiting, "delayed": delayed, "active": active,
    "completed": completed, "failed": failed, "cancelled": cancelled,
}  # fmt: skip


# ── what it tells ──


@pytest.mark.parametrize("state", MAKERS)
def test_every_state_has_a_page(boss: Client, state: str) -> None:
    html = page(boss, MAKERS[state]())
    assert f'<span class="kue-badge kue-{state}">{state}</span>' in html
    assert f"The job is {state}." in html


def test_a_page_costs_no_sql_for_the_job(boss: Client, django_assert_num_queries: Any) -> None:
    job_id = failed()
    with django_assert_num_queries(2):  # session and user
        page(boss, job_id)


def test_looking_changes_nothing(boss: Client) -> None:
    for make in MAKERS.values():
        job_id = make()
        with redis_unchanged():
            page(boss, job_id)
            boss.get(url(job_id), {"_retry": "1", "_cancel": "1"})


def test_the_head_says_what_when_and_where(boss: Client) -> None:
    job_id = waiting(priority=7, attempts=4)
    text = words(page(boss, job_id))
    assert "Function tests.app.jobs.add" in text
    assert "Queue default" in text
    assert "Priority 7" in text
    assert "Attempt 1 of 4" in text
    assert f"ID {job_id}" in text


def test_the_function_and_the_queue_lead_to_their_jobs(boss: Client) -> None:
    html = page(boss, waiting())
    assert 'href="/admin/django_kue/job/?name__exact=tests.app.jobs.add"' in html
    assert 'href="/admin/django_kue/job/?queue__exact=default"' in html


def test_a_running_job_leads_to_its_worker(boss: Client, client_with: Callable[..., Client]) -> None:
    job_id = waiting()
    Hands(name="host:17:ab/2").take_one()
    link = f'href="{reverse("admin:django_kue_worker_change", args=["host_3A17_3Aab"])}"'
    assert link in page(boss, job_id)
    assert "/worker/" not in page(client_with("view_job"), job_id)


def test_on_another_site_all_links_stay_there(boss: Client) -> None:
    html = boss.get(url(failed(), site="ops")).content.decode()
    links = re.findall(r'(?:href|action)="(/[^"]*)"', html)
    assert len(links) > 8
    assert not [link for link in links if link.startswith("/admin/")]


def test_the_timeline_has_the_times_between(boss: Client) -> None:
    job_id = completed()
    story = Story.of(job_id)
    assert [step.kind for step in story.timeline] == ["created", "started", "completed"]
    text = words(page(boss, job_id))
    assert "Created now" in text or "Created" in text
    assert "waited" in text
    assert "ran" in text


def test_a_delayed_jobs_timeline_looks_ahead(boss: Client) -> None:
    [_, due] = Story.of(delayed()).timeline
    assert due.is_ahead
    assert "in 59 min" in page(boss, delayed())


def test_waiting_counts_from_when_it_was_due_again() -> None:
    job_id = waiting(attempts=3)
    hand = Hands()
    next_millisecond()
    hand.settle(hand.take_one(), hands.retried(0))
    next_millisecond()
    hand.take_one()
    steps = {step.kind: step for step in Story.of(job_id).timeline}
    assert steps["due"].label == "Due again"
    assert steps["started"].took is not None
    assert timedelta() <= steps["started"].took < timedelta(seconds=5)


def test_every_run_is_told_with_its_error_and_its_backoff(boss: Client) -> None:
    job_id = waiting(attempts=2)
    hand = Hands()
    hand.settle(hand.take_one(), b"r30000|%d|%s" % (time.time() * 1000 - 2000, REFUSED))
    Job.get(job_id).promote()
    hand.settle(hand.take_one(), b"f|%d|%s" % (time.time() * 1000, hands.error_text("at last")))
    attempts = Story.of(job_id).attempts
    assert [(row.number, row.outcome, row.delay) for row in attempts] == [
        (2, "failed", None),
        (1, "retried", 30),
    ]
    assert attempts[1].worker == "w1"
    assert attempts[1].duration is not None
    text = words(page(boss, job_id))
    assert "then waited 30 s (backoff)" in text
    assert "ValueError: at last" in text
    assert "Refused: &lt;b&gt;no money&lt;/b&gt;" in text


@pytest.mark.parametrize(
    ("make", "outcome"),
    [(active, "running"), (completed, "completed"), (failed, "failed"), (cancelled, None), (waiting, None)],
)
def test_the_last_run_is_told_once(make: Callable[[], str], outcome: str | None) -> None:
    assert [row.outcome for row in Story.of(make()).attempts] == ([outcome] if outcome else [])


def test_the_projects_frames_are_marked_and_nothing_else(boss: Client) -> None:
    html = page(boss, failed())
    own = re.findall(r'<span class="kue-frame kue-own">(.*?)</span>', html, re.DOTALL)
    assert own
    assert all("/srv/shop/payments/jobs.py" in frame for frame in own)
    assert '<span class="kue-frame">  File &quot;/srv/venv/lib/' in html
    assert "data-kue-frames" in html


def test_hostile_text_is_shown_as_text(boss: Client) -> None:
    evil = "</pre><script>alert(1)</script>"
    job_id = enqueued(app_jobs.noop, {evil: evil}, title=evil)
    hand = Hands()
    key = hand.take_one()
    hand.report(key, "l", evil.encode())
    hand.report(key, "p", json.dumps([50, {evil: evil}]).encode())
    hand.settle(key, b"f|1|" + JobError(f"x.{evil}", evil, f'  File "{evil}", line 1\n{evil}').as_text())
    html = page(boss, job_id)
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 8


def test_no_script_or_style_stands_in_the_page(boss: Client) -> None:
    html = page(boss, failed())
    content = html[html.index('<div id="content-main"') :]
    content = content[: content.index("<footer")]
    assert "<script" not in content
    assert "<style" not in content
    assert not re.search(r"\s(style|on\w+)=", content)


def test_secrets_are_hidden_in_arguments_result_and_progress(boss: Client) -> None:
    job_id = enqueued(app_jobs.noop, {"password": "hunter2", "user": "zoe"})
    hand = Hands()
    key = hand.take_one()
    hand.report(key, "p", json.dumps([50, {"token": "hunter2"}]).encode())
    assert "hunter2" not in page(boss, job_id)
    hand.settle(key, hands.completed({"api_key": "hunter2"}))
    html = page(boss, job_id)
    assert "hunter2" not in html
    assert "zoe" in html


def test_progress_is_a_bar_with_its_data(boss: Client) -> None:
    job_id = active()
    redis_client().hset("kue:{default}:pr", job_id.partition(".")[2], json.dumps([42.5, {"page": 3}]))
    html = page(boss, job_id)
    assert 'value="42.50"' in html
    assert "&quot;page&quot;: 3" in html


def test_a_progress_beyond_its_ends_stays_a_bar(boss: Client) -> None:
    job_id = active()
    redis_client().hset("kue:{default}:pr", job_id.partition(".")[2], json.dumps([4711, None]))
    assert 'value="100.00"' in page(boss, job_id)


def test_the_newest_1000_log_lines_are_shown_and_the_page_says_so(boss: Client) -> None:
    job_id = active()
    lines = [b"%d|line %d" % (time.time() * 1000, number) for number in range(1100)]
    redis_client().rpush(f"kue:{{default}}:l:{job_id.partition('.')[2]}", *lines)
    html = page(boss, job_id)
    assert "line 1099</span>" in html
    assert "line 100</span>" in html
    assert "line 99</span>" not in html
    assert '<p class="kue-quiet kue-log-cut">These are the newest 1000 lines.' in html


def test_a_page_that_is_shown_already_asks_for_little(boss: Client) -> None:
    job_id = active()
    lines = [b"%d|line %d" % (time.time() * 1000, number) for number in range(300)]
    redis_client().rpush(f"kue:{{default}}:l:{job_id.partition('.')[2]}", *lines)
    html = page(boss, job_id, **{"X-Kue-Live": "1"})
    assert html.count("</span></li>") < 210
    assert "Its other jobs" not in html


def test_two_looks_at_a_resting_job_are_the_same_but_for_what_changed(boss: Client) -> None:
    job_id = delayed()
    regions = [re.findall(r'data-kue="actions".*?</div>', page(boss, job_id), re.DOTALL) for _ in range(2)]
    assert regions[0] == regions[1]
    assert "csrfmiddlewaretoken" not in regions[0][0]


def test_its_other_jobs_are_the_last_of_the_same_function_and_queue(boss: Client) -> None:
    others = []
    for _ in range(12):
        next_millisecond()
        others.append(completed())
    enqueued(app_jobs.noop, 1)
    job_id = waiting()
    siblings = Story.of(job_id).siblings()
    assert [job.id for job in siblings] == others[::-1][:10]
    assert url(others[-1]) in page(boss, job_id)


def test_a_parked_job_is_explained(boss: Client) -> None:
    key = hands.put_one()
    hand = Hands()
    hand.settle(hand.take_one(), hands.parked())
    text = words(page(boss, f"default.{key}"))
    assert "No worker knows its function" in text
    assert "neither does this process" in text
    for state in ("", "?state__exact=delayed"):
        assert "no worker could run it" in words(boss.get(f"/admin/django_kue/job/{state}").content.decode())


def test_crashes_are_counted_and_explained(boss: Client) -> None:
    job_id = waiting()
    hand = Hands()
    hand.settle(hand.take_one(), hands.crashed())
    text = words(page(boss, job_id))
    assert "Crashes 1" in text
    assert "killed the worker’s process once" in text


def test_a_record_that_cannot_be_read_has_a_page(boss: Client) -> None:
    job_id = waiting()
    redis_client().hset("kue:{default}:d", job_id.partition(".")[2], b"\xff\x00garbage")
    text = words(page(boss, job_id))
    assert "The record of this job can’t be read" in text
    assert "(unreadable)" in text


@pytest.mark.parametrize("corrupt", [b"z9|x|y", b"a|1", b"", b"\xff"])
def test_corrupt_runs_and_log_lines_have_a_page(boss: Client, corrupt: bytes) -> None:
    job_id = failed()
    key = job_id.partition(".")[2]
    redis_client().rpush(f"kue:{{default}}:l:{key}", corrupt)
    redis_client().rpush(f"kue:{{default}}:r:{key}", corrupt)
    redis_client().hset("kue:{default}:pr", key, corrupt)
    page(boss, job_id)


# ── actions ──


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("waiting", {"cancel", "set-priority", "run-again", "remove"}),
        ("delayed", {"promote", "cancel", "set-priority", "run-again", "remove"}),
        ("active", {"cancel", "run-again", "remove"}),
        ("completed", {"retry", "run-again", "remove"}),
        ("failed", {"retry", "run-again", "remove"}),
        ("cancelled", {"retry", "run-again", "remove"}),
    ],
)
def test_only_what_the_state_allows_is_offered(boss: Client, state: str, expected: set[str]) -> None:
    assert buttons(page(boss, MAKERS[state]())) == expected


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        (["view_job"], set()),
        (["view_job", "change_job"], {"retry"}),
        (["view_job", "delete_job"], {"remove"}),
        (["view_job", "enqueue_job"], {"run-again"}),
    ],
)
def test_only_what_the_user_may_do_is_offered(
    client_with: Callable[..., Client], permissions: list[str], expected: set[str]
) -> None:
    assert buttons(page(client_with(*permissions), failed())) == expected


@pytest.mark.parametrize(
    ("state", "button", "after", "said", "noted"),
    [
        ("failed", "retry", "waiting", "The job will run again.", "Retried."),
        ("delayed", "promote", "waiting", "The job was promoted", "Promoted."),
        ("waiting", "cancel", "cancelled", "The job was cancelled.", "Cancelled."),
    ],
)
def test_a_button_does_what_it_says_and_is_written_down(
    operator: Client, state: str, button: str, after: str, said: str, noted: str
) -> None:
    job_id = MAKERS[state]()
    text = words(press(operator, job_id, button))
    assert Job.get(job_id).state == after
    assert said in text
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.get_change_message(), entry.user.username) == (job_id, noted, "operator")
    history = operator.get(url(job_id, "history")).content.decode()
    assert noted in history


RETRYING = ["view_job", "change_job", "delete_job", "enqueue_job"]


def ended_bulk_job() -> str:
    """It removed jobs, when somebody was allowed to."""
    listing = Listing(state=State.FAILED).as_dict()
    job_id = bulk.bulk_job.using(on_commit=False).enqueue(listing, "remove", None, datetime.now(UTC)).id
    Job.get(job_id).cancel()
    return job_id


@pytest.mark.parametrize("missing", RETRYING[1:])
def test_a_bulk_job_is_not_retried_without_the_permissions_for_all_that_one_can_do(
    client_with: Callable[..., Client], missing: str
) -> None:
    client = client_with(*(name for name in RETRYING if name != missing))
    job_id = ended_bulk_job()
    assert not buttons(page(client, job_id)) & {"retry", "run-again"}
    with redis_unchanged():
        assert client.post(url(job_id), {"_retry": "1"}).status_code == 403
    assert not LogEntry.objects.exists()


def test_a_bulk_job_is_retried_by_those_who_hold_them_all(client_with: Callable[..., Client]) -> None:
    client = client_with(*RETRYING)
    job_id = ended_bulk_job()
    assert buttons(page(client, job_id)) == {"retry", "remove"}
    press(client, job_id, "retry")
    assert Job.get(job_id).state == "waiting"


def test_an_active_job_is_asked_to_stop(operator: Client) -> None:
    job_id = active()
    text = words(press(operator, job_id, "cancel"))
    assert Job.get(job_id).state == "active"
    assert "asked to stop" in text
    assert Story.of(job_id).job.is_cancelling


@pytest.mark.parametrize("given", ["-5", "−5", " −5 "])
def test_the_priority_can_be_changed(operator: Client, given: str) -> None:
    """The page writes a minus sign, which isn't a hyphen."""
    job_id = waiting()
    text = words(press(operator, job_id, "set_priority", priority=given))
    assert Job.get(job_id).priority == -5
    assert "The job’s priority is -5 now." in text
    assert LogEntry.objects.get().get_change_message() == "Changed priority to -5."


@pytest.mark.parametrize("given", ["", "101", "many", "1.5", "²", "<script>", "９" * 5000])
def test_what_is_no_priority_is_refused_in_words(operator: Client, given: str) -> None:
    job_id = waiting()
    html = press(operator, job_id, "set_priority", priority=given)
    assert "isn’t a priority" in html
    assert "<script>”" not in html
    assert Job.get(job_id).priority == 0
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("button", ["retry", "promote", "cancel", "set_priority"])
def test_whoever_may_only_look_is_refused(viewer: Client, button: str) -> None:
    job_id = failed()
    with redis_unchanged():
        response = viewer.post(url(job_id), {f"_{button}": "1", "priority": "5"})
    assert response.status_code == 403
    assert not LogEntry.objects.exists()


def test_staff_without_permission_see_nothing(outsider: Client) -> None:
    job_id = failed()
    for view in ("change", "run_again", "delete", "history"):
        assert outsider.get(url(job_id, view)).status_code == 403


def test_strangers_are_sent_to_the_login(client: Client, db: None) -> None:
    response = client.get(url(failed()))
    assert response.status_code == 302
    assert "/login/" in response.url


def test_a_forged_post_without_its_token_is_refused(boss: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = boss.cookies
    job_id = failed()
    assert strict.post(url(job_id), {"_retry": "1"}).status_code == 403
    assert Job.get(job_id).state == "failed"


def test_what_another_did_meanwhile_is_said(operator: Client) -> None:
    job_id = failed()
    Job.get(job_id).retry()
    text = words(press(operator, job_id, "retry"))
    assert "Nothing was changed: the job is waiting by now." in text
    assert not LogEntry.objects.exists()


def test_a_unique_key_in_the_way_is_said(operator: Client) -> None:
    unique = app_jobs.noop.using(unique=True, on_commit=False)
    first = unique.enqueue(1)
    first.cancel()
    unique.enqueue(1)
    text = words(press(operator, first.id, "retry"))
    assert "another job holds its unique key" in text


@pytest.mark.parametrize("button", ["retry", "cancel", "set_priority"])
def test_a_job_that_is_gone_leads_to_the_list(operator: Client, button: str) -> None:
    job_id = waiting()
    Job.get(job_id).remove()
    for response in (
        operator.get(url(job_id)),
        operator.post(url(job_id), {f"_{button}": "1", "priority": "1"}),
    ):
        assert response.status_code == 302
        assert response.url == reverse("admin:django_kue_job_changelist")


def test_a_job_that_goes_in_the_middle_leads_to_the_list(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = waiting()
    get = Job.get

    def get_and_lose(wanted: str) -> Job:
        job = get(wanted)
        send(moves.verb("remove", "default", [job.key]))
        return job

    monkeypatch.setattr(Job, "get", get_and_lose)
    response = operator.post(url(job_id), {"_cancel": "1"})
    assert response.url == reverse("admin:django_kue_job_changelist")


@pytest.mark.parametrize("job_id", ["nonsense", "default.short", "../../etc", "default." + "_" * 22])
def test_what_is_no_id_leads_to_the_list(boss: Client, job_id: str) -> None:
    assert boss.get(url(job_id)).url == reverse("admin:django_kue_job_changelist")


def test_an_id_with_underscores_has_its_page(boss: Client) -> None:
    key = next(
        key for key in iter(lambda: ids.new_keys(1)[0].decode(), None) if re.search("_[0-9A-F]{2}", key)
    )
    submit("default", [NewJob(key=key.encode(), name="tests.app.jobs.add")])
    html = press(boss, f"default.{key}", "cancel")  # and its address leads back to it
    assert "The job was cancelled." in html
    assert f'href="{url(f"default.{key}", "run_again")}"' in html


def test_an_id_that_looks_quoted_is_unquoted_once(boss: Client) -> None:
    key = "AZ_2F_5F_3Aabcdefghijk"
    submit("default", [NewJob(key=key.encode(), name="tests.app.jobs.add", arguments=b"[1]")])
    job_id = f"default.{key}"
    assert job_id in page(boss, job_id)
    press(boss, job_id, "cancel")
    assert "Cancelled." in boss.get(url(job_id, "history")).content.decode()
    response = boss.get(url(job_id, "run_again"))
    assert response.context["job"].id == job_id
    assert boss.get(url(job_id, "delete")).status_code == 200
    boss.post(url(job_id, "delete"), {"post": "yes"})
    with pytest.raises(JobDoesNotExist):
        Job.get(job_id)


def test_removing_asks_first(boss: Client) -> None:
    job_id = failed()
    with redis_unchanged():
        assert boss.get(url(job_id, "delete")).status_code == 200
    response = boss.post(url(job_id, "delete"), {"post": "yes"})
    assert response.url == reverse("admin:django_kue_job_changelist")
    assert get_queue("default").counts()["failed"] == 0
    assert LogEntry.objects.get().object_id == job_id


def test_a_function_that_is_not_known_here_has_its_page(boss: Client) -> None:
    job_id = waiting()
    unregister(app_jobs.add)
    try:
        text = words(page(boss, job_id))
    finally:
        register(app_jobs.add)
    assert "doesn’t know the function" in text
