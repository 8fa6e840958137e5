"""``queue.workTime()`` and ``GET /stats``"""

from django_kue import get_queue
from tests.app.jobs import fail, nap
from tests.worker_process import finished, wait_for


def test_work_time_is_what_all_runs_took_together(worker):
    before = get_queue("email").work_time()
    for _ in range(2):
        nap.using(queue="email").enqueue(0.1).wait(timeout=10)

    wait_for(lambda: get_queue("email").work_time() - before >= 0.2, what="the time of two runs")
    assert get_queue("email").work_time() - before < 2


def test_rates_tell_how_many_ended_in_each_minute(worker):
    """Kue had none."""
    nap.enqueue(0).wait(timeout=10)
    finished(fail.enqueue())

    minutes = get_queue().rates(minutes=2)  # a minute may end meanwhile
    assert sum(minute.completed for minute in minutes) == 1
    assert sum(minute.failed for minute in minutes) == 1
