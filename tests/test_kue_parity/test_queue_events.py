"""``queue.on('job complete', …)``: what happens to any job, heard in any process."""

from django_kue import get_queue
from tests.app.jobs import add, fail
from tests.app.tasks import heard
from tests.worker_process import finished, marks, wait_for


def test_a_queues_events_name_the_job_and_its_function(worker, ear):
    listener = ear("email")
    job = add.using(queue="email").enqueue(1, 2)

    completed = listener.hears("completed")
    assert listener.names == ["enqueued", "started", "completed"]
    assert (completed.job.id, completed.job.name, completed.queue) == (job.id, "tests.app.jobs.add", "email")
    assert completed.data == {"result": 3}
    assert completed.job.state == "completed"


def test_an_event_of_one_queue_is_not_anothers(worker, ear):
    listener = ear("email")
    add.enqueue(1).wait(timeout=10)
    add.using(queue="email").enqueue(2).wait(timeout=10)

    listener.hears("completed")
    assert {event.queue for event in listener.events} == {"email"}


def test_failed_jobs_are_heard_with_their_error(worker, ear):
    listener = ear("email")
    fail.using(queue="email", attempts=1).enqueue("no ink")

    assert listener.hears("failed").data["error"].message == "no ink"


def test_pause_and_resume_are_heard(ear):
    listener = ear("email")
    get_queue("email").pause()
    get_queue("email").resume()

    assert listener.hears("resumed").job is None
    assert listener.names == ["paused", "resumed"]


def test_signals_tell_the_worker_itself_once(worker):
    """Receivers in the process where it happens: what Kue's queue events were mostly used for."""
    good, bad = finished(heard.enqueue("works")), finished(heard.enqueue("fails"))

    wait_for(lambda: len(marks("heard")) == 2, what="two signals")
    assert sorted(marks("heard")) == sorted([f"completed {good.id} None", f"failed {bad.id} it fails"])
