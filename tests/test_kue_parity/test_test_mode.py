"""Test mode: Kue's ``queue.testMode``."""

from __future__ import annotations

from django_kue import get_queue
from django_kue.testing import fake, inline
from tests.app.tasks import welcome
from tests.test_kue_parity.conftest import UNSERVED


def test_jobs_are_collected_and_not_processed() -> None:
    with fake() as kue:
        welcome.enqueue("tj@learnboost.com")
        welcome.enqueue("tobi@learnboost.com")

        assert [(job.name, job.args) for job in kue.jobs] == [
            (welcome.name, ("tj@learnboost.com",)),
            (welcome.name, ("tobi@learnboost.com",)),
        ]
        assert {job.state for job in kue.jobs} == {"waiting"}
    assert sum(get_queue().counts().values()) == 0


def test_jobs_can_be_processed_as_they_come() -> None:
    with inline() as kue:
        welcome.enqueue("tj@learnboost.com")

        assert kue.jobs[0].result == {"to": "tj@learnboost.com", "template": "plain"}


def test_what_was_collected_can_be_cleared() -> None:
    with fake() as kue:
        welcome.enqueue("tj@learnboost.com")
        kue.clear()

        assert kue.jobs == []


def test_after_it_jobs_go_to_redis_again() -> None:
    with fake():
        welcome.enqueue("tj@learnboost.com")

    welcome.using(queue=UNSERVED).enqueue("tobi@learnboost.com")  # the other is served while these tests run
    assert get_queue(UNSERVED).counts()["waiting"] == 1
