"""Who waits for a job gets its result, however short it's kept."""

from __future__ import annotations

import pytest

from django_kue import JobDoesNotExist, JobFailed
from tests.app.jobs import add, fail
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, failed


def test_a_job_that_was_over_and_gone_before_the_wait_still_gives_its_result() -> None:
    job = add.using(keep=0).enqueue(1)
    hands = Hands()
    hands.settle(hands.take_one(), b"C0|1|3")
    with pytest.raises(JobDoesNotExist):
        job.refresh()
    assert job.wait(timeout=1) == 3


def test_one_that_failed_and_went_says_why() -> None:
    job = fail.using(keep=0).enqueue()
    hands = Hands()
    hands.settle(hands.take_one(), failed(0, "boo"))
    with pytest.raises(JobFailed, match="boo"):
        job.wait(timeout=1)


def test_the_farewell_does_not_stay() -> None:
    job = add.using(keep=0).enqueue(1)
    hands = Hands()
    hands.settle(hands.take_one(), b"C0|1|3")
    assert 0 < redis_client().ttl(f"kue:{{default}}:by:{job.key}") <= 10
