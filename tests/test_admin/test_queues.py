"""The queues' pages: what's in them, who serves them, and steering them as wholes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_kue import Queue, bulk, listing, overview
from django_kue.admin.queues import points_of
from django_kue.store import ask, moves
from django_kue.store.reads import facts
from tests.test_admin.conftest import client_of, redis_unchanged
from tests.test_engine import hands
from tests.test_engine.hands import Hands

CHANGES = ("pause", "resume", "retry", "promote")
REMOVALS = ("clean", "empty")
DAYS = "86400"


def url(view: str = "changelist", name: str = "", site: str = "admin") -> str:
    args = [name.replace("_", "_5F")] if name else None
    return reverse(f"admin:django_kue_queue_{view}", args=args, current_app=site)


def text_of(response: object) -> str:
    return unescape(response.content.decode())  # type: ignore[attr-defined]


def page(client: Client, view: str = "changelist", name: str = "") -> str:
    response = client.get(url(view, name))
    assert response.status_code == 200
    return text_of(response)


def press(client: Client, verb: str, **fields: str) -> str:
    response = client.post(url(verb, "email"), fields, follow=True)
    assert response.status_code == 200
    return text_of(response)


def announce(worker: str, *queues: str) -> None:
    """As a worker that runs."""
    said = {"state": "running", "host": "web1", "pid": 7, "version": "1", "queues": queues, "processes": []}
    ask(moves.announce(worker, json.dumps(said).encode()))


def fail(queue: str, count: int) -> None:
    hands.put(queue, count)
    worker = Hands(queue)
    worker.take(count)
    worker.settle_all(hands.failed())


# ── the list ──


def test_every_queue_stands_in_the_list_and_its_numbers_lead_to_its_jobs(viewer: Client) -> None:
    fail("email", 2)
    hands.put("email", 3)
    html = page(viewer)
    for name in ("default", "email", "narrow", "other", "slow"):
        assert f'href="{url("change", name)}"' in html
    assert '?state__exact=waiting&queue__exact=email">3</a>' in html
    assert '?state__exact=failed&queue__exact=email" class="kue-error">2</a>' in html


def test_limits_of_the_settings_are_shown(viewer: Client) -> None:
    html = page(viewer)
    assert "2 at once" in html
    assert "5 per second" in html


def test_a_queue_with_jobs_and_no_worker_is_told_of_and_so_is_what_to_do(viewer: Client) -> None:
    hands.put("email", 1)
    alert = "No worker listens to the queue <strong>email</strong>"
    html = page(viewer)
    assert alert in html
    assert "manage.py runworker --queues email" in html
    assert "No worker listens to the queue <strong>other" not in html
    announce("w1", "email")
    assert alert not in page(viewer)


def test_a_paused_queue_is_said_to_be_paused_and_not_to_lack_a_worker(viewer: Client) -> None:
    hands.put("email", 1)
    Queue("email").pause()
    html = page(viewer)
    assert "paused</span>" in html
    assert "No worker listens" not in html
    assert "This queue is paused" in page(viewer, "change", "email")


def test_an_undeclared_queue_with_jobs_is_listed_as_such(viewer: Client) -> None:
    hands.put("gone", 1)
    html = page(viewer)
    assert "undeclared</span>" in html
    assert "isn’t declared in" in page(viewer, "change", "gone")


@pytest.mark.parametrize(
    ("counts", "points"),
    [
        ([], ""),
        ([5], ""),
        ([0, 0, 0], ""),
        ([0, 4, 2], "0,23 50,1 100,12"),
    ],
)
def test_a_sparkline_reaches_from_the_bottom_to_its_peak(counts: list[int], points: str) -> None:
    assert points_of(counts) == points


def test_the_announcement_holds_no_numbers_so_that_it_isnt_read_out_again_and_again(viewer: Client) -> None:
    def alerts() -> str:
        return page(viewer).partition('data-kue="alerts"')[2].partition("</div>")[0]

    hands.put("email", 1)
    before = alerts()
    hands.put("email", 5)
    assert alerts() == before


def test_of_very_many_queues_the_first_are_shown_and_the_others_counted(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_QUEUES", 6)
    for name in ("aa", "bb", "cc"):
        hands.put(name, 1)
    html = page(viewer)
    for name in ("default", "email", "narrow", "other", "slow", "aa"):
        assert f'href="{url("change", name)}"' in html
    assert url("change", "bb") not in html
    assert "and 2 more." in html
    assert "bb" in page(viewer, "change", "bb")
    monkeypatch.setattr(listing, "MOST_QUEUES", 8)
    assert not re.search(r"and \d+ more\.", page(viewer))


# ── a queue's page ──


def test_a_queues_page_reads_no_other_queue(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    hands.put("email", 1)
    read = []
    monkeypatch.setattr(overview.reads, "facts", lambda name, most: read.append(name) or facts(name, most))
    assert "email" in page(viewer, "change", "email")
    assert read == ["email"]


def test_a_queues_page_names_its_workers(viewer: Client) -> None:
    announce("web1:7:ab_c", "email")
    link = reverse("admin:django_kue_worker_change", args=["web1_3A7_3Aab_5Fc"])
    assert f'href="{link}"' in page(viewer, "change", "email")


def test_a_queue_that_never_was_leads_back_to_the_list(viewer: Client) -> None:
    response = viewer.get(url("change", "nowhere"), follow=True)
    assert response.redirect_chain == [(url(), 302)]
    assert "There’s no queue nowhere" in text_of(response)


def test_buttons_are_there_for_what_one_may_do_and_what_there_is(
    viewer: Client, operator: Client, boss: Client
) -> None:
    fail("email", 1)
    for client, shown in (
        (viewer, ()),
        (operator, ("pause", "retry")),
        (boss, ("pause", "retry", *REMOVALS)),
    ):
        html = page(client, "change", "email")
        for verb in (*CHANGES, *REMOVALS):
            assert (url(verb, "email") in html) == (verb in shown), (verb, shown)


# ── steering ──


def test_a_queue_is_paused_and_resumed(operator: Client) -> None:
    assert "no worker takes its jobs" in press(operator, "pause")
    assert Queue("email").is_paused
    assert "Queue email was paused already" in press(operator, "pause")
    assert "workers take its jobs again" in press(operator, "resume")
    assert not Queue("email").is_paused
    assert "wasn’t paused" in press(operator, "resume")
    written = LogEntry.objects.values_list("object_id", "change_message")
    assert sorted(written) == [
        ("email", "Paused: no worker takes its jobs; running ones finish."),
        ("email", "Resumed: workers take its jobs again."),
    ]


def test_from_the_list_one_comes_back_to_the_list(operator: Client) -> None:
    response = operator.post(url("pause", "email"), {"back": "list"})
    assert (response.status_code, response["Location"]) == (302, url())


def test_all_failed_jobs_are_retried(operator: Client) -> None:
    fail("email", 3)
    assert "3 failed jobs run again" in press(operator, "retry")
    assert (Queue("email").counts()["failed"], Queue("email").counts()["waiting"]) == (0, 3)


def test_all_delayed_jobs_are_promoted(operator: Client) -> None:
    hands.put("email", 2, delay=60_000)
    assert "2 delayed jobs run now" in press(operator, "promote")
    assert (Queue("email").counts()["delayed"], Queue("email").counts()["waiting"]) == (0, 2)


def test_what_is_too_much_for_a_page_a_job_does(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "INLINE", 2)
    announce("w1", "default")
    fail("email", 3)
    response = operator.post(url("retry", "email"))
    [job] = Queue("default").jobs("waiting")
    assert job.name == "django_kue.bulk"
    assert response["Location"] == reverse("admin:django_kue_job_change", args=[job.id.replace("_", "_5F")])
    assert Queue("email").counts()["failed"] == 3  # until the job runs


def test_finished_jobs_of_an_age_are_cleaned(boss: Client) -> None:
    fail("email", 2)
    assert "0 jobs removed" in press(boss, "clean", state="failed", amount="1", unit=DAYS)
    assert "2 jobs removed" in press(boss, "clean", state="failed", amount="0", unit=DAYS)
    assert Queue("email").counts()["failed"] == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "waiting", "amount": "0", "unit": DAYS},
        {"state": "failed", "amount": "-1", "unit": DAYS},
        {"state": "failed", "amount": "", "unit": DAYS},
        {"state": "failed", "amount": "0", "unit": "7"},
    ],
)
def test_a_wrong_form_cleans_nothing_and_is_explained(boss: Client, fields: dict[str, str]) -> None:
    fail("email", 1)
    hands.put("email", 1)
    before = Queue("email").counts()
    assert 'class="errorlist"' in press(boss, "clean", **fields)
    assert Queue("email").counts() == before
    assert not LogEntry.objects.exists()


def test_a_queue_is_emptied_once_its_name_was_typed(boss: Client) -> None:
    hands.put("email", 2)
    hands.put("email", 1, delay=60_000)
    assert "2 waiting, 1 delayed" in page(boss, "empty", "email")
    with redis_unchanged():
        assert "That isn’t this queue’s name" in press(boss, "empty", name="mail")
    assert "3 jobs removed" in press(boss, "empty", name="email")
    assert Queue("email").counts()["waiting"] == Queue("email").counts()["delayed"] == 0


# ── permissions ──


@pytest.mark.parametrize("verb", [*CHANGES, *REMOVALS])
def test_each_change_needs_its_permission(verb: str, client_with: Callable[..., Client]) -> None:
    fail("email", 1)
    hands.put("email", 1)
    hands.put("email", 1, delay=60_000)
    other = "change_queue" if verb in REMOVALS else "delete_queue"
    fields = {"name": "email", "state": "failed", "amount": "0", "unit": DAYS}
    for client in (client_with("view_queue", other), client_with(other), client_with()):
        with redis_unchanged():
            assert client.post(url(verb, "email"), fields).status_code == 403
    assert not LogEntry.objects.exists()
    own = "delete_queue" if verb in REMOVALS else "change_queue"
    assert client_with("view_queue", own).post(url(verb, "email"), fields).status_code == 302


@pytest.mark.parametrize("verb", [*CHANGES, "clean"])
def test_a_get_changes_nothing(boss: Client, verb: str) -> None:
    fail("email", 1)
    with redis_unchanged():
        assert boss.get(url(verb, "email")).status_code == 405


def test_without_the_permission_to_see_queues_theres_nothing_to_see(outsider: Client) -> None:
    assert outsider.get(url()).status_code == 403
    assert outsider.get(url("change", "email")).status_code == 403


def test_changes_are_refused_without_the_csrf_token(db: None) -> None:
    from django.contrib.auth.models import User

    client = client_of(User.objects.create_superuser("root", password="x"), enforce_csrf_checks=True)
    with redis_unchanged():
        assert client.post(url("pause", "email")).status_code == 403


def test_another_site_links_to_itself(boss: Client) -> None:
    hands.put("email", 1)
    html = text_of(boss.get(url(site="ops")))
    assert "/ops/django_kue/queue/email/change/" in html
    assert 'href="/admin/' not in html
