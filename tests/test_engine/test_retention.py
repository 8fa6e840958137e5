"""How long finished jobs stay: by count, by age, by their own keep; and that nothing of them is left."""

from __future__ import annotations

import time
from typing import Any

import pytest

from django_kue.codecs import search_hash
from django_kue.queue import Queue
from django_kue.states import State
from tests.conftest import redis_client
from tests.test_engine.hands import (
    Hands,
    completed,
    completed_kept,
    failed,
    job_of,
    put,
    put_one,
    rescue,
    snapshot,
    wait_until,
)

QUEUE = Queue("default")
OUTCOMES = {"completed": completed(), "failed": failed()}


def _configure(settings: Any, **options: Any) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": options}}


def _finish(count: int, outcome: bytes, batch: int = 100) -> list[str]:
    keys = put(count=count)
    hands = Hands()
    while taken := hands.take(batch):
        hands.turn(0, dict.fromkeys(taken, outcome))
        if batch == 1:
            time.sleep(0.002)  # each has a millisecond of its own
    return keys


def _kept(state: str) -> list[str]:
    return [job.key for job in QUEUE.jobs(state, limit=1000, newest_first=False)]


@pytest.mark.parametrize("state", OUTCOMES)
def test_the_newest_so_many_are_kept(state: str, settings: Any) -> None:
    _configure(settings, **{f"KEEP_{state.upper()}": 3})
    keys = _finish(10, OUTCOMES[state], batch=1)
    assert _kept(state) == keys[-3:]
    with pytest.raises(Exception, match="No job"):
        job_of(keys[0])


def test_cancelled_jobs_are_kept_by_their_own_count(settings: Any) -> None:
    _configure(settings, KEEP_CANCELLED=2)
    keys = put(count=5)
    for key in keys:
        job_of(key).cancel()
        time.sleep(0.002)
    assert _kept("cancelled") == keys[-2:]


@pytest.mark.parametrize("state", OUTCOMES)
def test_with_a_count_of_none_nothing_is_kept(state: str, settings: Any) -> None:
    _configure(settings, **{f"KEEP_{state.upper()}": 0})
    _finish(300, OUTCOMES[state])
    assert sum(QUEUE.counts().values()) == 0


@pytest.mark.parametrize(
    ("state", "outcome", "own"),
    [
        ("completed", completed(), completed_kept(3_600_000)),
        ("completed", completed_kept(None), completed_kept(3_600_000)),
        ("failed", failed(), failed(3_600_000)),
    ],
    ids=["plain", "completed", "failed"],
)
@pytest.mark.parametrize("has_own", [False, True])
def test_once_none_are_kept_those_of_before_go_as_others_end(
    state: str, outcome: bytes, own: bytes, has_own: bool, settings: Any
) -> None:
    _finish(1_500, outcome)
    kept = _finish(2, own) if has_own else []
    _configure(settings, **{f"KEEP_{state.upper()}": 0})
    _finish(2, outcome, batch=1)
    assert sorted(_kept(state)) == sorted(kept)
    assert redis_client().hlen("kue:{default}:d") == len(kept)


def test_a_large_shelf_is_kept_within_its_slack(settings: Any) -> None:
    _configure(settings, KEEP_COMPLETED=1_000)
    _finish(6_000, completed())
    assert 1_000 <= QUEUE.counts()["completed"] <= 1_000 + 256 + 100


@pytest.mark.parametrize("state", OUTCOMES)
def test_what_is_older_than_the_age_goes_with_the_next_sweep(state: str, settings: Any) -> None:
    _configure(settings, **{f"KEEP_{state.upper()}_FOR": 0.05})
    old = _finish(3, OUTCOMES[state])
    time.sleep(0.06)
    new = _finish(1, OUTCOMES[state])
    assert _kept(state) == sorted(old) + new
    rescue()
    assert _kept(state) == new


@pytest.mark.parametrize("outcome", [completed_kept(0), failed(0)])
def test_a_job_with_a_keep_of_none_is_forgotten_at_once(outcome: bytes) -> None:
    _finish(3, outcome)
    assert sum(QUEUE.counts().values()) == 0
    assert set(snapshot("default")) <= {"h", "hb", "k", "p", "tt"} | {
        name
        for name in snapshot("default")
        if name.startswith(("n:", "t:", "by:"))  # these end by themselves
    }
    assert redis_client().hgetall("kue:{default}:tt")  # it still counts


