"""What the tests of the security page share."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.conftest import redis_client


@pytest.fixture
def boss(db: None) -> Client:
    """A superuser, logged in."""
    client = Client()
    client.force_login(User.objects.create_superuser("boss", password="secret"))
    return client


def stored(pattern: str = "*") -> dict[str, bytes]:
    """Everything that Redis holds under keys like this, as the bytes of it."""
    client = redis_client()
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    kinds = {key: client.type(key) for key in client.keys(pattern)}
    return {
        key.decode(errors="replace"): repr(readers[kind](key)).encode()
        for key, kind in kinds.items()
        if kind != b"none"  # it ran out meanwhile
    }
