"""``.priority('high')``: higher runs sooner; first in, first out within one."""

import pytest

from tests.app.jobs import leave
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import marks

ours = leave.using(queue=UNSERVED)


def test_jobs_run_by_priority_and_in_order_within_one(start_worker):
    for place, priority in enumerate(["low", "normal", "critical", 7, "high", "low", "normal", "medium"]):
        ours.using(priority=priority).enqueue("order", f"{priority} {place}")

    assert start_worker("--burst", "--threads", "1").wait() == 0
    assert marks("order") == [
        "critical 2", "high 4", "7 3", "medium 7", "normal 1", "normal 6", "low 0", "low 5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "number"), [("low", -10), ("normal", 0), ("medium", 5), ("high", 10), ("critical", 15)]
)
def test_kues_names_are_numbers_with_the_sign_turned_round(name, number):
    """In Kue, −10 is high; here a higher number is a higher priority."""
    assert ours.using(priority=name).enqueue("n", 1).refresh().priority == number


def test_an_unknown_priority_is_an_error():
    """Kue stored it, and Redis refused it as a score later on."""
    with pytest.raises(ValueError, match="'critical'"):
        leave.using(priority="urgent")


def test_the_priority_of_a_waiting_job_can_be_changed(start_worker):
    """``job.priority('high').update()``, which in Kue put the job into the queue a second time"""
    ours.enqueue("changed", "first")
    last = ours.enqueue("changed", "last")
    assert last.set_priority("high").priority == 10

    assert start_worker("--burst", "--threads", "1").wait() == 0
    assert marks("changed") == ["last", "first"]
