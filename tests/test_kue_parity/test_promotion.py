"""``promotion``: a delayed job becomes runnable, by its time or by hand."""

import pytest

from django_kue import IllegalTransition
from tests.app.jobs import add
from tests.test_kue_parity.conftest import UNSERVED


def test_a_delayed_job_can_be_promoted_by_hand(worker):
    job = add.using(delay=3600).enqueue(1)

    assert job.promote().state == "waiting"
    assert job.wait(timeout=10) == 3


def test_promotion_is_an_event(worker, ear):
    job = add.using(delay=0.3, queue="email").enqueue(1)

    assert ear(job).over() == ["promoted", "started", "completed"]


def test_a_job_that_waits_already_cannot_be_promoted():
    job = add.using(queue=UNSERVED).enqueue(1)

    with pytest.raises(IllegalTransition, match="that needs a job that.s delayed"):
        job.promote()
