"""Who may see and do what. Nothing is changed by looking, or by whom it isn't allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, reverse

from django_kue import models
from django_kue.admin.actions import ACTIONS
from tests.test_admin.conftest import client_of, redis_unchanged, staff
from tests.test_admin.hands import LIST, acted, failed_job, one_of_each

MODELS = (models.Dashboard, models.Job, models.Queue, models.Worker, models.Schedule, models.Outbox)
VERBS = ("_retry", "_promote", "_cancel", "_set_priority", "_remove", "_pause", "_resume", "_stop", "_empty")


def urls(job_id: str) -> Iterator[str]:
    """Every address of our pages that has a name."""
    objects = {"job": quote(job_id), "worker": quote("host:1:a"), "queue": "default"}
    objects |= {"dashboard": "1", "schedule": "north", "outbox": "1"}
    for model in MODELS:
        name = model._meta.model_name
        for pattern in admin.site._registry[model].get_urls():
            assert isinstance(pattern, URLPattern)
            if pattern.name:
                words = pattern.pattern.regex.groupindex
                yield reverse(f"admin:{pattern.name}", kwargs=dict.fromkeys(words, objects[name]))


def test_all_pages_are_crawled() -> None:
    found = set(urls("default.AAAAAAAAAAAAAAAAAAAAAA"))
    assert {reverse(f"admin:django_kue_{model._meta.model_name}_changelist") for model in MODELS} <= found
    assert len(found) >= 20


def test_strangers_are_led_to_the_login(db: None, client: Client) -> None:
    job_id = failed_job()
    someone = client_of(staff("nobody"))
    someone.get("/admin/logout/")
    for url in urls(job_id):
        for method in (client.get, client.post, client.head):
            response = method(url)
            assert response.status_code == 302, url
            assert response.headers["Location"].startswith("/admin/login/"), url


def test_users_who_are_not_staff_are_led_to_the_login(db: None, django_user_model: Any) -> None:
    job_id = failed_job()
    client = client_of(django_user_model.objects.create_user("customer"))
    with redis_unchanged():
        for url in urls(job_id):
            for method in (client.get, client.post):
                response = method(url)
                assert response.status_code == 302, url
                assert response.headers["Location"].startswith("/admin/login/"), url


def test_staff_without_a_permission_see_nothing(outsider: Client) -> None:
    job_id = failed_job("a secret matter")
    index = outsider.get("/admin/").content.decode()
    assert "django_kue" not in index
    with redis_unchanged():
        for url in urls(job_id):
            for method in (outsider.get, outsider.post):
                response = method(url, follow=True)
                assert response.status_code in (403, 404, 405) or "secret" not in response.content.decode()
                assert response.status_code == 403 or "/change/" not in response.request["PATH_INFO"], url
    for model in ("dashboard", "job", "queue", "worker", "schedule", "outbox"):
        assert outsider.get(f"/admin/django_kue/{model}/").status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("method", ["get", "head"])
def test_looking_changes_nothing(boss: Client, method: str) -> None:
    ids = one_of_each()
    addresses = [url for job_id in ids.values() for url in urls(job_id)]
    lists = [f"{LIST}?state__exact={state}" for state in ids] + [f"{LIST}?q=tea", f"{LIST}?_facets=1"]
    with redis_unchanged():
        for url in dict.fromkeys(addresses + lists):
            response = getattr(boss, method)(url)
            assert response.status_code < 500, url
        for name in ACTIONS:
            boss.get(LIST, {"action": name, "_selected_action": ids["failed"], "post": "yes"})
        for verb in VERBS:
            boss.get(reverse("admin:django_kue_job_change", args=[quote(ids["failed"])]), {verb: "1"})
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("across", ["0", "1"])
@pytest.mark.parametrize("confirm", [True, False])
@pytest.mark.parametrize("action", ACTIONS)
def test_who_may_only_look_is_refused_every_action(
    viewer: Client, action: str, confirm: bool, across: str
) -> None:
    ids = one_of_each()
    with redis_unchanged():
        response = acted(
            viewer, action, list(ids.values()), confirm=confirm, select_across=across, priority="5"
        )
    assert response.status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("permissions", [("change_job",), ("delete_job",), ("enqueue_job",)])
def test_each_action_needs_its_own_permission(client_with: Any, permissions: tuple[str]) -> None:
    client = client_with("view_job", *permissions)
    job_id = failed_job()
    for name, action in ACTIONS.items():
        response = acted(client, name, [job_id], confirm=False)
        assert (response.status_code == 200) == (f"{action.permission}_job" in permissions), name


def test_who_may_only_look_is_refused_on_every_page(viewer: Client) -> None:
    ids = one_of_each()
    every_verb = dict.fromkeys(VERBS, "1") | {"post": "yes", "priority": "5", "confirm": "default"}
    with redis_unchanged():
        for job_id in ids.values():
            for url in urls(job_id):
                assert viewer.post(url, every_verb).status_code < 500, url
        change = reverse("admin:django_kue_job_change", args=[quote(ids["failed"])])
        for verb in VERBS:
            assert viewer.post(change, {verb: "1"}).status_code == 403
    assert not LogEntry.objects.exists()


def test_an_operator_may_not_remove_by_django_s_own_page(operator: Client) -> None:
    job_id = failed_job()
    url = reverse("admin:django_kue_job_delete", args=[quote(job_id)])
    with redis_unchanged():
        assert operator.post(url, {"post": "yes"}).status_code == 403


def test_nothing_is_done_without_the_csrf_token(db: None, django_user_model: Any) -> None:
    client = client_of(django_user_model.objects.create_superuser("boss"), enforce_csrf_checks=True)
    ids = one_of_each()
    with redis_unchanged():
        for url in urls(ids["failed"]):
            assert client.post(url, {"post": "yes", "_retry": "1"}).status_code in (403, 405), url
        for name in ACTIONS:
            assert acted(client, name, [ids["failed"]], priority="5").status_code == 403
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', client.get(LIST).content.decode())
    assert token
    response = acted(client, "retry_selected", [ids["failed"]], csrfmiddlewaretoken=token[1])
    assert response.status_code == 302


def test_nothing_but_a_schedule_can_be_added(boss: Client) -> None:
    for model in set(MODELS) - {models.Schedule}:
        assert boss.get(reverse(f"admin:django_kue_{model._meta.model_name}_add")).status_code == 403


@pytest.mark.django_db
def test_permissions_exist_and_the_only_table_is_the_outboxs() -> None:
    from django.contrib.auth.models import Permission
    from django.db import connection

    known = set(
        Permission.objects.filter(content_type__app_label="django_kue").values_list("codename", flat=True)
    )
    assert known == {
        "view_dashboard", "view_job", "change_job", "delete_job", "enqueue_job",
        "view_queue", "change_queue", "delete_queue", "view_worker", "change_worker",
        "view_schedule", "add_schedule", "change_schedule", "delete_schedule", "run_schedule",
        "view_outbox", "change_outbox", "delete_outbox",
    }  # fmt: skip
    tables = connection.introspection.table_names()
    assert [name for name in tables if "kue" in name] == ["django_kue_outbox"]


@pytest.mark.django_db
def test_dumps_and_migrations_know_nothing_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    one_of_each()
    call_command("dumpdata", "--all")
    assert '"model": "django_kue.' not in capsys.readouterr().out
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
