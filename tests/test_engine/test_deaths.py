"""Workers that die: who is dead, what becomes of their jobs, and who is to blame."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_kue.audit import audit
from django_kue.conf import settings as kue
from django_kue.queue import Queue
from django_kue.states import State
from tests.conftest import redis_client
from tests.test_engine.hands import (
    RELEASED,
    STALLED,
    STOPPED,
    SUSPECT,
    Hands,
    completed,
    crashed,
    is_rung,
    job_of,
    put,
    put_one,
    rescue,
    retried,
    texts,
    wait_until,
)  # fmt: skip

QUEUE = Queue("default")


# ── death ──


def test_jobs_of_several_claims_that_are_given_back_stand_as_they_stood() -> None:
    keys = put(count=6)
    hands = Hands()
    for _ in range(3):
        hands.take(2)

    hands.settle_all(RELEASED)

    assert Hands(name="w2").take(6) == keys


def test_a_dead_workers_jobs_go_back_to_the_front_in_their_order() -> None:
    keys = put(count=6)
    dead = Hands(name="dead")
    assert dead.take(2) + dead.take(2) == keys[:4]
    dead.let_lease_run_out()
    turn = rescue()
    assert texts(turn)[::-1] == keys[:4]
    hands = Hands()
    assert [hands.take(10) for _ in range(5)] == [[keys[0]], [keys[1]], [keys[2]], [keys[3]], keys[4:]]


def test_a_dead_workers_jobs_keep_their_order_also_where_some_had_been_started_as_suspects() -> None:
    keys = put(count=5)
    dead = Hands(name="dead")
    dead.take(5)
    for key in (keys[0], keys[2], keys[3]):
        dead.report(key, "y")
    dead.let_lease_run_out()
    assert texts(rescue())[::-1] == keys
    hands = Hands()
    assert [key for _ in range(5) for key in hands.take(10)] == keys


def test_a_dead_workers_jobs_tell_that_they_were_with_it() -> None:
    """Whether they had begun nobody knows; that they may run twice can be seen."""
    key = put_one()
    hands = Hands(name="w1/1")
    hands.take_one()
    hands.let_lease_run_out()
    rescue()
    [run] = job_of(key).runs()
    assert (run.attempt, run.outcome, run.worker, run.error) == (1, "stalled", "w1/1", None)
    assert run.started_at is not None
    assert run.started_at <= run.finished_at


@pytest.mark.parametrize(
    ("outcome", "word"), [(STOPPED, "stopped"), (STALLED, "stalled"), (SUSPECT, "stalled")]
)
def test_a_run_that_was_cut_off_is_remembered_and_goes_first(outcome: bytes, word: str) -> None:
    keys = put(count=3)
    hands = Hands()
    hands.take(2)
    hands.turn(0, {keys[1]: outcome, keys[0]: RELEASED})
    assert [[run.outcome for run in job_of(key).runs()] for key in keys] == [[], [word], []]
    assert job_of(keys[1]).attempts_made == 0
    assert hands.take(1) == [keys[1]]


CUT_OFF = [STOPPED, STALLED, SUSPECT]


@pytest.mark.parametrize("outcome", CUT_OFF)
def test_a_job_that_is_cut_off_keeps_the_error_of_the_attempt_before(outcome: bytes) -> None:
    key = put_one(options={"attempts": 3})
    hands = Hands()
    hands.settle(hands.take_one(), retried(message="bank away"))
    for _ in range(3):
        hands.settle(hands.take_one(), outcome)
        job = job_of(key)
        assert job.error is not None
        assert job.error.message == "bank away"
    first, last = job.runs()
    assert first.error == job.error
    assert last.error is None, "it had none of its own"


def test_runs_that_are_cut_off_in_a_row_are_one_and_push_none_out() -> None:
    key = put_one(options={"attempts": 9})
    hands = Hands()
    hands.settle(hands.take_one(), retried())
    for _ in range(25):
        hands.settle(hands.take_one(), STOPPED)
    hands.settle(hands.take_one(), STALLED)
    hands.settle(hands.take_one(), retried())
    hands.settle(hands.take_one(), STOPPED)
    assert [(run.attempt, run.outcome, run.times) for run in job_of(key).runs()] == [
        (1, "retried", 1), (2, "stopped", 25), (2, "stalled", 1), (2, "retried", 1), (3, "stopped", 1),
    ]  # fmt: skip


def test_a_living_workers_jobs_are_left_alone() -> None:
    key = put_one()
    Hands(name="alive").take_one()
    assert rescue() == []
    assert job_of(key).state is State.ACTIVE


def test_a_dead_workers_jobs_run_elsewhere_soon_after_its_lease(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "LEASE": 1}
    key = put_one()
    Hands(name="dead").take_one()
    begun = time.monotonic()
    rescue()  # a living worker sweeps all the time
    wait_until(rescue, timeout=5)
    assert 0.9 < time.monotonic() - begun < 1.5
    assert job_of(key).state is State.WAITING


def test_a_beat_keeps_an_owner_alive_and_never_revives_a_dead_one() -> None:
    put_one()
    hands = Hands()
    hands.take_one()
    hands.let_lease_run_out()
    assert hands.beat().is_alive
    assert rescue() == []
    hands.let_lease_run_out()
    rescue()
    assert not hands.beat().is_alive
    assert not hands.beat().is_alive
    assert redis_client().zcard("kue:{default}:hb") == 0


def test_an_owner_that_never_claimed_is_not_alive() -> None:
    assert not Hands(name="unknown").beat().is_alive


@pytest.mark.parametrize("leases", [0.7, 1.5])
def test_after_an_outage_in_which_heartbeats_were_due_the_living_get_time_to_report(leases: float) -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    rescue()
    redis = redis_client()
    redis.hset("kue:{default}:h", "pulse", int(time.time() * 1000) - int(kue.LEASE * 1000 * leases))
    hands.let_lease_run_out()
    assert rescue() == []  # amnesty
    assert hands.beat().is_alive
    assert hands.settle(key, completed()).refused == []


def test_where_nobody_swept_before_the_first_sweep_takes_nothing() -> None:
    """Redis may have been away since right after a new queue's workers began."""
    key = put_one()
    hands = Hands()
    hands.take_one()
    redis_client().zadd("kue:{default}:hb", {hands.owner.text: 1})
    assert rescue() == []
    assert hands.beat().is_alive
    hands.let_lease_run_out()
    assert texts(rescue()) == [key]


