"""``.delay(ms)`` and ``.delay(date)``: a job waits for its time."""

from datetime import timedelta

import pytest
from django.utils import timezone

from django_kue import get_queue
from tests.app.jobs import add, noop
from tests.test_kue_parity.conftest import UNSERVED
from tests.worker_process import wait_for


@pytest.mark.parametrize("delay", [0.3, timedelta(milliseconds=300)])
def test_a_delayed_job_runs_when_its_time_has_come_and_not_before(worker, delay):
    job = add.using(delay=delay).enqueue(1)
    assert job.refresh().state == "delayed"

    job.wait(timeout=10)
    done = job.refresh()
    assert done.started_at - done.created_at >= timedelta(seconds=0.29)  # Redis's clock, not ours
    assert done.started_at - done.run_at < timedelta(seconds=2)


def test_a_delay_can_be_a_moment(worker):
    moment = timezone.now() + timedelta(seconds=0.3)
    job = add.using(run_at=moment).enqueue(1)
    assert abs(job.refresh().run_at - moment) < timedelta(milliseconds=2)

    job.wait(timeout=10)
    assert job.refresh().started_at >= moment - timedelta(milliseconds=2)


def test_a_moment_that_is_past_means_now(worker):
    assert add.using(run_at=timezone.now() - timedelta(days=1)).enqueue(1).wait(timeout=10) == 3


def test_a_moment_without_a_time_zone_is_an_error():
    with pytest.raises(ValueError, match="time zone"):
        add.using(run_at=timezone.now().replace(tzinfo=None))


def test_delayed_jobs_come_in_the_order_of_their_times():
    later, sooner = (add.using(queue=UNSERVED, delay=delay).enqueue(1) for delay in (120, 60))

    delayed = get_queue(UNSERVED).jobs("delayed", newest_first=False)
    assert [job.id for job in delayed] == [sooner.id, later.id]


def test_delayed_jobs_in_an_interval_are_all_promoted_without_a_timer_that_polls(worker):
    """Kue looked every second, at 1000 jobs at most."""
    noop.using(delay=2).enqueue_many([()] * 600)
    assert get_queue().counts()["delayed"] == 600

    wait_for(lambda: get_queue().counts()["completed"] == 600, what="600 jobs that are due at once")
