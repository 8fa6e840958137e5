"""Connections under asyncio: they end with their event loop, and waiting needs no threads."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import weakref
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_kue import Job, get_queue
from django_kue.events import alisten
from django_kue.store import transport_async
from tests.app.jobs import add
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, completed, job_of, put, put_one, wait_until


def clients() -> int:
    return len(redis_client().client_list())


async def until(condition: Any, timeout: float = 10) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


ABRUPT = """
import asyncio, os, weakref, gc
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
import redis
from tests.app.jobs import add
from django_kue.store import transport_async

client = redis.Redis.from_url(os.environ["KUE_TEST_REDIS"])
client.ping()
before = len(client.client_list())
for _ in range(8):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(add.aenqueue(1))
    loop.close()
print(len(transport_async._pools), len(client.client_list()) - before)
"""


def test_a_loop_that_ends_takes_its_connections_along_and_is_not_kept() -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def enqueue() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*[add.aenqueue(1) for _ in range(3)])

    redis_client().ping()
    before = clients()
    for _ in range(8):
        asyncio.run(enqueue())
    wait_until(lambda: clients() <= before)
    gc.collect()
    assert [loop() for loop in loops if loop() is not None] == []


def test_so_does_each_of_async_to_syncs_as_under_wsgi() -> None:
    redis_client().ping()
    before = clients()
    for _ in range(8):
        async_to_sync(add.aenqueue)(1)
    wait_until(lambda: clients() <= before)
    assert [loop for loop in transport_async._pools if loop.is_closed()] == []


def test_a_loop_that_is_closed_without_being_shut_down_is_forgotten_by_the_next_call() -> None:
    """In a process of its own: asyncio warns of the transport that such a loop leaves."""
    program = [sys.executable, "-W", "ignore", "-c", ABRUPT]
    run = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.split()[0] == "1"
    assert int(run.stdout.split()[1]) <= 2  # one is being closed, perhaps
    # What a stream of asyncio's says when it's collected after its loop is none of ours.
    assert "rror" not in run.stderr.replace("RuntimeError: Event loop is closed", "")


async def test_one_loop_uses_one_connection_again_and_again() -> None:
    await add.aenqueue(1)
    before = clients()
    for _ in range(5):
        await add.aenqueue(1)
    assert clients() == before
    await transport_async.close_links()
    await until(lambda: clients() < before)
    await add.aenqueue(1)


def listeners() -> int:
    return int(redis_client().pubsub_numsub("kue:{default}:ev")[0][1])


async def test_as_many_as_wish_wait_at_once() -> None:
    many = 40
    waits = [asyncio.create_task(job_of(key).await_result(timeout=20)) for key in put(count=many)]
    await until(lambda: listeners() == many)
    hands = Hands()
    for number, key in enumerate(hands.take(many)):
        hands.settle(key, completed(number))
    assert sorted(await asyncio.gather(*waits)) == list(range(many))
    await until(lambda: listeners() == 0)


def test_a_cancelled_wait_holds_nothing_up() -> None:
    key = put_one()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job_of(key).await_result(), 0.2)

    begun = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - begun < 2
    wait_until(lambda: listeners() == 0)


def test_nor_does_following_events_that_is_cancelled() -> None:
    key = put_one()

    async def follow() -> None:
        async for _ in job_of(key).aevents():
            pass

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(follow(), 0.2)

    begun = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - begun < 2
    wait_until(lambda: listeners() == 0)


async def test_events_are_followed_without_threads() -> None:
    job = job_of(put_one())

    async def follow(job: Job) -> list[str]:
        return [event.name async for event in job.aevents(timeout=10)]

    following = asyncio.create_task(follow(job))
    await until(lambda: listeners() == 1)
    await asyncio.sleep(0.1)
    hands = Hands()
    hands.settle(hands.take_one(), completed(1))
    assert (await following)[-1] == "completed"


async def test_a_wait_ends_with_its_timeout_and_with_the_job() -> None:
    job = job_of(put_one())
    with pytest.raises(TimeoutError, match="waiting"):
        await job.await_result(timeout=0.1)
    hands = Hands()
    hands.settle(hands.take_one(), completed("there"))
    assert await job.await_result(timeout=0.1) == "there"


async def test_who_listens_hears_again_after_a_broken_connection_and_can_be_cancelled() -> None:
    told: list[tuple[str, str]] = []

    async def hear() -> None:
        async for event in alisten("default"):
            told.append((event.name, event.queue))

    hearing = asyncio.create_task(hear())
    await until(lambda: hearers() and redis_client().hexists("kue:{default}:h", "ev"))
    await get_queue().apause()
    await until(lambda: told == [("paused", "default")])

    before = hearers()
    redis_client().client_kill_filter(_type="pubsub")
    await until(lambda: hearers() - before)
    await get_queue().aresume()
    await until(lambda: told[1:] == [("resumed", "default")])

    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    await until(lambda: not hearers())


def hearers() -> set[str]:
    """The connections that have subscribed to something."""
    return {client["id"] for client in redis_client().client_list(_type="pubsub")}
