"""How calls get to Redis and back when the way is bad: cuts, silence, forks, many threads."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from redis import Redis

from django_kue import EnqueueError, Job, job
from django_kue.batch import Batch
from django_kue.errors import StoreUnavailable
from django_kue.handover import asubmit, submit
from django_kue.queue import Queue
from django_kue.store import close_links, forget_links, moves, new_link, reads, send, transport
from tests.conftest import free_port, redis_client, start_redis
from tests.proxy import Proxy
from tests.test_engine.hands import Hands, completed, completed_kept, put, put_one, wait_until
from tests.test_faults import full_size

QUEUE = Queue("default")
REAL_PORT = int(os.environ["KUE_TEST_REDIS"].rpartition(":")[2].partition("/")[0])


@job(name="tests.sent", search_keys=("number",))
def sent(number: int) -> None: ...


@job(name="tests.sent_once", unique=True)
def sent_once(number: int) -> None: ...


plain = sent.using(search_keys=())  # it takes the short way
both_ways = pytest.mark.parametrize("function", [sent, plain], ids=["sent", "plain"])


@pytest.fixture
def proxy(settings: Any) -> Iterator[Proxy]:
    """All of this process's connections go through a proxy, which has seen a first job already."""
    with Proxy(REAL_PORT) as one:
        settings.KUE = {**settings.KUE, "REDIS": one.url, "ENQUEUE_TIMEOUT": 3}
        put_one()
        redis_client().delete("kue:{default}:d", "kue:{default}:w:0", "kue:{default}:p", "kue:{default}:k")
        yield one
        forget_links()


WAYS = {
    "plain": lambda: plain.enqueue(1),
    "searched": lambda: sent.enqueue(1),
    "delayed": lambda: sent.using(delay=60).enqueue(1),
    "unique": lambda: sent_once.enqueue(1),
    "expiring": lambda: sent.using(expires=60).enqueue(1),
}


# ── cuts ──


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_an_enqueue_whose_reply_is_cut_creates_one_job_and_returns_it(
    proxy: Proxy, way: str, after: int
) -> None:
    proxy.cut_reply(after)
    handle = WAYS[way]()
    assert sum(QUEUE.counts().values()) == 1
    assert handle.refresh().id == handle.id


@pytest.mark.parametrize("after", [0, 5, 200])
@pytest.mark.parametrize("way", WAYS)
def test_an_enqueue_whose_request_is_cut_creates_one_job(proxy: Proxy, way: str, after: int) -> None:
    proxy.cut_request(after)
    handle = WAYS[way]()
    assert sum(QUEUE.counts().values()) == 1
    assert handle.refresh().id == handle.id


@pytest.mark.parametrize("after", [0, 2])
async def test_an_async_enqueue_whose_reply_is_cut_creates_one_job(proxy: Proxy, after: int) -> None:
    await sent.aenqueue(0)
    proxy.cut_reply(after)
    handle = await sent.aenqueue(1)
    proxy.cut_request(after)
    await sent.aenqueue(2)
    assert (await QUEUE.acounts())["waiting"] == 3
    assert (await handle.arefresh()).id == handle.id
    await close_links()


def test_a_job_that_ran_and_went_before_its_enqueue_was_sent_again_does_not_run_twice(proxy: Proxy) -> None:
    ran: list[str] = []

    def run() -> None:
        hands = Hands()
        ran.extend(hands.take(5))
        hands.settle_all(completed_kept(0))

    proxy.cut_reply(0, run)
    handle = sent.enqueue(1)
    assert ran == [handle.key]
    assert sum(QUEUE.counts().values()) == 0


def test_a_bulk_whose_replies_are_cut_again_and_again_is_stored_once_and_in_order(proxy: Proxy) -> None:
    proxy.cut_reply(0, lambda: proxy.cut_reply(1))
    keys = put(count=2_500)
    assert QUEUE.counts()["waiting"] == 2_500
    assert [job.key for job in QUEUE.jobs("waiting", limit=1000, newest_first=False)] == keys[:1000]


