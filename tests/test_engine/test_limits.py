"""What a queue's limits and its pause let start."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_kue.queue import Queue
from django_kue.states import State
from django_kue.store import moves
from tests.conftest import redis_client
from tests.test_engine.hands import (
    RELEASED,
    Hands,
    completed,
    is_rung,
    job_of,
    next_millisecond,
    parked,
    put,
    put_one,
    texts,
)  # fmt: skip

QUEUE = Queue("default")


# ── limits ──


def test_concurrency_holds_over_all_workers_together() -> None:
    keys = put("narrow", 5)
    one, two = Hands("narrow", "w1"), Hands("narrow", "w2")
    assert one.take(1) == keys[:1]
    assert two.take(5) == keys[1:2]
    assert one.turn(5).wait == two.turn(5).wait == moves.FULL
    assert texts(one.turn(5, {keys[0]: completed()}).keys) == [keys[2]]
    assert QUEUE.counts()["active"] == 0
    assert Queue("narrow").counts()["active"] == 2


def test_a_slot_that_comes_free_wakes_a_worker_that_was_told_the_queue_is_full() -> None:
    keys = put("narrow", 3)
    hands = Hands("narrow")
    hands.take(2)
    is_rung("narrow")
    hands.settle(keys[0], completed())
    assert is_rung("narrow")


def test_a_rate_lets_exactly_so_many_start_in_every_period() -> None:
    """5/s: in no second, wherever it begins, start more than five; and none waits longer than it must."""
    put("slow", 16)
    hands = Hands("slow")
    starts: list[int] = []
    deadline = time.monotonic() + 15
    while len(starts) < 16 and time.monotonic() < deadline:
        turn = hands.turn(3, dict.fromkeys(list(hands.leases), completed()))
        if turn.keys:
            starts += [int(turn.lease.split(b"|")[1])] * len(turn.keys)
        else:
            assert 0 < turn.wait <= 1_000
            time.sleep(turn.wait / 1000)
    assert len(starts) == 16
    assert all(later - first >= 1_000 for first, later in zip(starts, starts[5:], strict=False))
    assert starts[-1] - starts[0] < 3_300


@pytest.mark.parametrize("outcome", [RELEASED, parked()])
def test_a_job_that_never_ran_uses_up_no_rate(outcome: bytes, settings: Any) -> None:
    """Else unknown ones at the front would hold back those behind them."""
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"RATE": "5/h"}}}
    hands, other = Hands(), Hands(name="w2")
    put(count=12)
    early, between = hands.take(2), other.take(1)
    late = hands.take(2)
    assert hands.turn(5).keys == []
    hands.turn(0, {early[0]: outcome, early[1]: completed(), late[1]: outcome})
    assert len(hands.take(5)) == 2
    assert other.turn(5, {between[0]: completed()}).keys == []
    assert redis_client().ttl("kue:{default}:rl") > 0


def test_a_claim_whose_reply_was_lost_uses_up_no_rate(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"RATE": "5/h"}}}
    keys = put(count=12)
    hands = Hands()
    kept = hands.take(2)
    lost = hands.take(3)
    known = {hands.leases[key] for key in kept}
    assert hands.turn(5).keys == []
    assert hands.sync(known) == lost
    assert hands.take(5) == keys[2:5]


def test_what_is_given_back_after_the_period_is_no_room_for_more(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"RATE": "2/h"}}}
    hands = Hands()
    put(count=9)
    first = hands.take(2)
    redis_client().delete("kue:{default}:rl")  # as if it were over
    next_millisecond()
    hands.take(2)
    hands.turn(0, dict.fromkeys(first, RELEASED))
    assert hands.turn(2).keys == []


def test_a_paused_queue_gives_nothing_and_takes_everything() -> None:
    first, second = put(count=2)
    hands = Hands()
    hands.take_one()
    assert QUEUE.pause()
    assert hands.turn(5).wait == moves.PAUSED
    third = put_one()
    assert hands.turn(5, {first: completed()}).keys == []
    assert job_of(first).state is State.COMPLETED
    assert QUEUE.resume()
    assert is_rung()
    assert hands.take(5) == [second, third]


def test_nobody_is_woken_for_a_paused_queue() -> None:
    QUEUE.pause()
    is_rung()
    key = put_one()
    put_one(delay=10)
    job_of(put_one(delay=60_000)).promote()
    job_of(key).cancel()
    job_of(key).retry()
    assert not is_rung()
