"""``failed attempt``: a run failed, and there are attempts left."""

from tests.app.tasks import flaky
from tests.worker_process import marks, wait_for, wait_marks


def test_it_is_an_event_with_the_error(worker, ear):
    job = flaky.using(delay=60).enqueue("event", 2)
    heard = ear(job)
    job.promote()

    event = heard.hears("retrying")
    assert event.data["error"].message == "attempt 1 failed"
    assert event.data["delay"] == 0
    assert heard.over() == ["promoted", "started", "retrying", "started", "completed"]
    wait_marks("retrying")  # the signal's receiver may be later than the event


def test_it_is_a_signal_in_the_worker_with_the_exception(worker):
    flaky.using(backoff=0.02).enqueue("signal", 3).wait(timeout=10)

    wait_for(lambda: len(marks("retrying")) == 2, what="two signals")
    # Two threads may tell of them, in any order.
    assert sorted(marks("retrying")) == ["1 attempt 1 failed 0.02", "2 attempt 2 failed 0.02"]
