"""Priorities, the order within each, and entries that leave a long list from its middle."""

from __future__ import annotations

import random
from typing import Any

import pytest

from django_kue import job
from django_kue.audit import audit
from django_kue.jobs import Job
from django_kue.queue import Queue
from django_kue.states import State
from django_kue.store import moves, send
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, job_of, put, put_one

QUEUE = Queue("default")


def _list_lengths() -> int:
    redis = redis_client()
    return sum(redis.llen(name) for name in redis.keys("kue:{default}:w:*"))


def _verb(name: str, keys: list[str], argument: int | str = "") -> None:
    for first in range(0, len(keys), 500):
        answers = send(moves.verb(name, "default", keys[first : first + 500], argument))[0]
        assert all(answer.is_done for answer in answers)


def test_higher_priorities_run_first_and_within_one_the_first_in_is_the_first_out() -> None:
    low, normal, high = put(count=3, priority=-10), put(count=3), put(count=3, priority=10)
    more = put(count=2, priority=10)
    assert Hands().take(50) == [*high, *more, *normal, *low]


def test_priorities_reach_from_minus_100_to_100_in_the_order_of_numbers_not_of_texts() -> None:
    keys = {priority: put_one(priority=priority) for priority in (9, 100, -100, 10, -9, 0, -10)}
    assert Hands().take(50) == [keys[priority] for priority in (100, 10, 9, 0, -9, -10, -100)]


@pytest.mark.parametrize(
    ("name", "number"), {"low": -10, "normal": 0, "medium": 5, "high": 10, "critical": 15}.items()
)
def test_a_priority_can_be_given_by_kues_name(name: str, number: int) -> None:
    job = job_of(put_one())
    assert job.set_priority(name).priority == number
    assert job.refresh().priority == number


@pytest.mark.parametrize("wrong", [101, -101, "urgent", 1.5, None, True])
def test_what_is_no_priority_is_refused_with_what_to_write_instead(wrong: object) -> None:
    job = job_of(put_one())
    with pytest.raises(ValueError, match="whole number from -100 to 100"):
        job.set_priority(wrong)  # type: ignore[arg-type]
    assert job.refresh().priority == 0


def test_a_waiting_job_with_a_new_priority_joins_the_back_of_it() -> None:
    first, second, third = put(count=3)
    [high] = put(count=1, priority=10)
    job_of(first).set_priority(10)
    assert Hands().take(10) == [high, first, second, third]


def test_a_new_priority_that_is_the_old_one_moves_the_job_to_the_back() -> None:
    first, second = put(count=2)
    job_of(first).set_priority(0)
    assert Hands().take(10) == [second, first]


def test_there_and_back_again_starts_a_job_once() -> None:
    first, second = put(count=2)
    for priority in (5, 0, 5, 0):
        job_of(first).set_priority(priority)
    assert QUEUE.counts()["waiting"] == 2
    assert Hands().take(10) == [second, first]


def test_a_delayed_jobs_new_priority_holds_when_it_is_promoted() -> None:
    put(count=2)
    late = put_one(delay=60_000)
    job_of(late).set_priority("high")
    assert job_of(late).state is State.DELAYED
    job_of(late).promote()
    assert Hands().take_one() == late


def test_an_active_jobs_new_priority_holds_when_it_is_given_back() -> None:
    first, second = put(count=2)
    hands = Hands()
    assert hands.take_one() == first
    job_of(first).set_priority(-5)
    hands.settle(first, b"b")
    assert hands.take(10) == [second, first]


def test_a_cancelled_job_that_runs_again_joins_the_back() -> None:
    first, second = put(count=2)
    job_of(first).cancel()
    job_of(first).retry()
    assert Hands().take(10) == [second, first]