def test_the_next_thousand_is_made_while_redis_has_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    make, read = Batch.__getitem__, transport.ServerLink._reply

    def made(batch: Batch, part: slice) -> Any:
        seen.append(f"make {part.start}")
        return make(batch, part)

    def answered(connection: Any) -> Any:
        seen.append("read")
        return read(connection)

    monkeypatch.setattr(Batch, "__getitem__", made)
    monkeypatch.setattr(transport.ServerLink, "_reply", staticmethod(answered))
    sent.using(search_keys=()).enqueue(0)  # the queue is known then, and so is the script
    seen.clear()
    jobs = sent.using(search_keys=()).enqueue_many([(number,) for number in range(2500)])
    assert seen == ["make 0", "make 1000", "read", "make 2000", "read", "read"]
    waiting = QUEUE.jobs("waiting", limit=1000, newest_first=False)
    assert [job.id for job in waiting[1:]] == [job.id for job in jobs[:999]]
    assert QUEUE.counts()["waiting"] == 2501


@both_ways
def test_random_cuts_lose_and_double_nothing(proxy: Proxy, function: Any) -> None:
    rng = random.Random(5)
    stored = []
    for number in range(40):
        if rng.random() < 0.4:
            rng.choice([proxy.cut_reply, proxy.cut_request])(rng.choice([0, 1, 4, 30]))
        stored.append(function.enqueue(number).key)
    assert [job.key for job in QUEUE.jobs("waiting", limit=100, newest_first=False)] == stored


@both_ways
@pytest.mark.parametrize("size", [1, 2, 7])
def test_replies_in_small_pieces_are_read_as_a_whole(proxy: Proxy, size: int, function: Any) -> None:
    proxy.split = size
    accepted = proxy.accepted
    for number in range(5):
        function.enqueue(number)
    assert proxy.accepted == accepted
    assert [job.args for job in QUEUE.jobs("waiting", newest_first=False)] == [
        (number,) for number in range(5)
    ]


@pytest.mark.parametrize("after", [0, 1, 50, 400])
def test_half_a_reply_is_never_taken_for_the_next_ones(proxy: Proxy, after: int, settings: Any) -> None:
    """A call that timed out in the middle of its reply leaves its connection unusable: it's closed."""
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 0.3}
    for number in range(20):
        sent.enqueue(number)
    QUEUE.jobs("waiting")  # Redis knows the script now: the next reply is the page
    proxy.stall_reply(after)
    with pytest.raises(StoreUnavailable):
        QUEUE.jobs("waiting")
    assert QUEUE.counts()["waiting"] == 20
    assert len(QUEUE.jobs("waiting")) == 20


async def test_a_cancelled_call_leaves_no_reply_for_the_next(proxy: Proxy) -> None:
    await QUEUE.acounts()
    proxy.delay = 0.3
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sent.aenqueue(1)
    proxy.delay = 0.0
    assert await QUEUE.ajobs("failed") == []
    assert set(await QUEUE.acounts()) == {"delayed", "waiting", "active", "completed", "failed", "cancelled"}
    await close_links()


def test_connections_that_redis_has_closed_are_made_anew_without_an_error(proxy: Proxy) -> None:
    QUEUE.counts()
    accepted = proxy.accepted
    proxy.cut_all()
    time.sleep(0.05)
    assert QUEUE.counts()["waiting"] == 0
    assert proxy.accepted == accepted + 1


async def test_async_connections_that_redis_has_closed_are_made_anew_without_an_error(proxy: Proxy) -> None:
    await QUEUE.acounts()
    proxy.cut_all()
    await asyncio.sleep(0.05)
    assert (await QUEUE.acounts())["waiting"] == 0
    await close_links()