def test_an_outage_lengthens_a_dead_workers_lease_by_no_more_than_itself() -> None:
    put_one()
    hands = Hands(name="dead")
    hands.take_one()
    redis, lease = redis_client(), int(kue.LEASE * 1000)
    seconds, micros = redis.time()
    last = seconds * 1000 + micros // 1000 - 5 * lease
    redis.hset("kue:{default}:h", "pulse", last)
    redis.zadd("kue:{default}:hb", {hands.owner.text: last + lease * 6 // 10})
    assert rescue() == []
    left = redis.zscore("kue:{default}:hb", hands.owner.text) - (last + 5 * lease)
    assert lease * 6 // 10 <= left < lease * 6 // 10 + 1000


def test_a_clock_that_was_set_back_lengthens_no_lease() -> None:
    key = put_one()
    hands = Hands(name="dead")
    hands.take_one()
    redis, lease = redis_client(), int(kue.LEASE * 1000)
    ahead = int(time.time() * 1000) + 300_000
    redis.hset("kue:{default}:h", "pulse", ahead)
    redis.zadd("kue:{default}:hb", {hands.owner.text: ahead + lease})
    assert rescue() == []
    assert redis.zscore("kue:{default}:hb", hands.owner.text) <= time.time() * 1000 + lease
    hands.let_lease_run_out()
    assert texts(rescue()) == [key]


def test_a_pause_between_two_sweeps_as_they_usually_are_is_no_outage() -> None:
    put_one()
    hands = Hands()
    hands.take_one()
    pulse = int(time.time() * 1000) - int(kue.LEASE * 1000 * 0.5)
    redis_client().hset("kue:{default}:h", "pulse", pulse)
    hands.let_lease_run_out()
    assert len(rescue()) == 1


def test_amnesty_is_given_once_and_not_for_ever() -> None:
    put_one()
    Hands(name="dead").take_one()
    rescue()
    redis_client().hset("kue:{default}:h", "pulse", 1)
    assert rescue() == []
    Hands(name="dead").let_lease_run_out()
    assert len(rescue()) == 1


def test_a_rescued_job_that_was_asked_to_stop_is_cancelled() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    job_of(key).cancel()
    hands.let_lease_run_out()
    assert rescue() == []
    assert job_of(key).state is State.CANCELLED


def test_a_rescue_uses_up_no_attempt_and_blames_nobody() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    hands.let_lease_run_out()
    rescue()
    job = job_of(key)
    assert (job.attempts_made, job.crashes) == (0, 0)


# ── suspects and culprits ──


def test_a_suspect_is_claimed_alone_even_when_others_wait_before_and_behind_it() -> None:
    first, suspect, last = put(count=3)
    hands = Hands()
    hands.take(3)
    hands.turn(0, {first: RELEASED, suspect: SUSPECT, last: RELEASED})
    assert hands.take(10) == [suspect]
    assert hands.take(10) == [first, last]
    high = put_one(priority=10)
    hands.settle(suspect, SUSPECT)
    assert hands.take(10) == [high]
    assert hands.take(10) == [suspect]


def test_a_suspect_that_was_started_when_its_worker_died_counts_a_crash() -> None:
    key = put_one()
    for crashes in range(1, 4):
        hands = Hands(name=f"w{crashes}")
        assert hands.take(10) == [key]
        hands.report(key, "y")
        hands.let_lease_run_out()
        assert texts(rescue()) == [key]
        assert job_of(key).crashes == crashes
    job = job_of(key)
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type == "django_kue.errors.JobCrashed"
    assert [run.outcome for run in job.runs()] == ["crashed"] * 3


def test_a_suspect_that_was_not_started_counts_none() -> None:
    key = put_one()
    for _ in range(5):
        hands = Hands()
        hands.take(10)
        hands.let_lease_run_out()
        rescue()
    assert job_of(key).crashes == 0
    assert job_of(key).state is State.WAITING


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_job_that_kills_its_workers_is_failed_at_the_queues_cap(most: int, settings: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"MAX_CRASHES": most}}}
    key = put_one()
    hands = Hands()
    for _ in range(most):
        assert job_of(key).state is State.WAITING
        hands.take(1)
        hands.settle(key, crashed())
    assert job_of(key).state is State.FAILED
    assert job_of(key).crashes == most


