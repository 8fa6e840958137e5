"""``job.state()`` and the verbs that change it; Kue's ``inactive`` and ``complete`` are understood."""

import pytest

from django_kue import IllegalTransition, Job, get_queue
from django_kue.states import State
from tests.app.jobs import add, fail
from tests.app.tasks import hold
from tests.test_kue_parity.conftest import UNSERVED, let_go
from tests.worker_process import finished, wait_for


def test_a_job_goes_from_inactive_to_active_to_complete(worker):
    queue = get_queue("email")
    queue.pause()
    job = hold.using(queue="email").enqueue("states")
    assert job.refresh().state == State("inactive")

    queue.resume()
    wait_for(lambda: job.refresh().state == State.ACTIVE, what="the run")
    let_go("release-states")
    assert finished(job).state == State("complete")


def test_kues_names_work_wherever_a_state_is_named():
    job = add.using(queue=UNSERVED).enqueue(1)

    assert get_queue(UNSERVED).jobs("inactive") == [Job.get(job.id)]
    assert get_queue(UNSERVED).jobs("complete") == []


def test_a_state_that_does_not_exist_is_an_error():
    """Kue wrote any text into the job, and the job was in no list any more."""
    with pytest.raises(ValueError, match="delayed, waiting, active"):
        get_queue(UNSERVED).jobs("actve")


def test_inactive_runs_a_failed_job_again_with_fresh_attempts(worker):
    """``job.inactive()``, the UI's button"""
    job = finished(fail.enqueue())
    assert job.attempts_made == 1

    again = job.retry()
    assert (again.state, again.attempts_made, again.error) == ("waiting", 0, None)
    wait_for(lambda: job.refresh().state == "failed", what="the second failure")
    assert job.refresh().attempts_made == 1


def test_a_move_that_makes_no_sense_is_refused_and_changes_nothing():
    """In Kue, ``job.inactive()`` on a running job started it a second time."""
    job = add.using(queue=UNSERVED).enqueue(1)

    for verb in (job.retry, job.promote):
        with pytest.raises(IllegalTransition, match="waiting"):
            verb()
    assert job.refresh().state == "waiting"


def test_a_job_can_be_cancelled_which_kue_had_no_word_for():
    job = add.using(queue=UNSERVED).enqueue(1)

    assert job.cancel().state == "cancelled"
    assert get_queue(UNSERVED).counts() == {
        "delayed": 0, "waiting": 0, "active": 0, "completed": 0, "failed": 0, "cancelled": 1,
    }  # fmt: skip
