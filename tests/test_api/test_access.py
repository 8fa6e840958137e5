"""Who may do what by the API. Nothing is open, and nothing is changed by looking."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client

from django_kue.api.access import may
from tests.settings import KUE
from tests.test_admin.conftest import redis_unchanged
from tests.test_admin.hands import failed_job, one_of_each
from tests.test_api.conftest import ALL, TOKEN, digest, user_with
from tests.test_api.hands import Asked, call, operations

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]

DOCUMENTS = [Asked(name, "GET", f"/kue/{name}", None, frozenset()) for name in ("docs", "openapi.json")]
NAMES = [asked.name for asked in operations()]


def named(name: str, job_id: str) -> Asked:
    return next(asked for asked in operations(job_id) if asked.name == name)


def test_every_operation_names_the_permission_that_it_takes() -> None:
    assert len(NAMES) == 19
    assert {asked.name: asked.permissions for asked in operations() if not asked.permissions} == {}
    assert {name for asked in operations() for name in asked.permissions} == set(ALL) | {"change_worker"}


def test_an_operation_that_names_no_permission_is_nobodys(boss: Client, rf: Any) -> None:
    from ninja import NinjaAPI
    from ninja.errors import AuthorizationError

    from django_kue.api.urls import api

    open_by_mistake = NinjaAPI(urls_namespace="forgotten", auth=api.auth)
    open_by_mistake.get("/x")(lambda request: "open")
    [router] = open_by_mistake._get_bound_routers()
    [operation] = router.path_operations["/x"].operations
    assert [auth.permissions for auth in operation.auth_callbacks] == [(), ()]
    request = rf.get("/x")
    request.user = user_with("somebody", *ALL)
    with pytest.raises(AuthorizationError):
        may()[1](request)


def test_strangers_are_refused_everything(client: Client) -> None:
    job_id = failed_job(queue="email")
    with redis_unchanged():
        for asked in [*operations(job_id), *DOCUMENTS]:
            response = asked.ask(client)
            assert response.status_code == 401, asked
            assert response["WWW-Authenticate"].startswith("Bearer")
            assert job_id not in response.content.decode()


def test_who_has_no_permission_is_refused_everything(client_with: Callable[..., Client]) -> None:
    client = client_with()
    job_id = failed_job(queue="email")
    with redis_unchanged():
        for asked in [*operations(job_id), *DOCUMENTS]:
            response = asked.ask(client)
            assert response.status_code == 403, asked
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("name", NAMES)
def test_each_operation_takes_one_of_its_permissions_and_no_other(
    client_with: Callable[..., Client], name: str
) -> None:
    job_id = failed_job(queue="email")
    asked = named(name, job_id)
    others = [permission for permission in ALL if permission not in asked.permissions]
    with redis_unchanged():
        assert asked.ask(client_with(*others)).status_code == 403
    for permission in asked.permissions:
        response = asked.ask(client_with(permission))
        response.close()
        assert response.status_code in (200, 201, 204, 404, 409), (asked, response.content)


def test_who_may_only_look_changes_nothing(client_with: Callable[..., Client]) -> None:
    viewer = client_with("view_job", "view_queue", "view_worker")
    job_id = failed_job(queue="email")
    with redis_unchanged():
        for asked in operations(job_id):
            if asked.method != "GET":
                assert asked.ask(viewer).status_code == 403, asked
    assert not LogEntry.objects.exists()


def test_a_get_changes_nothing(boss: Client, settings: Any) -> None:
    settings.KUE = {**KUE, "API_STREAMS": 0}  # whoever listens leaves a mark for a moment
    ids = one_of_each("email")
    with redis_unchanged():
        for job_id in ids.values():
            for asked in operations(job_id):
                for method in ("get", "head", "options"):
                    assert getattr(boss, method)(asked.url).status_code in (200, 405, 503), asked
    assert not LogEntry.objects.exists()


def test_a_session_needs_the_csrf_token_where_something_is_changed(
    client_with: Callable[..., Client],
) -> None:
    client = client_with(*ALL, enforce_csrf_checks=True)
    job_id = failed_job(queue="email")
    with redis_unchanged():
        for asked in operations(job_id):
            if asked.method != "GET":
                response = asked.ask(client)
                assert response.status_code == 403, asked
                assert "X-CSRFToken" in response.json()["detail"]
    assert call(client, "GET", f"/kue/jobs/{job_id}").status_code == 200
    client.get("/admin/login/", follow=True)
    token = client.cookies["csrftoken"].value
    assert named("retry_job", job_id).ask(client, **{"X-CSRFToken": token}).status_code == 200


def test_a_program_needs_its_token_alone(robot: Client) -> None:
    job_id = failed_job(queue="email")

    assert named("retry_job", job_id).ask(robot).status_code == 200

    [entry] = LogEntry.objects.all()
    assert (entry.user.username, entry.object_id, entry.change_message) == ("robot", job_id, "Retried.")


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {digest(TOKEN)}", f"Bearer {TOKEN[:-1]}",
     "Bearer " + "ä" * 40, "Bearer \udcff" + "x" * 40, f"Basic {TOKEN}", TOKEN],
)  # fmt: skip
def test_a_wrong_token_is_nobodys(robot: Client, header: str) -> None:
    response = Client(headers={"Authorization": header}).get("/kue/jobs")

    assert response.status_code == 401


def test_a_wrong_token_is_refused_even_with_a_session(boss: Client) -> None:
    response = boss.get("/kue/jobs", headers={"Authorization": f"Bearer {TOKEN}"})

    assert response.status_code == 401
    assert response.json()["detail"] == "This token belongs to nobody."


def test_a_token_stands_for_its_user_and_ends_with_them(robot: Client, django_user_model: Any) -> None:
    user = django_user_model.objects.get(username="robot")
    user.user_permissions.clear()
    assert robot.get("/kue/jobs").status_code == 403
    user.is_superuser = True
    user.save()
    assert robot.get("/kue/jobs").status_code == 200
    user.is_active = False
    user.save()
    assert robot.get("/kue/jobs").status_code == 401


def test_a_token_of_a_user_that_there_is_not_is_told_in_the_log(
    client: Client, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.KUE = {**KUE, "API_TOKENS": {"ghost": digest(TOKEN)}}
    with caplog.at_level(logging.WARNING, "django_kue.api"):
        response = client.get("/kue/jobs", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 401
    assert "ghost" in caplog.text
    assert TOKEN not in caplog.text


def test_while_a_token_is_changed_both_are_known(client: Client, settings: Any) -> None:
    user_with("robot", "view_job")
    new = TOKEN[::-1]
    settings.KUE = {**KUE, "API_TOKENS": {"robot": [digest(TOKEN), digest(new)]}}
    for token in (TOKEN, new):
        assert client.get("/kue/jobs", headers={"Authorization": f"bearer {token}"}).status_code == 200


def test_a_short_token_is_refused_though_its_hash_is_known(client: Client, settings: Any) -> None:
    user_with("robot", "view_job")
    settings.KUE = {**KUE, "API_TOKENS": {"robot": digest("secret")}}
    response = client.get("/kue/jobs", headers={"Authorization": "Bearer secret"})
    assert response.status_code == 401
    assert "32 characters" in response.json()["detail"]


def test_a_bulk_job_is_not_retried_without_the_permissions_for_all_that_one_can_do(
    client_with: Callable[..., Client],
) -> None:
    job_id = failed_job(name="django_kue.bulk")
    with redis_unchanged():
        for permissions in (("change_job",), ("change_job", "delete_job"), ("change_job", "enqueue_job")):
            response = call(client_with(*permissions), "POST", f"/kue/jobs/{job_id}/retry")
            assert response.status_code == 403
    boss = client_with("change_job", "delete_job", "enqueue_job")
    assert call(boss, "POST", f"/kue/jobs/{job_id}/retry").status_code == 200


def from_proxy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """As in the guide."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if name := request.headers.get("X-Forwarded-User"):
            request.user = User.objects.get(username=name)
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


def test_a_middleware_of_one_s_own_lets_in_who_it_knows(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.from_proxy"]
    user_with("somebody", "change_job")
    job_id = failed_job(queue="email")
    client = Client(enforce_csrf_checks=True)

    assert call(client, "POST", f"/kue/jobs/{job_id}/retry").status_code == 401
    known = call(client, "POST", f"/kue/jobs/{job_id}/retry", **{"X-Forwarded-User": "somebody"})
    assert known.status_code == 200
    assert (
        call(client, "DELETE", f"/kue/jobs/{job_id}", **{"X-Forwarded-User": "somebody"}).status_code == 403
    )


def test_where_everybody_has_to_log_in_tokens_do(robot: Client, client: Client, settings: Any) -> None:
    middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
    assert robot.get("/kue/jobs").status_code == 200
    assert client.get("/kue/jobs").status_code == 401
    assert client.get("/kue/docs").status_code == 401


def test_without_django_s_session_middleware_only_tokens_come_in(client: Client, settings: Any) -> None:
    settings.MIDDLEWARE = []
    assert client.get("/kue/jobs").status_code == 401