def test_a_poison_pill_that_is_retried_starts_with_no_crashes() -> None:
    key = put_one()
    hands = Hands()
    for _ in range(3):
        hands.take(1)
        hands.settle(key, crashed())
    job_of(key).retry()
    assert (job_of(key).crashes, job_of(key).attempts_made) == (0, 0)
    others = put(count=2)
    assert hands.take(10) == [key, *others]  # not a suspect any more


def test_a_buried_owners_culprit_is_settled_and_its_neighbours_run_again_unblamed_in_order() -> None:
    keys = put(count=8)
    hands = Hands(name="dead")
    hands.take(3)
    hands.take(3)
    given_back, settled = hands.bury({keys[1]: crashed()})
    assert settled == [keys[1]]
    assert sorted(given_back) == sorted([keys[0], *keys[2:6]])
    assert job_of(keys[1]).crashes == 1
    assert not hands.beat().is_alive
    other = Hands(name="alive")
    assert other.take(10) == [keys[1]]  # a suspect, alone
    assert other.take(10) == [keys[0], *keys[2:]]


def test_a_buried_owner_with_more_jobs_than_one_batch_gives_all_back_in_order() -> None:
    keys = put(count=1_700)
    hands = Hands(name="dead")
    assert len(hands.take(1_200)) == 1_200
    given_back, settled = hands.bury()
    assert (len(given_back), settled) == (1_200, [])
    assert Hands(name="alive").take(1_700) == keys


def test_burying_wakes_a_worker() -> None:
    put_one()
    hands = Hands()
    hands.take_one()
    is_rung()
    hands.bury()
    assert is_rung()


def test_what_is_put_back_behind_a_suspect_keeps_the_count_of_what_left() -> None:
    keys = put(count=40)
    hands = Hands()
    hands.take(1)
    hands.settle(keys[0], SUSPECT)
    job_of(keys[2]).cancel()
    job_of(keys[5]).cancel()
    assert hands.take(64) == keys[:1]
    assert QUEUE.counts()["waiting"] == 37
    assert audit("default") == []
