"""Any key of a queue is deleted, of a wrong type, or full of garbage: the audit tells, a repair mends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from django_kue import keys, metrics, schedules
from django_kue.audit import audit, repair
from django_kue.codecs import search_hash
from django_kue.errors import EnqueueError, StoreError
from django_kue.handover import submit
from django_kue.ids import new_keys
from django_kue.measures import Row
from django_kue.overview import overview
from django_kue.queue import Queue
from django_kue.records import NewJob, OutboxJob
from django_kue.store import ask, moves
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_engine.hands import (
    NAME,
    Hands,
    completed,
    completed_kept,
    failed,
    job_of,
    put,
    put_one,
    rescue,
    retried,
)
from tests.test_schedules.hands import tick

pytestmark = pytest.mark.foreign_data
QUEUE = Queue("default")
PREFIX = "kue:{default}:"
HOUR = 3_600_000
SUFFIXES = sorted(set(keys.QUEUE_KEYS.values()) - {"ev", "bad:"})  # the channel; what was put aside

# What nobody can tell from a queue that never had it, and what nothing depends on.
UNTOLD = {
    "deleted": {
        "by:",
        "cm",
        "fw:",
        "gn:",
        "h",
        "k",
        "kc",
        "l:",
        "mf:",
        "ms:",
        "n:",
        "pr",
        "r:",
        "rf",
        "rl",
        "rs",
        "sr:",
        "t:",
        "tt",
        "ul:",
    },
    "of a wrong type": set(),
    "full of garbage": {"by:", "fw:", "gn:", "k", "l:", "n:", "r:", "rl", "sr:", "ul:"},
}


@pytest.fixture
def hands() -> Hands:
    """A queue with jobs in all states and everything that can hang on them; the hands of a worker."""
    hands = Hands()
    ask(moves.listen("default", 60_000))
    _finished(hands)
    _with_indexes()
    put(count=3, delay=HOUR)
    put(count=5)
    _stale_and_front(priority=-10)
    put(count=8, priority=20)
    kept, marked, ghost, *_ = hands.take(6)
    hands.report(kept, "p", b'[50,{"rows":3}]')
    hands.report(kept, "l", b"a line")
    job_of(marked).cancel()
    job_of(ghost).remove()
    rescue()
    redis_client().rpush(PREFIX + "rl", "1:1:1")
    redis_client().expire(PREFIX + "rl", 60)
    measured = Row(completed=3)
    measured.time_run(3, 4, 3)
    ask(moves.measure("default", measured, {NAME: measured}))
    schedules.create("hourly", jobs.noop, every=3600)
    schedules.run_now("hourly")
    assert audit("default") == []
    assert {_suffix(name.decode()) for name in redis_client().keys(PREFIX + "*")} == set(SUFFIXES)
    return hands


def _finished(hands: Hands) -> None:
    outcomes = [completed(1), completed_kept(0), failed(), retried(HOUR), completed_kept(None), failed()]
    put(count=4)
    put(count=2, keep=HOUR)
    hands.turn(0, dict(zip(hands.take(6), outcomes, strict=True)))
    for keep in (None, HOUR):
        job_of(put_one(keep=keep)).cancel()


def _with_indexes() -> None:
    for one in ({"unique": "A" * 22}, {"unique": "T" * 22, "unique_mode": "t", "unique_for": HOUR}):
        for _ in range(2):  # the second is a duplicate, which leads to the first
            submit("default", [NewJob(key=new_keys(1)[0], name=NAME, **one)], is_forwarded=True)
    put(search=(search_hash("order_id", 17),))
    boxed = [OutboxJob(key=key, name=NAME) for key in new_keys(2)]
    gone, _ = submit("default", boxed)
    job_of(gone.decode()).remove()


def _stale_and_front(priority: int) -> None:
    """So many leave from the middle that a front list is begun, and some entries behind it are stale."""
    line = put(count=200, priority=priority)
    ask(moves.verb("remove", "default", line[1:102]))
    assert redis_client().exists(f"{PREFIX}w:{priority}:front")


def _suffix(name: str) -> str:
    name = name.removeprefix(PREFIX)
    return next((one for one in SUFFIXES if one.endswith(":") and name.startswith(one)), name)


def _key_of(suffix: str) -> bytes:
    return sorted(name for name in redis_client().keys(PREFIX + "*") if _suffix(name.decode()) == suffix)[0]


# ── damages ──


def _deleted(key: bytes) -> None:
    redis_client().delete(key)


def _of_a_wrong_type(key: bytes) -> None:
    redis, ttl = redis_client(), redis_client().pttl(key)
    is_list = redis.type(key) == b"list"
    redis.delete(key)
    redis.set(key, "foreign") if is_list else redis.rpush(key, "foreign")
    if ttl > 0:
        redis.pexpire(key, ttl)


GARBAGE = b"\xff garbage|~"


def _full_of_garbage(key: bytes) -> None:
    redis, ttl, kind = redis_client(), redis_client().pttl(key), redis_client().type(key)
    if kind == b"hash":
        redis.hset(key, mapping=dict.fromkeys(redis.hkeys(key), GARBAGE))
    else:
        count = {b"zset": redis.zcard, b"set": redis.scard, b"list": redis.llen, b"string": lambda _: 1}[
            kind
        ](key)
        redis.delete(key)
        for at in range(count):
            member = GARBAGE + b"%d" % at
            {
                b"zset": lambda member=member: redis.zadd(key, {member: "inf"}),
                b"set": lambda member=member: redis.sadd(key, member),
                b"list": lambda member=member: redis.rpush(key, member),
                b"string": lambda member=member: redis.set(key, member),
            }[kind]()
    if ttl > 0:
        redis.pexpire(key, ttl)


DAMAGES: dict[str, Callable[[bytes], None]] = {
    "deleted": _deleted,
    "of a wrong type": _of_a_wrong_type,
    "full of garbage": _full_of_garbage,
}


# ── the test ──


def _go_on(hands: Hands) -> list[str]:
    """All that a worker asks in a while, and who looks; what was refused, with an error of ours."""
    held = list(hands.leases)
    calls: list[Callable[[], Any]] = [
        hands.beat,
        lambda: hands.report(held[0], "l", b"another line"),
        lambda: hands.report(held[0], "p", b"[60,null]"),
        lambda: hands.settle(held[0], completed()),
        lambda: hands.settle(held[-1], failed()),
        lambda: hands.take(2),
        rescue,
        lambda: ask(moves.measure("default", Row(completed=1), {NAME: Row(completed=1)})),
        hands.sync,
        lambda: put(count=2),
        lambda: hands.take(200),  # through all lists, their stale entries too
        lambda: ask(moves.listen("default", 60_000)),
        lambda: ask(moves.announce("w1", b"{}", busy=1, slots=2)),
        lambda: hands.settle_all(failed()),
        overview,
        QUEUE.work_time,
        QUEUE.rates,
        QUEUE.oldest_waiting,
        lambda: QUEUE.jobs("waiting"),
        lambda: metrics.series("1h", "default"),
        lambda: metrics.functions("1h", "default"),
        lambda: metrics.sparklines(["default"]),
        schedules.all,
        lambda: tick("default"),
    ]
    refused = []
    for call in calls:
        try:
            call()
        except (StoreError, EnqueueError) as error:
            refused.append(str(error))
    return refused


def _records() -> set[bytes]:
    kind = redis_client().type(PREFIX + "d")
    return set(redis_client().hkeys(PREFIX + "d")) if kind == b"hash" else set()


def _mended() -> None:
    for _ in range(4):
        found = audit("default")
        if not found:
            return
        repair("default", found)
    assert audit("default") == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_key_is_told_and_mended_and_no_job_is_lost(hands: Hands, suffix: str, damage: str) -> None:
    key = _key_of(suffix)
    DAMAGES[damage](key)
    left = _records()
    found = audit("default")
    if suffix in UNTOLD[damage]:
        assert found == []
    elif damage == "of a wrong type":
        assert ("key.type", key.decode().removeprefix(PREFIX)) in [
            (fault.kind, fault.name) for fault in found
        ]
    else:
        assert found
    refused = _go_on(hands)
    if damage == "of a wrong type":  # the queue is blocked, and says why
        assert all("WRONGTYPE" in error for error in refused)
    else:
        assert refused == []
    _mended()
    assert left <= _records()
    put(count=3)
    Hands(name="w2").run_all()
    assert QUEUE.counts()["waiting"] == 0
    assert audit("default") == []
