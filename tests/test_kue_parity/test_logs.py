"""``job.log('$%d sent to %s', amount, name)`` and ``GET /job/:id/log``"""

from tests.app.tasks import convert_video, hold
from tests.test_kue_parity.conftest import let_go
from tests.worker_process import wait_for


def test_log_lines_are_kept_in_their_order_with_their_time(worker):
    job = convert_video.enqueue(3)
    job.wait(timeout=10)

    lines = job.logs()
    assert [line.text for line in lines] == ["frame 1 of 3", "frame 2 of 3", "frame 3 of 3"]
    done = job.refresh()
    assert all(done.created_at <= line.at <= done.finished_at for line in lines)


def test_a_job_that_says_nothing_has_no_log(worker):
    let_go("release-quiet")
    job = hold.enqueue("quiet")
    job.wait(timeout=10)

    assert job.logs() == []


def test_only_so_many_of_the_newest_lines_are_kept(worker):
    """Kue kept all."""
    job = convert_video.enqueue(1200)
    job.wait(timeout=20)

    lines = wait_for(lambda: job.logs(most=5000), what="the log")
    assert len(lines) == 1000
    assert lines[-1].text == "frame 1200 of 1200"