@both_ways
def test_a_former_master_is_left_for_the_new_one(proxy: Proxy, tmp_path: Path, function: Any) -> None:
    """Behind one address another server takes over; the open connection still leads to the old one."""
    replica = start_redis(port := free_port(), str(tmp_path))
    try:
        client = redis_client()
        function.enqueue(1)
        client.execute_command("REPLICAOF", "127.0.0.1", str(port))
        proxy.target = port
        asked = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        handle = function.enqueue(2)
        assert handle.refresh().args == (2,)
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == asked + 1  # it isn't asked again
    finally:
        redis_client().execute_command("REPLICAOF", "NO", "ONE")
        forget_links()
        redis_client().flushall()
        replica.kill()
        replica.wait()


# ── silence ──


@both_ways
def test_enqueue_gives_up_within_its_timeout_when_redis_says_nothing(
    proxy: Proxy, settings: Any, function: Any
) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 1}
    put_one()
    proxy.is_mute = True
    begun = time.monotonic()
    with pytest.raises(EnqueueError, match=r"may have been stored.*Redis is unavailable"):
        function.enqueue(1)
    assert 0.9 < time.monotonic() - begun < 1.8


def test_a_call_may_take_as_long_as_it_says_whatever_the_one_before_could(proxy: Proxy) -> None:
    link = new_link(30)
    try:
        for timeout in (30, 0.3, 30, 0.1):
            proxy.is_mute = timeout < 1
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable) if proxy.is_mute else nullcontext():
                link.send(reads.counts("default"), timeout=timeout)
            assert time.monotonic() - begun < timeout + 0.5
    finally:
        link.close()


async def test_async_enqueue_gives_up_within_its_timeout_when_redis_says_nothing(
    proxy: Proxy, settings: Any
) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 0.4}
    await sent.aenqueue(0)
    proxy.is_mute = True
    begun = time.monotonic()
    with pytest.raises(EnqueueError, match=r"may have been stored.*Redis is unavailable"):
        await sent.aenqueue(1)
    assert time.monotonic() - begun < 1.2
    await close_links()


@both_ways
def test_enqueue_gives_up_quickly_while_redis_is_stopped_and_works_again_afterwards(
    own_server: subprocess.Popen[bytes], function: Any
) -> None:
    function.enqueue(1)
    own_server.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(EnqueueError):
        function.enqueue(2)
    assert time.monotonic() - begun < 1.5
    own_server.send_signal(signal.SIGCONT)
    assert function.enqueue(3).refresh().args == (3,)


@both_ways
@pytest.mark.parametrize("is_known", [False, True])
def test_enqueue_gives_up_at_once_when_nobody_listens(
    own_server: subprocess.Popen[bytes], function: Any, is_known: bool
) -> None:
    if is_known:
        function.enqueue(1)
    own_server.kill()
    own_server.wait()
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(EnqueueError, match=r"^The job was not enqueued.*refused"):
            function.enqueue(1)
        assert time.monotonic() - begun < 1.2
    with pytest.raises(StoreUnavailable):
        QUEUE.counts()


def test_the_queue_joins_the_registry_even_when_the_first_enqueue_failed(
    own_server: subprocess.Popen[bytes], tmp_path: Path, settings: Any
) -> None:
    own_server.kill()
    own_server.wait()
    with pytest.raises(EnqueueError):
        sent.enqueue(1)
    port = int(settings.KUE["REDIS"].rpartition(":")[2].partition("/")[0])
    again = start_redis(port, str(tmp_path))
    try:
        sent.enqueue(1)
        assert send(reads.registry())[0].queues == ["default"]
    finally:
        again.kill()
        again.wait()


# ── the short way ──


@pytest.mark.parametrize("size", [0, 1, 99, 1023, 1024, 100_000])
def test_one_plain_jobs_command_is_its_calls(size: int) -> None:
    terms = "default", b"k" * 22, b"r" * size, b"-15", b"s" * 18, 12
    assert moves.enqueue_one_packed(*terms) == moves.enqueue_one(*terms).packed()


def test_they_are_sent_and_heard_without_the_ways_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    plain.enqueue(1)
    with monkeypatch.context() as patched:
        patched.setattr(transport.ServerLink, "send", None)
        handle = plain.enqueue(2)
    assert handle.refresh().args == (2,)


