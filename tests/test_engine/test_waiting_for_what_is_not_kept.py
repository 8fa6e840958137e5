"""Who waits for a job gets its result, however short it's kept."""

from __future__ import annotations

from typing import Any

import pytest

from django_kue import JobDoesNotExist, JobFailed, get_queue
from django_kue.audit import audit
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


@pytest.mark.parametrize("outcome", [b"c1|3", b"C|1|3"])
def test_so_does_one_of_a_queue_that_keeps_none(settings: Any, outcome: bytes) -> None:
    settings.KUE = {**settings.KUE, "QUEUES": {"default": {"KEEP_COMPLETED": 0}}}
    jobs = add.enqueue_many([(1,), (2,)])
    hands = Hands()
    hands.turn(0, dict.fromkeys(hands.take(2), outcome))
    for job in jobs:
        with pytest.raises(JobDoesNotExist):
            job.refresh()
        assert job.wait(timeout=1) == 3
    assert get_queue().counts()["completed"] == 0
    assert audit("default") == []


def test_the_farewell_does_not_stay() -> None:
    job = add.using(keep=0).enqueue(1)
    hands = Hands()
    hands.settle(hands.take_one(), b"C0|1|3")
    assert 0 < redis_client().ttl(f"kue:{{default}}:by:{job.key}") <= 10
