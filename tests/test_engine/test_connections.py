"""Where Redis is: the ways to say it, and how a connection begins."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import TimeoutError as NoAnswer

from django_kue import job
from django_kue.store import close_links, connections
from tests.test_engine.hands import Hands, completed


@job(name="tests.sent_there")
def sent(number: int) -> None: ...


@pytest.mark.parametrize(
    "way", ["alias", "other alias", "url", "unix", "password", "database", "decoding alias"]
)
def test_redis_is_found_whichever_way_it_is_named(
    way: str, settings: Any, own_server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    import redis

    url = settings.KUE["REDIS"]
    backend = "django_redis.cache.RedisCache"
    names = {
        "alias": "default", "other alias": "queue", "url": url, "unix": f"unix://{tmp_path}/redis.sock?db=0",
        "password": url.replace("//", "//:secret@"), "database": url.replace("/0", "/3"),
        "decoding alias": "text",
    }  # fmt: skip
    if way == "password":
        redis.Redis.from_url(url).config_set("requirepass", "secret")
    caches = {
        "default": {"BACKEND": backend, "LOCATION": url if way == "alias" else "redis://127.0.0.1:1/0"},
        "queue": {
            "BACKEND": backend,
            "LOCATION": url,
            "KEY_PREFIX": "shop",
            "OPTIONS": {"SOCKET_TIMEOUT": 0.2},
        },
        "text": {
            "BACKEND": backend,
            "LOCATION": url,
            "OPTIONS": {"CONNECTION_POOL_KWARGS": {"decode_responses": True, "max_connections": 2}},
        },
    }
    settings.CACHES = caches
    settings.KUE = {**settings.KUE, "REDIS": names[way]}
    handle = sent.enqueue(7)
    hands = Hands()
    assert hands.take(1) == [handle.key]
    hands.settle(handle.key, completed("ok"))
    assert handle.wait(timeout=5) == "ok"
    assert asyncio.run(_aenqueue_and_read()) == (8,)


async def _aenqueue_and_read() -> Any:
    try:
        return (await (await sent.aenqueue(8)).arefresh()).args
    finally:
        await close_links()


@pytest.fixture
def listener(settings: Any) -> Iterator[socket.socket]:
    """Where connections go to, and are let wait."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        settings.KUE = {**settings.KUE, "REDIS": f"redis://127.0.0.1:{one.getsockname()[1]}/0"}
        yield one


def said_to(listener: socket.socket) -> bytes:
    """What the next connection begins with, of its own accord."""
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(0.2)
        with suppress(TimeoutError):
            return accepted.recv(1000)
    return b""


def test_who_connects_says_nothing_that_it_waits_for(listener: socket.socket) -> None:
    """Each word would be a round trip before the first job, and redis-py has some to introduce itself."""
    connection = connections.new_connection(5.0)
    connection.connect()
    assert said_to(listener) == b""
    connection.disconnect()


async def test_who_connects_under_asyncio_says_nothing_either(listener: socket.socket) -> None:
    connection = connections.new_async_connection(5.0)
    await connection.connect()
    assert said_to(listener) == b""
    await connection.disconnect(nowait=True)


@pytest.mark.filterwarnings("ignore:.*lib_name:DeprecationWarning")
def test_a_project_may_introduce_itself(listener: socket.socket, settings: Any) -> None:
    settings.KUE = {**settings.KUE, "REDIS": f"{settings.KUE['REDIS']}?lib_name=shop"}
    connection = connections.new_connection(0.2)
    with pytest.raises(NoAnswer):
        connection.connect()  # nobody answers
    assert b"shop" in said_to(listener)