class Looks:
    """Counts how often somebody looks whether there's a reply, and shows none the first times."""

    def __init__(self, poller: Any, in_vain: float) -> None:
        self.poller, self.in_vain, self.count = poller, in_vain, 0

    def poll(self, timeout: int) -> Any:
        self.count += 1
        return self.count > self.in_vain and self.poller.poll(timeout)


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that just had a reply at once, however slow this machine is."""
    monkeypatch.setattr(transport, "SERIES", 60.0)
    monkeypatch.setattr(transport, "AWAKE", 5.0)
    for number in range(2):
        plain.enqueue(number)
    return transport._idle[-1]


def looks_for_another_reply(link: Any, in_vain: float = 4, *, close: bool = True) -> int:
    """How often; the first one is whether the idle link is cut."""
    looks = link._poller = Looks(link._poller, in_vain)
    handle = plain.enqueue(3)
    count = looks.count
    assert handle.refresh().args == (3,)
    if close:
        link.close()
    return count


def test_in_a_series_of_calls_replies_are_waited_for_awake(link: Any) -> None:
    assert looks_for_another_reply(link) > 4


def test_the_first_call_after_a_pause_sleeps_for_its_reply(link: Any) -> None:
    link._prompt_at -= transport.SERIES
    assert looks_for_another_reply(link) == 1


def test_who_lost_its_core_meanwhile_sleeps_for_a_while(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that computes gets it for milliseconds, at each yield."""
    monkeypatch.setattr(transport, "ASLEEP", 60.0)
    with monkeypatch.context() as patched:
        patched.setattr(os, "sched_yield", lambda: time.sleep(0.02))
        patched.setattr(transport, "SERIES", 0.01)
        link._prompt_at = time.monotonic() + 60  # in a series, however late this machine is
        assert looks_for_another_reply(link, close=False) > 1
    link._poller = link._poller.poller
    link._prompt_at = time.monotonic()
    assert looks_for_another_reply(link, close=False) == 1
    link._poller = link._poller.poller
    link._awake_from -= transport.ASLEEP
    assert looks_for_another_reply(link) > 1


