"""``job.progress(completed, total, data)``"""

from tests.app.tasks import convert_video, half_way
from tests.test_kue_parity.conftest import let_go
from tests.worker_process import wait_for


def test_progress_and_its_data_can_be_read_while_the_job_runs(worker):
    job = half_way.enqueue()

    wait_for(lambda: job.refresh().progress, what="the progress")
    assert (job.refresh().progress, job.refresh().progress_data) == (50, {"slide": 7})
    let_go("go-on")
    job.wait(timeout=10)


def test_the_last_progress_is_there_when_the_job_is_completed(worker):
    job = convert_video.enqueue(5)
    job.wait(timeout=10)

    assert (job.refresh().progress, job.refresh().progress_data) == (100, {"next": "done"})


def test_progress_is_an_event_with_its_data(worker, ear):
    job = half_way.using(delay=60).enqueue()
    heard = ear(job)
    job.promote()

    assert heard.hears("progressed").data == {"progress": 50, "data": {"slide": 7}}
    let_go("go-on")
    heard.hears("completed")
