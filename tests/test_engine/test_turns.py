"""A worker's turn: who owns a job, what a claim says, who is woken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from django_kue.audit import audit
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
    parked,
    put,
    put_one,
    rescue,
    retried,
    snapshot,
    texts,
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


# ── what a claim says ──


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
