"""People of the admin, each with a client that's logged in, and what their tests ask again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from tests.conftest import redis_client
from tests.test_schedules.conftest import make_job

__all__ = ["make_job"]  # a fixture

ALL = {
    "view_dashboard", "view_job", "change_job", "delete_job", "enqueue_job",
    "view_queue", "change_queue", "delete_queue", "view_worker", "change_worker",
    "view_schedule", "add_schedule", "change_schedule", "delete_schedule", "run_schedule",
    "view_outbox", "change_outbox", "delete_outbox",
}  # fmt: skip
VIEWING = {name for name in ALL if name.startswith("view_")}
OPERATING = ALL - {
    "delete_job",
    "delete_queue",
    "delete_outbox",
    "enqueue_job",
    "add_schedule",
    "delete_schedule",
}


def staff(name: str, *permissions: str) -> User:
    """A member of staff with these permissions of django_kue."""
    user = User.objects.create_user(name, password="secret", is_staff=True)
    known = Permission.objects.filter(content_type__app_label="django_kue", codename__in=permissions)
    assert {permission.codename for permission in known} == set(permissions)
    user.user_permissions.set(known)
    return user


def client_of(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.fixture
def viewer(db: None) -> Client:
    """May see everything, and change nothing."""
    return client_of(staff("viewer", *VIEWING))


@pytest.fixture
def operator(db: None) -> Client:
    """May retry, cancel, pause …, but neither remove nor run again."""
    return client_of(staff("operator", *OPERATING))


@pytest.fixture
def boss(db: None) -> Client:
    """A superuser."""
    return client_of(User.objects.create_superuser("boss", password="secret"))


@pytest.fixture
def outsider(db: None) -> Client:
    """Staff, but with no permission of django_kue."""
    return client_of(staff("outsider"))


@pytest.fixture
def client_with(db: None) -> Callable[..., Client]:
    """``client_with("view_job", …)``: a member of staff with just these permissions."""
    count = iter(range(1000))
    return lambda *permissions: client_of(staff(f"staff{next(count)}", *permissions))


def everything() -> dict[bytes, Any]:
    """All that's in Redis but the measurements: whoever counts jobs leaves the number there for the plots."""
    client = redis_client()
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: readers[client.type(key)](key) for key in client.keys("*") if b"}:ms:" not in key}


@contextmanager
def redis_unchanged() -> Iterator[None]:
    """Fails when what's inside changes anything in Redis."""
    before = everything()
    yield
    assert everything() == before
