"""``job.data`` and ``done(null, result)``: JSON, checked at once."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from django_kue import EnqueueError, Job
from tests.app.jobs import add
from tests.app.tasks import welcome
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import finished

ours = welcome.using(queue=UNSERVED)


def test_data_is_what_json_can_hold():
    data = {"slides": [1, 2.5, "drei", None, True], "nested": {"deep": []}}
    job = ours.enqueue(to=data)

    assert Job.get(job.id).kwargs == {"to": data}


def test_data_also_holds_times_and_decimals():
    data = {"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "price": Decimal("9.90")}
    job = ours.enqueue(to=data)

    assert Job.get(job.id).kwargs == {"to": data}


@pytest.mark.parametrize("value", [float("nan"), {1: "a number as key"}, object(), print])
def test_data_that_cannot_be_stored_is_an_error_that_names_the_argument(value):
    """JavaScript wrote null, ``{}`` or nothing instead."""
    with pytest.raises(EnqueueError, match="'to'"):
        ours.enqueue(value)


def test_data_that_is_too_large_is_an_error():
    """Kue's README asks people not to; here they're told."""
    with pytest.raises(EnqueueError, match="'template' is too large"):
        ours.enqueue("tj@example.org", "x" * 300_000)


def test_the_result_is_kept_and_comes_with_the_end(worker):
    job = welcome.enqueue("tj@example.org")

    assert job.wait(timeout=10) == {"to": "tj@example.org", "template": "plain"}
    assert job.refresh().result == {"to": "tj@example.org", "template": "plain"}


def test_a_job_knows_when_it_was_made_started_and_finished_and_by_whom(worker):
    """``created_at``, ``started_at``, ``duration``, ``workerId``"""
    job = finished(add.enqueue(1))

    assert job.created_at <= job.started_at <= job.finished_at
    assert job.worker