def test_so_does_the_next_one_after_a_reply_that_took_its_time(
    link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(transport, "AWAKE", 0.0)
        plain.enqueue(2)
    assert looks_for_another_reply(link) == 1


def test_nobody_stays_awake_for_long(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "AWAKE", 0.005)
    begun = time.monotonic()
    assert looks_for_another_reply(link, in_vain=float("inf")) > 1
    assert time.monotonic() - begun < 2.5
    assert link._prompt_at == transport.NEVER


@pytest.mark.foreign_data
@both_ways
@pytest.mark.parametrize(("foreign", "is_waiting"), [("w:0", False), ("k", True)])
def test_a_script_that_stops_halfway_is_not_begun_again(
    function: Any, foreign: str, is_waiting: bool
) -> None:
    function.enqueue(0)
    redis = redis_client()
    redis.delete(f"kue:{{default}}:{foreign}")
    redis.set(f"kue:{{default}}:{foreign}", "something else's")
    before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
    with pytest.raises(EnqueueError, match=r"^The job was not enqueued.*WRONGTYPE") as caught:
        function.enqueue(1)
    assert not caught.value.may_be_stored
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1
    if is_waiting:
        assert redis.llen("kue:{default}:w:0") == 2


@both_ways
def test_a_redis_that_takes_nothing_more_says_so(own_server: subprocess.Popen[bytes], function: Any) -> None:
    function.enqueue(1)
    redis = Redis.from_url(settings.KUE["REDIS"])
    redis.config_set("maxmemory", 1)
    for _ in range(2):
        with pytest.raises(EnqueueError, match=r"^The job was not enqueued.*memory") as caught:
            function.enqueue(2)
        assert not caught.value.may_be_stored
    redis.config_set("maxmemory", 0)
    assert function.enqueue(3).refresh().args == (3,)
    assert QUEUE.counts()["waiting"] == 2


# ── scripts that Redis has forgotten ──


def test_scripts_that_redis_has_forgotten_are_sent_again() -> None:
    redis = redis_client()
    hands = Hands()
    for function in (sent, plain, sent, plain):
        redis.script_flush()
        function.enqueue(1)
        redis.script_flush()
        key = hands.take_one()
        redis.script_flush()
        hands.settle(key, completed())
    redis.script_flush()
    counts, facts, page = send(
        reads.counts("default"),
        reads.facts("default"),
        reads.page("default", "completed", 0, 9, newest_first=True),
    )  # type: ignore[arg-type]
    assert (counts["completed"], facts.totals["completed"], len(page)) == (4, 4, 4)


async def test_async_scripts_that_redis_has_forgotten_are_sent_again() -> None:
    for number in range(3):
        await sync_to_async(redis_client().script_flush)()
        await sent.aenqueue(number)
    assert (await QUEUE.acounts())["waiting"] == 3
    await close_links()


# ── forks, threads, loops ──


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_crosses_no_replies() -> None:
    sent.enqueue(-1)  # a link is idle now, and would be shared
    children = []
    for child in range(8):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                jobs = [sent.enqueue(100 * child + number) for number in range(40)]
                if all(job.refresh().args == job.args for job in jobs):
                    status = 0
            finally:
                os._exit(status)
        children.append(pid)
    mine = [sent.enqueue(1_000 + number) for number in range(40)]
    assert all(job.refresh().args == job.args for job in mine)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 8
    assert QUEUE.counts()["waiting"] == 361
    found = sorted(job.args[0] for job in QUEUE.jobs("waiting", limit=1000))
    theirs = [100 * child + number for child in range(8) for number in range(40)]
    assert found == [-1, *theirs, *range(1_000, 1_040)]


def test_fifty_threads_enqueue_exactly_what_they_were_told() -> None:
    each = full_size(100, 1_000)
    handles: list[Job] = []
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            handles.extend([sent.enqueue(first + number) for number in range(each)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(each * number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({job.id for job in handles}) == 50 * each
    assert QUEUE.counts()["waiting"] == 50 * each
    for number in (0, 23 * each + 45, 50 * each - 1):
        assert [job.args for job in QUEUE.find(number=number)] == [(number,)]


async def test_many_coroutines_enqueue_exactly_what_they_were_told() -> None:
    total = full_size(300, 1_200)
    for first in range(0, total, 300):  # each has a connection of its own
        numbers = range(first, first + 300)
        handles = await asyncio.gather(*(sent.aenqueue(number) for number in numbers))
        assert [job.args for job in handles] == [(number,) for number in numbers]
    assert (await QUEUE.acounts())["waiting"] == total
    many = await sent.aenqueue_many([(number,) for number in range(1_200)])
    assert len(many) == 1_200
    assert (await QUEUE.acounts())["waiting"] == total + 1_200
    await close_links()


def test_each_event_loop_has_connections_of_its_own() -> None:
    async def work(number: int) -> str:
        handle = await sent.aenqueue(number)
        await close_links()
        return handle.id

    found = {asyncio.run(work(number)) for number in range(3)}
    assert len(found) == 3


def test_no_more_idle_connections_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def connected() -> int:
        return int(redis_client().info("clients")["connected_clients"])

    forget_links()
    before = connected()
    barrier = threading.Barrier(80)

    def work() -> None:
        barrier.wait()
        submit("default", [])
        for _ in range(3):
            sent.enqueue(1)

    threads = [threading.Thread(target=work) for _ in range(80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: connected() - before <= 64)


async def test_no_more_idle_async_connections_are_kept_than_fit() -> None:
    def connected() -> int:
        return int(redis_client().info("clients")["connected_clients"])

    before = await sync_to_async(connected)()
    await asyncio.gather(
        *(asubmit("default", []) for _ in range(10)), *(sent.aenqueue(n) for n in range(150))
    )
    for _ in range(100):
        if await sync_to_async(connected)() - before <= 64:
            break
        await asyncio.sleep(0.02)
    assert await sync_to_async(connected)() - before <= 64
    await close_links()