def test_a_shorter_keep_than_the_queues_ends_sooner(settings: Any) -> None:
    _configure(settings, KEEP_COMPLETED_FOR=3600)
    _finish(2, completed_kept(30))
    long = _finish(2, completed())
    wait_until(lambda: rescue() == [] and sorted(_kept("completed")) == sorted(long))


def test_a_longer_keep_than_the_queues_outlives_it(settings: Any) -> None:
    _configure(settings, KEEP_COMPLETED_FOR=0.02, KEEP_COMPLETED=1)
    own = _finish(3, completed_kept(3_600_000))
    _finish(2, completed())
    time.sleep(0.03)
    _finish(1, completed())
    rescue()
    time.sleep(0.03)
    rescue()
    assert sorted(_kept("completed")) == sorted(own)


def test_jobs_with_their_own_keep_do_not_count_towards_the_queues(settings: Any) -> None:
    _configure(settings, KEEP_COMPLETED=3)
    own = _finish(10, completed_kept(3_600_000))
    plain = _finish(3, completed(), batch=1)
    assert sorted(_kept("completed")) == sorted(own + plain)
    newer = _finish(3, completed(), batch=1)
    assert sorted(_kept("completed")) == sorted(own + newer)


def test_many_with_their_own_keep_from_one_millisecond_do_not_stop_the_trimming(settings: Any) -> None:
    _configure(settings, KEEP_COMPLETED=3)
    _finish(1_500, completed_kept(3_600_000), batch=1_500)
    for _ in range(4):
        _finish(20, completed(), batch=1)
    assert QUEUE.counts()["completed"] == 1_503


def test_own_keeps_that_are_over_go_as_fast_as_new_ones_come() -> None:
    _finish(600, completed_kept(1))
    time.sleep(0.005)
    _finish(600, completed_kept(3_600_000))
    assert QUEUE.counts()["completed"] == 600


def test_what_runs_again_is_not_trimmed_while_it_waits(settings: Any) -> None:
    _configure(settings, KEEP_COMPLETED=1, KEEP_COMPLETED_FOR=0.01)
    [key] = _finish(1, completed_kept(1))
    job_of(key).retry()
    time.sleep(0.02)
    rescue()
    assert job_of(key).state is State.WAITING


@pytest.mark.parametrize("way", ["trimmed", "aged", "removed", "cleaned", "kept 0", "emptied"])
def test_whatever_way_a_job_goes_all_of_it_goes(way: str, settings: Any) -> None:
    """Logs, runs, progress, search and unique keys, outcome and record."""
    options: dict[str, Any] = {"trimmed": {"KEEP_COMPLETED": 0}, "aged": {"KEEP_COMPLETED_FOR": 0.01}}.get(
        way, {}
    )
    _configure(settings, **options)
    hands = Hands()
    key = put_one(
        search=(search_hash("order_id", 1), search_hash("name", "ü")), unique="U" * 22, unique_mode="wdacfx"
    )
    hands.take_one()
    hands.report(key, "p", b"[10,null]")
    hands.report(key, "l", b"a line")
    hands.settle(key, b"r0|1|{}")
    if way == "emptied":
        assert QUEUE.empty() == 1
    else:
        hands.take_one()
        hands.settle(key, completed_kept(0 if way == "kept 0" else None))
        if way == "aged":
            time.sleep(0.02)
            rescue()
        if way == "removed":
            job_of(key).remove()
        if way == "cleaned":
            assert QUEUE.clean("completed") == 1
    left = snapshot("default")
    assert {name for name in left if key in str(left[name])} == set()
    assert {
        name for name in left if name.startswith(("l:", "r:", "s:")) or name in ("sd", "u", "pr", "o")
    } == set()


def test_the_statistics_expire_by_themselves() -> None:
    _finish(1, completed())
    [hour] = redis_client().keys("kue:{default}:t:*")
    assert 80_000 < redis_client().ttl(hour) <= 90_000


def test_a_senders_number_expires_by_itself() -> None:
    put_one()
    [sender] = redis_client().keys("kue:{default}:n:*")
    assert 500 < redis_client().ttl(sender) <= 600
