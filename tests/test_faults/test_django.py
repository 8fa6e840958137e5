"""Django's side: receivers that hang. Transactions and connections are tested where the table says."""

from __future__ import annotations

import time

from tests.app import jobs
from tests.worker_process import WorkerProcess, counts, finished, in_state, is_well

SLACK = 1.0  # seconds, for a loaded machine


def test_a_receiver_that_hangs_costs_a_thread_and_no_jobs_state() -> None:
    with WorkerProcess(
        "--processes", "1", "--threads", "2", "--shutdown-timeout", "1", KUE_TEST_RECEIVERS="slow"
    ) as worker:
        worker.wait_started()
        begun = time.monotonic()
        first = finished(jobs.add.enqueue(1))
        assert time.monotonic() - begun < SLACK
        assert (first.state, first.result) == ("completed", 3)  # while its receiver hangs
        second = finished(jobs.add.enqueue(2))
        assert second.result == 4
        third = in_state(jobs.add.enqueue(3), "waiting")  # both threads hang now
        with WorkerProcess("--processes", "1") as other:
            assert finished(third).result == 5
            assert other.stop() == 0
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 1 + 1 + SLACK
    assert counts() == {"completed": 3}
    assert [job.refresh().attempts_made for job in (first, second, third)] == [1, 1, 1]
    assert is_well("default")
