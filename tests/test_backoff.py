"""The delays between a failed run and the next."""

import json
from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from django_kue.backoff import LONGEST, Backoff


def test_fixed_waits_the_same_before_every_retry():
    assert [Backoff.fixed(10).delay(attempt) for attempt in (1, 2, 50)] == [10, 10, 10]


def test_exponential_starts_at_base_and_doubles():
    assert [Backoff.exponential(3).delay(attempt) for attempt in (1, 2, 3, 4)] == [3, 6, 12, 24]


def test_max_is_never_exceeded():
    rule = Backoff.exponential(2, max=10, jitter=1)
    assert all(0 <= rule.delay(attempt) <= 10 for attempt in range(1, 200))


@pytest.mark.parametrize("attempt", [64, 65, 66, 2000, 10**9])
def test_a_huge_attempt_neither_overflows_nor_waits_for_ever(attempt):
    assert Backoff.exponential(1).delay(attempt) == LONGEST


def test_jitter_cuts_at_most_its_share_and_spreads():
    delays = [Backoff.fixed(8, jitter=0.25).delay(1) for _ in range(500)]
    assert all(6 <= delay <= 8 for delay in delays)
    assert min(delays) < 6.5
    assert max(delays) > 7.5


def test_timedelta_counts_as_seconds():
    assert Backoff.fixed(timedelta(minutes=2)).delay(1) == 120
    rule = Backoff.exponential(timedelta(seconds=1), max=timedelta(minutes=1))
    assert rule == Backoff.exponential(1, max=60)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (5, Backoff.fixed(5)),
        (0.5, Backoff.fixed(0.5)),
        (timedelta(seconds=7), Backoff.fixed(7)),
        (Backoff.exponential(2), Backoff.exponential(2)),
    ],
)
def test_of_reads_what_people_write(value, expected):
    assert Backoff.of(value) == expected


@pytest.mark.parametrize("value", ["10", True, [1], {"delay": 1}, lambda attempt: attempt])
def test_of_refuses_other_types_and_shows_what_it_found(value):
    with pytest.raises(TypeError, match="backoff is None, a number of seconds"):
        Backoff.of(value)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), LONGEST + 1])
def test_delays_out_of_range_are_refused(seconds):
    with pytest.raises(ValueError, match="seconds is between 0 and"):
        Backoff.fixed(seconds)
    with pytest.raises(ValueError, match="max is between 0 and"):
        Backoff.exponential(1, max=seconds)


def test_jitter_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"jitter is between 0 and 1, not 1\.5"):
        Backoff.exponential(1, jitter=1.5)


@pytest.mark.parametrize("seconds", ["5", None, True, [5]])
def test_seconds_that_are_no_number_are_refused(seconds):
    with pytest.raises(TypeError, match="seconds is a number"):
        Backoff.exponential(seconds)


@pytest.mark.parametrize(
    "rule",
    [
        Backoff.fixed(3),
        Backoff.fixed(3, jitter=0.5),
        Backoff.exponential(2),
        Backoff.exponential(2, max=600, jitter=0.1),
    ],
)
def test_a_rule_survives_storing(rule):
    assert Backoff.from_json(json.loads(json.dumps(rule.as_json()))) == rule


@pytest.mark.parametrize(
    "data",
    [
        None,
        "function() { return 5 }",
        {},
        {"type": "fixed"},
        {"type": "os.system", "delay": 1},
        {"type": "fixed", "delay": "1"},
        {"type": "exponential", "delay": 1, "max": -1},
    ],
)
def test_stored_rubbish_is_refused_with_a_value_error(data):
    with pytest.raises(ValueError, match=r"Backoff|backoff"):
        Backoff.from_json(data)


def test_a_rule_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Backoff.fixed(1).seconds = 2
