"""``.backoff(…)``: how long a job waits before its next attempt. Every form that Kue has."""

import pytest

from django_kue import Backoff
from tests.app.tasks import (
    backs_off_by_function,
    backs_off_exponentially,
    backs_off_fixed,
    flaky,
)
from tests.worker_process import finished


def delays(job):
    return [run.delay for run in finished(job).runs()][:-1]  # the last run had no next


def test_without_a_backoff_the_next_attempt_is_at_once(worker):
    assert delays(flaky.enqueue("at-once", 4)) == [0, 0]


def test_fixed(worker):
    """``.backoff({type: 'fixed', delay: 50})``"""
    job = backs_off_fixed.enqueue()

    assert delays(job) == [0.05, 0.05]
    first, second, _ = job.runs()
    assert (second.started_at - first.finished_at).total_seconds() >= 0.045


def test_true_repeated_the_jobs_delay_here_one_says_the_seconds(worker):
    """``.delay(50).backoff(true)``"""
    assert delays(flaky.using(delay=0.05, backoff=0.05).enqueue("true", 4)) == [0.05, 0.05]


def test_exponential(worker):
    """``.backoff({type: 'exponential', delay: 50})``"""
    assert delays(backs_off_exponentially.enqueue()) == [0.05, 0.1]


def test_exponential_with_a_longest_delay(worker):
    """``maxDelay``"""
    rule = Backoff.exponential(0.05, max=0.06)
    assert delays(flaky.using(backoff=rule).enqueue("longest", 4)) == [0.05, 0.06]


def test_a_function_of_the_attempt(worker):
    """``.backoff(function (attempts, delay) {…})``"""
    assert delays(backs_off_by_function.enqueue()) == [0.05, 0.1]


def test_a_function_is_never_stored_and_evaluated():
    """Kue kept the function's text in Redis and gave it to ``eval``: who can write to Redis ran code."""
    with pytest.raises(TypeError, match="backoff"):
        flaky.using(backoff=lambda attempt: 1)
    with pytest.raises(TypeError, match="backoff"):
        flaky.using(backoff="function(attempts, delay) { return 1 }")
