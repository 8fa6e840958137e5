"""One at a time (unique), found by arguments (search keys), not after (expires), and ids."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_kue import EnqueueError, IllegalTransition, Job, JobDoesNotExist, get_queue, ids, job
from django_kue.codecs import search_hash
from django_kue.handover import submit
from django_kue.queue import Queue
from django_kue.records import Alike, NewJob
from django_kue.states import State
from django_kue.store import moves, reads, send
from tests.conftest import redis_client
from tests.test_engine.hands import (
    NAME,
    Hands,
    completed_kept,
    failed,
    job_of,
    new_jobs,
    put,
    put_one,
    retried,
    wait_until,
)  # fmt: skip

QUEUE = Queue("default")


@job(name="tests.one", unique=True, search_keys=("order_id",))
def one(order_id: int, note: str = "") -> None: ...


@job(name="tests.by_order", unique="order {order_id}")
def by_order(order_id: int, note: str = "") -> None: ...


@job(name="tests.once_a_while", unique=True, unique_for=0.2)
def once_a_while(order_id: int) -> None: ...


@job(name="tests.until_started", unique=True, unique_for=("waiting",))
def until_started(order_id: int) -> None: ...


@job(name="tests.searched", search_keys=("order_id", "name"))
def searched(order_id: int, name: str = "anna") -> None: ...


@job(name="tests.unsearched")
def plain(number: int) -> None: ...


# ── unique ──


def test_a_second_enqueue_returns_the_first_job_as_it_is_now() -> None:
    first = one.enqueue(17)
    Hands().take_one()
    second = one.enqueue(17)
    assert second.id == first.id
    assert second.state is State.ACTIVE
    assert sum(QUEUE.counts().values()) == 1


def test_other_arguments_are_another_job_and_defaults_are_the_same() -> None:
    assert one.enqueue(17).id != one.enqueue(18).id
    assert one.enqueue(17).id == one.enqueue(order_id=17, note="").id


def test_a_template_says_which_arguments_matter() -> None:
    first = by_order.enqueue(17, "a")
    assert by_order.enqueue(17, "b").id == first.id
    assert by_order.enqueue(18, "a").id != first.id


def test_another_queue_is_another_room() -> None:
    assert one.enqueue(17).id != one.using(queue="other").enqueue(17).id


@pytest.mark.parametrize("outcome", [completed_kept(None), completed_kept(0), failed()])
def test_the_key_is_free_when_the_first_job_has_finished(outcome: bytes) -> None:
    first = one.enqueue(17)
    hands = Hands()
    hands.settle(hands.take_one(), outcome)
    assert one.enqueue(17).id != first.id


@pytest.mark.parametrize("way", ["cancel", "remove"])
def test_the_key_is_free_when_the_first_job_was_cancelled_or_removed(way: str) -> None:
    first = one.enqueue(17)
    getattr(first, way)()
    assert one.enqueue(17).id != first.id


def test_the_key_is_held_while_the_first_job_backs_off() -> None:
    first = one.enqueue(17)
    hands = Hands()
    hands.settle(hands.take_one(), retried(60_000))
    assert one.enqueue(17).id == first.id
    assert one.enqueue(17).state is State.DELAYED


def test_the_states_that_hold_can_be_chosen() -> None:
    first = until_started.enqueue(17)
    assert until_started.enqueue(17).id == first.id
    Hands().take_one()
    second = until_started.enqueue(17)
    assert second.id != first.id
    assert until_started.enqueue(17).id == second.id


def test_a_finished_state_can_hold_too_until_the_job_is_gone() -> None:
    hold = one.using(unique=True, unique_for=("waiting", "active", "completed"))
    first = hold.enqueue(17)
    hands = Hands()
    hands.settle(hands.take_one(), completed_kept(None))
    assert hold.enqueue(17).id == first.id
    QUEUE.clean("completed")
    assert hold.enqueue(17).id != first.id


def test_seconds_hold_whatever_becomes_of_the_first_job_and_then_no_longer() -> None:
    first = once_a_while.enqueue(17)
    hands = Hands()
    hands.settle(hands.take_one(), completed_kept(None))
    assert once_a_while.enqueue(17).id == first.id
    first.refresh().remove()
    assert once_a_while.enqueue(17).id == first.id  # there's no such job any more, but the time isn't over
    wait_until(lambda: once_a_while.enqueue(17).id != first.id, timeout=2)


@pytest.mark.parametrize("way", ["cancel", "remove", "empty"])
@pytest.mark.parametrize("delay", [0, 60])
def test_a_time_is_over_when_the_first_job_is_taken_back_before_it_runs(way: str, delay: int) -> None:
    first = once_a_while.using(unique_for=60, delay=delay).enqueue(17)
    other = once_a_while.using(unique_for=60).enqueue(18)
    if way == "empty":
        assert QUEUE.empty() == 2
    else:
        getattr(first, way)()
        assert once_a_while.using(unique_for=60).enqueue(18).id == other.id
    again = once_a_while.using(unique_for=60).enqueue(17)
    assert again.id != first.id
    assert once_a_while.using(unique_for=60).enqueue(17).id == again.id


def test_who_is_taken_back_frees_only_its_own_time() -> None:
    first = once_a_while.using(unique_for=60).enqueue(17)
    [lock] = redis_client().keys("kue:{default}:ul:*")
    redis_client().delete(lock)  # its time is over
    second = once_a_while.using(unique_for=60).enqueue(17)
    assert second.id != first.id
    first.cancel()
    assert once_a_while.using(unique_for=60).enqueue(17).id == second.id


def test_a_time_goes_on_when_the_first_job_is_removed_while_it_runs() -> None:
    first = once_a_while.using(unique_for=60).enqueue(17)
    Hands().take_one()
    first.remove()
    assert once_a_while.using(unique_for=60).enqueue(17).id == first.id


def test_a_retry_is_refused_while_another_holds_the_key() -> None:
    first = one.enqueue(17)
    hands = Hands()
    hands.settle(hands.take_one(), failed())
    second = one.enqueue(17)
    with pytest.raises(IllegalTransition, match="another job holds its unique key"):
        first.retry()
    assert first.refresh().state is State.FAILED
    second.remove()
    assert first.retry().state is State.WAITING
    assert one.enqueue(17).id == first.id


def test_duplicates_within_one_batch_are_one_job() -> None:
    jobs = one.enqueue_many([(1,), (2,), (1,), {"order_id": 2}, (3,)])
    assert [jobs.index(job) if job in jobs else None for job in jobs] == [0, 1, 0, 1, 4]
    assert QUEUE.counts()["waiting"] == 3


@pytest.mark.django_db(transaction=True)
def test_the_handle_of_a_duplicate_dropped_at_commit_leads_to_the_first() -> None:
    from django.db import transaction

    first = one.enqueue(17)
    with transaction.atomic():
        second = one.enqueue(17)
        assert second.id != first.id
        with pytest.raises(JobDoesNotExist):
            second.refresh()
    assert second.refresh().id == first.id
    assert Job.get(second.id).id == first.id
    assert QUEUE.counts()["waiting"] == 1
    hands = Hands()
    hands.take_one()
    hands.report(first.key, "l", b"a line")
    hands.settle(first.key, retried(0))
    assert [line.text for line in second.logs()] == [line.text for line in first.logs()] == ["a line"]
    assert [run.outcome for run in second.runs()] == ["retried"]
    assert 3_000 < redis_client().ttl(f"kue:{{default}}:fw:{second.key}") <= 3_600
    first.remove()
    with pytest.raises(JobDoesNotExist):
        second.refresh()


def test_a_batch_with_held_keys_is_retried_as_far_as_it_can_be() -> None:
    hands = Hands()
    failed_ones = [one.enqueue(number) for number in range(10)]
    for key in hands.take(10):
        hands.settle(key, failed())
    held = [one.enqueue(number) for number in range(0, 10, 3)]
    assert QUEUE.retry_failed() == 6
    assert QUEUE.counts() == {**QUEUE.counts(), "failed": 4, "waiting": 6 + len(held)}
    assert {job.id for job in QUEUE.jobs("failed")} == {failed_ones[number].id for number in range(0, 10, 3)}


# ── search ──


def test_jobs_are_found_by_their_arguments_exactly() -> None:
    found = [searched.enqueue(17), searched.enqueue(17, name="bert"), searched.enqueue(18)]
    assert {job.id for job in QUEUE.find(order_id=17)} == {found[0].id, found[1].id}
    assert [job.id for job in QUEUE.find(order_id=17, name="bert")] == [found[1].id]
    assert [job.id for job in QUEUE.find(name="anna", order_id=18)] == [found[2].id]
    assert QUEUE.find(order_id="17") == QUEUE.find(order_id=19) == []


def test_jobs_are_found_in_every_state_until_they_are_gone() -> None:
    handle = searched.enqueue(17)
    hands = Hands()
    hands.take_one()
    assert [job.state for job in QUEUE.find(order_id=17)] == [State.ACTIVE]
    hands.settle(handle.key, failed())
    assert [job.state for job in QUEUE.find(order_id=17)] == [State.FAILED]
    handle.remove()
    assert QUEUE.find(order_id=17) == []
    assert redis_client().keys("kue:{default}:s:*") == []


def test_the_newest_are_found_last_and_at_most_a_thousand() -> None:
    hashes = (search_hash("order_id", 17),)
    keys = []
    for _ in range(4):
        keys += put(count=1_000, search=hashes)
        time.sleep(0.002)
    begun = time.monotonic()
    found = [job.key for job in QUEUE.find(order_id=17)]
    assert time.monotonic() - begun < 2
    assert found == keys[-1_000:]


def test_find_needs_something_to_look_for() -> None:
    with pytest.raises(ValueError, match=r"find\(order_id=17\)"):
        QUEUE.find()


def test_a_name_that_no_job_can_be_found_by_is_told_with_those_that_are_declared() -> None:
    with pytest.raises(ValueError, match=r"no job here has an argument 'oder_id'; the declared .*order_id"):
        QUEUE.find(oder_id=17)


async def test_its_twin_tells_too() -> None:
    with pytest.raises(ValueError, match="no job here has an argument 'oder_id'"):
        await QUEUE.afind(oder_id=17)


def test_an_argument_that_only_using_made_a_search_key_is_found() -> None:
    job = plain.using(search_keys=("number",)).enqueue(number=5)
    assert QUEUE.find(number=5) == [job]


# ── expires ──


def test_what_is_not_worth_starting_any_more_is_cancelled_when_it_is_reached() -> None:
    late, fresh = put_one(expires=5), put_one(expires=60_000)
    time.sleep(0.01)
    hands = Hands()
    turn = hands.turn(5)
    assert [key.decode() for key in turn.expired] == [late]
    assert [key.decode() for key in turn.keys] == [fresh]
    job = job_of(late)
    assert job.state is State.CANCELLED
    assert job.error is not None
    assert job.error.type == "django_kue.errors.JobExpired"


def test_expires_counts_from_when_the_job_is_due() -> None:
    key = put_one(delay=50, expires=5_000)
    hands = Hands()
    assert wait_until(lambda: hands.take(1)) == [key]


def test_an_expired_job_that_is_retried_does_not_expire_again() -> None:
    key = put_one(expires=1)
    time.sleep(0.005)
    hands = Hands()
    assert hands.take(1) == []
    job_of(key).retry()
    assert hands.take(1) == [key]


# ── ids and sends ──


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "default",
        "default.",
        ".AY3w8kR2Sx6mTn0pQv4zWg",
        "default.AY3w8kR2Sx6mTn0pQv4zW",
        "default.AY3w8kR2Sx6mTn0pQv4zWgg",
        "def ault.AY3w8kR2Sx6mTn0pQv4zWg",
        "default.AY3w8kR2Sx6mTn0pQv4zW*",
        "default}:x.AY3w8kR2Sx6mTn0pQv4zWg",
        "default.AY3w8kR2Sx6mTn0pQv4zWg\n",
        "a" * 41 + ".AY3w8kR2Sx6mTn0pQv4zWg",
        "default.AY3w8kR2Sx6mTn0pQv4zWé",
        None,
        17,
        b"default.AY3w8kR2Sx6mTn0pQv4zWg",
        "x" * 5000,
    ],
)
def test_what_is_no_id_is_no_job(forged: Any) -> None:
    with pytest.raises(JobDoesNotExist, match="not a job id"):
        Job.get(forged)


def test_an_unknown_id_is_no_job_and_a_queue_gives_only_its_own() -> None:
    with pytest.raises(JobDoesNotExist, match="No job default"):
        Job.get("default.AY3w8kR2Sx6mTn0pQv4zWg")
    with pytest.raises(JobDoesNotExist, match="not a job of the queue 'other'"):
        get_queue("other").get(one.enqueue(1).id)


def test_keys_are_unique_tell_their_time_and_sort_by_age() -> None:
    keys = ids.new_keys(10_000)
    assert len(set(keys)) == 10_000
    assert abs(ids.created_ms(keys[0].decode()) - time.time() * 1000) < 5_000
    assert all(ids.split(f"default.{key.decode()}") for key in keys[:100])


def _send(number: int, jobs: Alike) -> list[bytes]:
    return send(reads.registry("default"), moves.enqueue("default", jobs, sender=b"one", number=number))[1]


@pytest.mark.parametrize("options", [{}, {"delay": 60_000}, {"search": (search_hash("order_id", 1),)}])
def test_a_send_that_is_sent_again_creates_nothing_twice(options: dict[str, Any]) -> None:
    jobs = new_jobs(ids.new_keys(3), **options)
    assert _send(1, jobs) == _send(1, jobs) == jobs.keys
    assert sum(QUEUE.counts().values()) == 3


def test_a_send_that_is_sent_again_after_its_job_ran_and_was_removed_does_not_run_it_again() -> None:
    for options in ({}, {"unique": "U" * 22}):
        jobs = new_jobs(ids.new_keys(1), **options)
        number = 1 if not options else 2
        _send(number, jobs)
        hands = Hands()
        hands.settle(hands.take_one(), completed_kept(0))
        assert _send(number, jobs) == jobs.keys
        assert sum(QUEUE.counts().values()) == 0


def test_the_next_send_of_a_connection_is_a_new_one() -> None:
    for number in (1, 2, 3):
        _send(number, new_jobs(ids.new_keys(1)))
    assert QUEUE.counts()["waiting"] == 3


def test_bulk_of_more_than_one_call_keeps_its_order() -> None:
    keys = put(count=2_500)
    assert Hands().run_all(500) == keys


def test_bulk_with_decisions_of_more_than_one_call_keeps_its_order() -> None:
    keys = put(count=2_500, search=(search_hash("order_id", 1),))
    assert Hands().run_all(500) == keys
    QUEUE.clean("completed")


def test_a_batch_of_mixed_priorities_is_ordered_by_them() -> None:
    keys = ids.new_keys(6)
    jobs = [NewJob(key=key, name=NAME, priority=index % 3) for index, key in enumerate(keys)]
    submit("default", jobs)
    order = [key.decode() for index in (2, 1, 0) for key in keys[index::3]]
    assert Hands().take(10) == order


def test_jobs_go_only_onto_declared_queues() -> None:
    with pytest.raises((EnqueueError, ValueError), match="emial"):
        one.using(queue="emial").enqueue(1)
