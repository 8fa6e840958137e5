"""People and programs that come to the API."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.app import api_jobs  # noqa: F401 - its jobs are known from here on
from tests.settings import KUE

TOKEN = "a-token-of-forty-characters-and-some-more"
ALL = (
    "view_job", "change_job", "delete_job", "enqueue_job", "view_queue", "change_queue", "view_worker",
)  # fmt: skip


def user_with(name: str, *permissions: str) -> User:
    """Somebody with these permissions of django_kue, who's not of the staff."""
    user = User.objects.create_user(name, password="secret")
    known = Permission.objects.filter(content_type__app_label="django_kue", codename__in=permissions)
    assert {permission.codename for permission in known} == set(permissions)
    user.user_permissions.set(known)
    return user


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture
def client_with(db: None) -> Callable[..., Client]:
    """``client_with("view_job")``: the session of somebody with just these permissions."""
    count = iter(range(1000))

    def make(*permissions: str, **options: Any) -> Client:
        client = Client(**options)
        client.force_login(user_with(f"user{next(count)}", *permissions))
        return client

    return make


@pytest.fixture
def boss(client_with: Callable[..., Client]) -> Client:
    """May do everything."""
    return client_with(*ALL)


@pytest.fixture
def robot(db: None, settings: Any) -> Client:
    """A program with a token that may do everything. It has to send no CSRF token."""
    user_with("robot", *ALL)
    settings.KUE = {**KUE, "API_TOKENS": {"robot": digest(TOKEN)}}
    return Client(headers={"Authorization": f"Bearer {TOKEN}"}, enforce_csrf_checks=True)
