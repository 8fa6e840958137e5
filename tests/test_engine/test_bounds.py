"""No script's time grows with what lies in Redis, and bounds don't cost correctness."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from django_kue import JobDoesNotExist, job
from django_kue.codecs import search_hash
from django_kue.queue import Queue
from django_kue.states import State
from tests.app.jobs import add
from tests.conftest import redis_client
from tests.test_engine.hands import (
    Hands,
    completed,
    completed_kept,
    crashed,
    job_of,
    put,
    put_one,
    rescue,
    texts,
    wait_until,
)

QUEUE = Queue("default")


@job(name="tests.bounded", search_keys=("kind", "order_id"))
def bounded(kind: str, order_id: int) -> None: ...


PREFIX = "kue:{default}:"


def _redis_ms(action: Callable[[], object]) -> float:
    """Milliseconds that Redis was at work for an action, without those in which it waited for a core."""
    begun = _cpu_seconds()
    action()
    return (_cpu_seconds() - begun) * 1000


def _cpu_seconds() -> float:
    spent: Any = redis_client().info("cpu")
    return float(spent["used_cpu_user_main_thread"] + spent["used_cpu_sys_main_thread"])


# ── search ──


def test_a_value_that_many_jobs_have_is_found_without_reading_them_all() -> None:
    common, rare = search_hash("kind", "a"), search_hash("order_id", 1)
    redis = redis_client()
    redis.zadd(PREFIX + "s:" + common, {f"gone{number}": number for number in range(50_000)})
    keys = put(count=3, search=(common, rare))
    found = {}
    spent = _redis_ms(lambda: found.update(all=QUEUE.find(kind="a", order_id=1)))
    assert [job.key for job in found["all"]] == keys
    assert spent < 50
    redis.delete(PREFIX + "s:" + common)  # those that were only made up
    redis.zadd(PREFIX + "s:" + common, dict.fromkeys(keys, 1))


# ── pages ──


def _half_stale(count: int) -> list[str]:
    """Waiting jobs; the records of the first half say that they sit elsewhere, as after a cancel."""
    keys = put(count=count)
    gone = keys[: count // 2]
    for first in range(0, len(gone), 1000):
        redis_client().hdel(PREFIX + "d", *gone[first : first + 1000])
    redis_client().hset(PREFIX + "st", "0", len(gone))
    return keys[count // 2 :]


@pytest.mark.parametrize("newest_first", [True, False])
def test_any_page_of_a_list_with_many_stale_entries_is_quick_and_not_empty(newest_first: bool) -> None:
    live = set(_half_stale(40_000))
    for offset in (0, 5_000, 15_000):
        pages: dict[str, Any] = {}

        def read(offset: int = offset, pages: dict[str, Any] = pages) -> None:
            pages["one"] = QUEUE.jobs("waiting", offset=offset, newest_first=newest_first)

        assert _redis_ms(read) < 40
        assert len(pages["one"]) == 25
        assert {job.key for job in pages["one"]} <= live


def test_pages_are_exact_as_far_as_the_budget_goes() -> None:
    live = _half_stale(4_000)
    assert [job.key for job in QUEUE.jobs("waiting", offset=1_990, newest_first=False)] == live[1_990:]
    assert [job.key for job in QUEUE.jobs("waiting", offset=1_000)] == live[::-1][1_000:1_025]
    assert QUEUE.jobs("waiting", limit=0) == []


# ── the rate ──


def test_a_turn_does_not_read_all_starts_of_the_period(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"RATE": "1000000/h"}}}
    now = int(time.time() * 1000)
    starts = [f"1:{now}:{number}" for number in range(1, 50_001)]
    redis_client().rpush(PREFIX + "rl", *starts)
    put()
    hands = Hands()
    assert _redis_ms(lambda: hands.take(1)) < 10
    assert redis_client().lindex(PREFIX + "rl", -1).split(b":")[2] == b"50001"


def test_no_more_start_in_any_period_than_the_rate_says(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"RATE": "5/s"}}}
    put(count=30)
    hands, starts = Hands(), []
    begun = time.monotonic()
    while time.monotonic() - begun < 2.6:
        turn = hands.turn(2)
        starts += [int(turn.lease.split(b"|")[1])] * len(turn.keys)
        assert turn.wait >= 0
        time.sleep(0.01)
    assert len(starts) >= 13
    assert all(later - earlier >= 1000 for earlier, later in zip(starts, starts[5:], strict=False))


# ── retention ──


def test_a_count_is_held_whatever_many_own_keeps_and_sweeps_come_between(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"KEEP_COMPLETED": 10}}}
    hands = Hands()
    put(count=6_000)
    while taken := hands.take(500):
        hands.turn(0, dict.fromkeys(taken, completed_kept(3_600_000)))
        time.sleep(0.002)
    for _ in range(100):
        put(count=20)
        hands.turn(0, dict.fromkeys(hands.take(20), completed()))
        rescue()
    assert QUEUE.counts()["completed"] - 6_000 <= 10 + 20 + 256


# ── a counter that's wrong ──


def test_live_jobs_are_never_dropped_because_a_counter_says_that_all_are_stale() -> None:
    keys = put(count=100)
    redis_client().hset(PREFIX + "st", "0", 500)  # of a list that was evicted
    job_of(keys[50]).cancel()
    hands = Hands()
    assert hands.run_all() == keys[:50] + keys[51:]
    assert QUEUE.counts()["waiting"] == 0


# ── keep ──


def test_what_is_not_kept_goes_too_when_it_is_cancelled_or_expires_or_is_a_poison_pill() -> None:
    cancelled = add.using(keep=0).enqueue(1)
    cancelled.cancel()
    expired = add.using(keep=0, expires=0.001).enqueue(1)
    time.sleep(0.01)
    hands = Hands()
    assert hands.take(1) == []
    poison = add.using(keep=0).enqueue(1)
    for _ in range(3):
        hands.settle(hands.take_one(), crashed())
    for gone in (cancelled, expired, poison):
        with pytest.raises(JobDoesNotExist):
            gone.refresh()
    assert sum(QUEUE.counts().values()) == 0


def test_a_keep_of_the_jobs_own_beats_the_queues_when_it_is_cancelled() -> None:
    short = add.using(keep=0.02).enqueue(1)
    long = add.enqueue(1)
    short.cancel()
    long.cancel()
    wait_until(lambda: rescue() == [] and QUEUE.counts()["cancelled"] == 1)
    assert long.refresh().state is State.CANCELLED


def test_a_large_outcome_of_a_job_that_is_not_kept_costs_no_memory() -> None:
    hands = Hands()
    for size in (10, 10_000):
        key = put_one()
        hands.take_one()
        hands.settle(key, completed_kept(0, "x" * size))
        assert redis_client().exists(f"{PREFIX}by:{key}") == (size == 10)


# ── the rescue ──


def test_a_dead_owners_many_jobs_go_back_in_bounded_sweeps_and_in_order() -> None:
    keys = put(count=3_500)
    dead = Hands(name="dead")
    for _ in range(7):
        dead.take(500)
    rescue()
    dead.let_lease_run_out()
    sweeps: list[list[bytes]] = []
    while not sweeps or sweeps[-1]:
        assert _redis_ms(lambda: sweeps.append(rescue())) < 150
        assert not dead.beat().is_alive
    assert [len(sweep) for sweep in sweeps] == [1_000, 1_000, 1_000, 500, 0]
    assert [job.key for job in QUEUE.jobs("waiting", limit=1000, newest_first=False)] == keys[:1_000]
    assert QUEUE.counts()["waiting"] == 3_500


def test_what_a_dead_owner_claims_after_its_death_is_not_taken_from_it() -> None:
    put(count=1_100)
    owner = Hands(name="owner")
    owner.take(1_100)
    rescue()
    owner.let_lease_run_out()
    assert len(rescue()) == 1_000
    time.sleep(0.005)
    new = owner.take(1)
    assert len(rescue()) == 100
    assert rescue() == []
    assert owner.settle(new[0], completed()).refused == []


@pytest.mark.foreign_data
def test_ten_thousand_leases_without_a_job_do_not_keep_the_others_from_coming_back() -> None:
    key = put_one()
    dead = Hands(name="dead")
    dead.take_one()
    lease = dead.leases[key]
    redis_client().hset(PREFIX + "a", mapping={f"nobody{number}": lease for number in range(10_000)})
    rescue()
    dead.let_lease_run_out()
    found: list[str] = []
    for _ in range(12):
        found += texts(rescue())
    assert found == [key]
    assert redis_client().hlen(PREFIX + "a") == 0


def test_a_job_that_is_delayed_says_so_when_it_is_enqueued() -> None:
    listener = redis_client().pubsub()
    listener.subscribe(PREFIX + "ev")
    listener.get_message(timeout=1)
    redis_client().hset(PREFIX + "h", "ev", int(time.time() * 1000) + 60_000)
    put_one(delay=60_000)
    message = listener.get_message(timeout=1, ignore_subscribe_messages=True)
    listener.close()
    assert message is not None
    assert b'"d"]' in message["data"]
