"""A worker's turn: who owns a job, who is dead, who is to blame, and what limits hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from django_kue.audit import audit
from django_kue.conf import settings as kue
from django_kue.queue import Queue
from django_kue.states import State
from django_kue.store import moves, send
from django_kue.worker.served import Served
from tests.conftest import redis_client
from tests.test_engine.hands import (
    CANCELLED,
    RELEASED,
    SUSPECT,
    Hands,
    completed,
    crashed,
    failed,
    is_rung,
    job_of,
    next_millisecond,
    parked,
    put,
    put_one,
    rescue,
    retried,
    snapshot,
    texts,
    wait_until,
)  # fmt: skip

QUEUE = Queue("default")


# ── ownership ──


def test_a_stale_workers_outcome_is_refused_and_changes_nothing() -> None:
    key = put_one()
    stale, fresh = Hands(name="stale"), Hands(name="fresh")
    stale.take_one()
    stale.let_lease_run_out()
    assert texts(rescue()) == [key]
    assert fresh.take_one() == key
    before = snapshot("default")
    for outcome in (completed(1), failed(), retried(), RELEASED, SUSPECT, crashed(), parked(), CANCELLED):
        turn = stale.turn(0, {key: outcome}, leases={key: stale.leases.get(key, b"1|1|stale")})
        assert texts(turn.refused) == [key]
    after = snapshot("default")
    assert {**before, "k": 0} == {**after, "k": 0}
    assert fresh.settle(key, completed("fresh")).refused == []
    assert job_of(key).result == "fresh"


def test_the_same_acknowledgement_twice_does_no_harm() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    lease = hands.leases[key]
    assert hands.turn(0, {key: completed(1)}).refused == []
    before = snapshot("default")
    assert texts(hands.turn(0, {key: completed(2)}, leases={key: lease}).refused) == [key]
    assert snapshot("default") == before
    assert job_of(key).result == 1


def test_an_outcome_under_an_invented_lease_is_refused() -> None:
    waiting, active = put(count=2)[::-1]
    Hands().take_one()
    for key in (waiting, active):
        turn = Hands(name="thief").turn(0, {key: completed()}, leases={key: b"1|1|thief"})
        assert texts(turn.refused) == [key]
    assert (job_of(waiting).state, job_of(active).state) == (State.WAITING, State.ACTIVE)


def test_a_stale_worker_does_not_take_a_mark_off_the_run_that_holds_the_job_now() -> None:
    key = put_one()
    stale, fresh = Hands(name="stale"), Hands(name="fresh")
    stale.take_one()
    lease = stale.leases[key]
    stale.let_lease_run_out()
    rescue()
    fresh.take_one()
    job_of(key).cancel()
    stale.turn(0, {key: completed()}, leases={key: lease})
    assert texts(fresh.beat().to_stop) == [key]
    assert texts(fresh.settle(key, completed()).cancelled) == [key]
    assert job_of(key).state is State.CANCELLED


def test_a_stale_worker_does_not_free_the_slot_of_a_removed_job_that_another_runs() -> None:
    key = put_one("narrow")
    stale, fresh = Hands("narrow", "stale"), Hands("narrow", "fresh")
    stale.take_one()
    lease = stale.leases[key]
    stale.let_lease_run_out()
    rescue("narrow")
    fresh.take_one()
    job_of(key, "narrow").remove()
    stale.turn(0, {key: completed()}, leases={key: lease})
    assert redis_client().hlen("kue:{narrow}:g") == 1
    fresh.settle(key, completed())
    assert redis_client().hlen("kue:{narrow}:g") == 0


def test_every_outcome_leads_where_it_says() -> None:
    expected = {
        completed(): State.COMPLETED, failed(): State.FAILED, retried(): State.WAITING,
        retried(60_000): State.DELAYED, parked(): State.DELAYED, RELEASED: State.WAITING,
        SUSPECT: State.WAITING, crashed(): State.WAITING, CANCELLED: State.CANCELLED,
    }  # fmt: skip
    for outcome, state in expected.items():
        key = put_one()
        hands = Hands()
        hands.take_one()
        hands.settle(key, outcome)
        job = job_of(key)
        assert job.state is state, outcome
        assert job.attempts_made == (1 if outcome[:1] in b"cfrx" else 0)
        job.remove()


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


def by_a_turn(hands: Hands) -> moves.Turn | None:
    return hands.turn(1)


def in_advance(hands: Hands) -> moves.Turn | None:
    return send(moves.standby("default", hands.owner, sequence=1))[0]


@pytest.mark.parametrize("claim", [by_a_turn, in_advance], ids=lambda claim: claim.__name__)
def test_a_claim_says_whether_there_are_more_jobs(claim: Callable[[Hands], moves.Turn | None]) -> None:
    """Whoever gets as many as it asked for would look again, and ring for others, in vain."""
    hands = Hands()

    def wait() -> int:
        answer = claim(hands)
        assert answer is not None
        return answer.wait

    put(count=3)
    assert [wait() for _ in range(3)] == [0, 0, moves.EMPTY]
    put(count=2)
    put(delay=90_000)
    assert wait() == 0
    assert 89_000 < wait() <= 90_000, "else it's late, if what was claimed runs for long"
    assert redis_client().zcard("kue:{default}:p") == 0, "no level without jobs is left to be looked into"


def test_a_turn_says_when_the_next_delayed_job_is_due_however_far_that_is() -> None:
    assert Hands().turn(1).wait == moves.EMPTY
    put_one(delay=90_000)
    assert 89_000 < Hands().turn(1).wait <= 90_000
    served = Served("default")
    served.looked(Hands().turn(1), asked=1)
    assert 85 < served.ready_at - time.monotonic() < 91, "nobody else has a timer for it"
    put_one()
    served.looked(Hands().turn(1), asked=1)
    assert 85 < served.ready_at - time.monotonic() < 91, "nor while what was claimed runs"


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


# ── lost replies ──


def test_what_a_lost_reply_claimed_is_given_back_unharmed_and_in_order() -> None:
    keys = put(count=6)
    hands = Hands()
    hands.take(2)
    known = set(hands.leases.values())
    hands.take(2)  # as if the worker never saw this reply
    assert hands.sync(known) == keys[2:4]
    assert QUEUE.counts() | {"active": 2, "waiting": 4} == QUEUE.counts()
    assert Hands(name="other").take(10) == keys[2:]


def test_a_lost_claim_that_was_asked_to_stop_meanwhile_is_cancelled() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    job_of(key).cancel()
    hands.sync()
    assert job_of(key).state is State.CANCELLED


def test_a_lost_claim_that_was_removed_meanwhile_frees_its_slot() -> None:
    keys = put("narrow", 3)
    hands = Hands("narrow")
    assert hands.take(3) == keys[:2]
    job_of(keys[0], "narrow").remove()
    job_of(keys[1], "narrow").remove()
    assert hands.take(3) == []
    hands.sync()
    assert hands.take(3) == [keys[2]]


def test_sync_leaves_the_leases_of_others_alone() -> None:
    first, second = put(count=2)
    mine, other = Hands(name="w1"), Hands(name="w11")
    mine.take_one()
    other.take_one()
    assert mine.sync() == [first]
    assert job_of(second).state is State.ACTIVE


def test_giving_back_wakes_another_worker() -> None:
    """A worker that stops hands over at once: nobody has to find the jobs by chance."""
    key = put_one()
    hands = Hands()
    for outcome in (RELEASED, SUSPECT, crashed(), retried()):
        hands.take_one()
        is_rung()
        hands.settle(key, outcome)
        assert is_rung(), outcome


# ── marks and ghosts ──


@pytest.mark.parametrize(
    "outcome", [completed(1), failed(), retried(), retried(9_000), RELEASED, SUSPECT, crashed()]
)
def test_a_cancelled_active_job_ends_as_cancelled_whatever_its_run_came_to(outcome: bytes) -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    job_of(key).cancel()
    assert job_of(key).state is State.ACTIVE
    assert texts(hands.beat().to_stop) == [key]
    assert texts(hands.settle(key, outcome).cancelled) == [key]
    job = job_of(key)
    assert job.state is State.CANCELLED
    assert job.result is None
    assert hands.beat().to_stop == []


def test_a_beat_tells_only_the_owner_of_the_job_to_stop() -> None:
    put(count=2)
    one, two = Hands(name="w1"), Hands(name="w2")
    mine = one.take_one()
    two.take_one()
    job_of(mine).cancel()
    assert texts(one.beat().to_stop) == [mine]
    assert two.beat().to_stop == []


def test_a_removed_active_job_is_gone_at_once_and_its_run_is_told_to_stop() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    job_of(key).remove()
    assert sum(QUEUE.counts().values()) == 0
    assert texts(hands.beat().to_stop) == [key]
    assert hands.report(key, "l", b"too late") == [key]
    assert texts(hands.settle(key, completed()).refused) == [key]
    assert hands.beat().to_stop == []


def test_a_removed_active_job_holds_its_slot_until_its_run_has_ended() -> None:
    keys = put("narrow", 4)
    hands = Hands("narrow")
    assert hands.take(4) == keys[:2]
    job_of(keys[0], "narrow").remove()
    assert (turn := hands.turn(4)).keys == []
    assert turn.wait == moves.FULL
    turn = hands.turn(4, {keys[0]: completed()})
    assert texts(turn.keys) == [keys[2]]


@pytest.mark.parametrize("way", ["rescued", "buried"])
def test_the_slot_of_a_removed_job_is_freed_when_its_worker_dies(way: str) -> None:
    keys = put("narrow", 3)
    hands = Hands("narrow", "dead")
    hands.take(2)
    for key in keys[:2]:
        job_of(key, "narrow").remove()
    if way == "buried":
        hands.bury()
    else:
        hands.let_lease_run_out()
        is_rung("narrow")
        rescue("narrow")
    assert is_rung("narrow")  # for who was told that the queue is full
    assert Hands("narrow").take(5) == [keys[2]]


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


# ── waking ──


def test_an_enqueue_rings_once_and_who_takes_from_a_full_list_wakes_the_next() -> None:
    put(count=10)
    assert is_rung()
    assert not is_rung()
    one = Hands(name="w1")
    one.take(2, switches="w")
    assert is_rung()
    Hands(name="w2").take(8, switches="w")
    Hands(name="w3").take(8, switches="w")
    is_rung()
    Hands(name="w3").take(8, switches="w")
    assert not is_rung()


def test_a_worker_that_was_not_woken_wakes_nobody() -> None:
    put(count=10)
    is_rung()
    Hands().take(2)
    assert not is_rung()


# ── what is written while it runs ──


def test_reports_are_fenced_like_outcomes() -> None:
    key = put_one()
    stale, fresh = Hands(name="stale"), Hands(name="fresh")
    stale.take_one()
    stale.let_lease_run_out()
    rescue()
    fresh.take_one()
    for kind, text in (("p", b"[90,null]"), ("l", b"from the stale one"), ("y", b"")):
        assert stale.report(key, kind, text) == [key]
    assert fresh.report(key, "p", b'[40,{"rows":7}]') == []
    assert fresh.report(key, "l", "Zeile ü|1".encode()) == []
    job = job_of(key)
    assert (job.progress, job.progress_data) == (40, {"rows": 7})
    assert [line.text for line in job.logs()] == ["Zeile ü|1"]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_so_many_log_lines_and_runs_are_kept_as_the_settings_say(most: int, settings: Any) -> None:
    settings.KUE = {**settings.KUE, "MAX_LOG_LINES": most, "MAX_RUNS": most}
    key = put_one()
    hands = Hands()
    for number in range(5):
        hands.take_one()
        hands.report(key, "l", b"line %d" % number)
        hands.settle(key, retried(message=f"error {number}"))
    job = job_of(key)
    assert [line.text for line in job.logs()] == [f"line {number}" for number in range(5)][5 - most :]
    assert [run.error.message for run in job.runs() if run.error] == [f"error {n}" for n in range(5)][
        5 - most :
    ]
    assert job.attempts_made == 5


def test_a_large_turn_is_one_call() -> None:
    keys = put(count=2_000)
    hands = Hands()
    assert hands.take(2_000) == keys
    turn = hands.turn(0, dict.fromkeys(keys, completed()))
    assert turn.refused == []
    assert audit("default") == []


def test_work_time_is_added_up() -> None:
    put_one()
    hands = Hands()
    hands.take_one()
    hands.turn(0, work_ms=1_500)
    hands.turn(0, work_ms=250)
    assert QUEUE.work_time() == 1.75