@pytest.mark.parametrize("verb", ["cancel", "remove", "set_priority"])
def test_jobs_that_leave_a_long_list_from_its_middle_never_start_from_their_old_entries(verb: str) -> None:
    keys = put(count=10_000)
    order = random.Random(7)
    leaving = order.sample(keys, 6_000)
    for first in range(0, len(leaving), 1_500):
        _verb(verb, leaving[first : first + 1_500], -50 if verb == "set_priority" else "")
        counts = QUEUE.counts()
        assert counts["waiting"] == 10_000 - (0 if verb == "set_priority" else first + 1_500)
    gone = set(leaving)
    left = [key for key in keys if key not in gone]
    expected = left + (leaving if verb == "set_priority" else [])
    page = QUEUE.jobs("waiting", offset=1_000, limit=50, newest_first=False)
    assert [job.key for job in page] == expected[1_000:1_050]
    assert audit("default") == []
    assert Hands().run_all() == expected
    assert QUEUE.counts()["waiting"] == 0


def test_a_list_that_is_mostly_stale_is_compacted_and_its_order_kept() -> None:
    keys = put(count=5_000)
    _verb("cancel", keys[:-100])
    assert _list_lengths() < 1_000
    [new] = put(count=1)
    assert Hands().run_all() == [*keys[-100:], new]
    assert audit("default") == []


def test_what_is_given_back_during_a_compaction_still_comes_first() -> None:
    keys = put(count=1_000)
    hands = Hands()
    taken = hands.take(10)
    cancelled = 10
    while not redis_client().exists("kue:{default}:w:0:front"):
        _verb("cancel", keys[cancelled : cancelled + 1])
        cancelled += 1
    hands.settle_all(b"b")
    new = put(count=3)
    assert hands.run_all() == [*taken, *keys[cancelled:], *new]


def test_a_list_of_only_stale_entries_is_dropped_at_once() -> None:
    keys = put(count=3_000)
    _verb("remove", keys)
    assert _list_lengths() == 0
    assert not redis_client().exists("kue:{default}:p", "kue:{default}:st")


def test_a_claim_passes_a_bounded_number_of_stale_entries_and_says_that_there_is_more() -> None:
    keys = put(count=1_200)
    _verb("cancel", keys[:550])  # fewer than half: not compacted
    hands = Hands()
    turn = hands.turn(1)
    assert (turn.keys, turn.wait) == ([], 1)
    assert audit("default") == []
    found = turn
    for _ in range(10):
        found = hands.turn(1)
        if found.keys:
            break
    assert [key.decode() for key in found.keys] == [keys[550]]


def test_a_removed_jobs_old_entry_does_not_start_a_job_that_has_moved_since() -> None:
    """One entry of the job is stale, the other is its seat, in the same list."""
    first, second = put(count=2)
    job_of(first).cancel()
    job_of(first).retry()  # its old entry is before `second`, its seat behind
    hands = Hands()
    assert hands.take(1) == [second]
    assert hands.take(5) == [first]
    assert hands.take(5) == []
    assert Job.get(f"default.{first}").state is State.ACTIVE


def test_waiting_jobs_are_listed_in_the_order_of_their_claims_and_in_reverse() -> None:
    keys = put(count=30) + put(count=10, priority=-1)
    high = put(count=10, priority=10)
    _verb("cancel", [keys[3], keys[4]])
    expected = high + [key for key in keys if key not in keys[3:5]]
    forward = [job.key for job in QUEUE.jobs("waiting", limit=100, newest_first=False)]
    backward = [job.key for job in QUEUE.jobs("waiting", limit=100)]
    assert forward == expected == backward[::-1]
    pages = [QUEUE.jobs("waiting", offset=at, limit=7, newest_first=False) for at in range(0, 49, 7)]
    assert [job.key for page in pages for job in page] == expected
    pages = [QUEUE.jobs("waiting", offset=at, limit=7) for at in range(0, 49, 7)]
    assert [job.key for page in pages for job in page] == expected[::-1]


@job(name="tests.of_the_queues_priority")
def of_the_queues_priority() -> None: ...


def test_a_queues_priority_holds_for_what_is_enqueued_after_it_was_set(settings: Any) -> None:
    assert of_the_queues_priority.enqueue().priority == 0
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"PRIORITY": 7}}}
    assert of_the_queues_priority.enqueue().refresh().priority == 7
    assert of_the_queues_priority.using(priority=3).enqueue().refresh().priority == 3
