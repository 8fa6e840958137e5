"""Sentinel through a django-redis alias: the master dies, a replica takes over, and enqueue goes on."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.cache import caches

from django_kue import EnqueueError, Job, job
from django_kue.errors import StoreUnavailable
from django_kue.queue import Queue
from django_kue.store import close_links, forget_links, new_doorbell
from tests.conftest import free_port, redis_binary, start_redis
from tests.test_engine.hands import Hands, completed, put, put_one, wait_until

pytestmark = pytest.mark.slow


@job(name="tests.watched")
def watched(number: int) -> None: ...


class Watched:
    """A master, a replica and a Sentinel that watches them."""

    def __init__(self, folder: Path) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.master, self.replica, self.sentinel = free_port(), free_port(), free_port()
        self.name = f"shop-{self.sentinel}"  # django-redis keeps a pool a URL as long as the process lives
        for port, options in (
            (self.master, ("--repl-diskless-sync-delay", "0")),
            (self.replica, ("--replicaof", "127.0.0.1", str(self.master))),
        ):
            (folder / str(port)).mkdir()
            self.processes.append(start_redis(port, str(folder / str(port)), *options))
        replica = redis.Redis(port=self.replica)
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", timeout=20)
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.sentinel}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {self.name} 127.0.0.1 {self.master} 1\n"
            f"sentinel down-after-milliseconds {self.name} 600\nsentinel failover-timeout {self.name} 4000\n"
        )
        command = [redis_binary(), str(config), "--sentinel"]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        watcher = redis.Redis(port=self.sentinel)
        wait_until(lambda: self._knows_replica(watcher), timeout=20)

    @staticmethod
    def _knows_replica(watcher: redis.Redis) -> bool:
        try:
            return watcher.info("sentinel")["master0"]["slaves"] == 1
        except (redis.ConnectionError, KeyError):
            return False

    def kill_master(self) -> None:
        self.processes[0].kill()
        self.processes[0].wait()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def setup(settings: Any, tmp_path: Path) -> Iterator[Watched]:
    if not shutil.which(redis_binary()):
        pytest.skip("no Redis that can be a Sentinel")
    one = Watched(tmp_path)
    settings.DJANGO_REDIS_CONNECTION_FACTORY = "django_redis.pool.SentinelConnectionFactory"
    settings.CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://{one.name}/0",
            "OPTIONS": {
                "CLIENT_CLASS": "django_redis.client.SentinelClient",
                "SENTINELS": [("127.0.0.1", one.sentinel)],
                "CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool",
            },
        }
    }
    settings.KUE = {**settings.KUE, "REDIS": "default", "ENQUEUE_TIMEOUT": 2}
    yield one
    forget_links()
    caches.close_all()
    one.stop()


def _until_enqueued(number: int) -> Job:
    deadline = time.monotonic() + 20
    while True:
        try:
            return watched.enqueue(number)
        except EnqueueError:
            assert time.monotonic() < deadline, "no enqueue for 20 s after the failover"


def test_enqueue_goes_on_within_seconds_after_the_master_died(setup: Watched) -> None:
    first = watched.enqueue(1)
    put(count=50)
    assert asyncio.run(_enqueued(2)) == (2,)
    redis.Redis(port=setup.master).wait(1, 5_000)  # the replica has it all
    setup.kill_master()
    begun = time.monotonic()
    again = _until_enqueued(3)
    assert time.monotonic() - begun < 15
    assert again.refresh().args == (3,)
    assert first.refresh().args == (1,)
    assert Queue("default").counts()["waiting"] == 53
    hands = Hands()
    assert hands.take(1) == [first.key]
    hands.settle(first.key, completed("there"))
    assert first.wait(timeout=5) == "there"
    assert asyncio.run(_enqueued(4)) == (4,)
    assert redis.Redis(port=setup.replica).info("replication")["role"] == "master"


def test_the_doorbell_rings_again_after_the_master_died(setup: Watched) -> None:
    bell = new_doorbell(["default"])
    put_one()
    assert wait_until(lambda: bell.wait(1)) == ["default"]
    bell.wait(0)
    setup.kill_master()

    def rings() -> list[str]:
        try:
            return bell.wait(0.2)
        except StoreUnavailable:
            return []

    _until_enqueued(1)
    assert wait_until(rings, timeout=20) == ["default"]
    bell.close()


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_sentinel_that_says_nothing_holds_an_enqueue_up_no_longer_than_its_timeout(
    setup: Watched, way: str
) -> None:
    setup.processes[-1].send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(EnqueueError):
        watched.enqueue(1) if way == "sync" else asyncio.run(_enqueued(1))
    assert time.monotonic() - begun < 4


async def _enqueued(number: int) -> Any:
    try:
        return (await (await watched.aenqueue(number)).arefresh()).args
    finally:
        await close_links()
