"""Processes that die, stand still or misbehave, at the moments at which it hurts most."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.app import abuse, jobs
from tests.test_faults import full_size, tell
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    finished,
    is_running,
    is_well,
    marks,
    wait_for,
    wait_marks,
)

LEASE = 1.0
SHORT_LEASE = {"KUE_TEST_LEASE": "1"}
SLACK = 1.0  # seconds, for a loaded machine


def test_a_container_that_dies_whole_has_its_job_run_elsewhere_within_one_and_a_half_leases() -> None:
    with WorkerProcess("--processes", "1", **SHORT_LEASE) as dying:
        dying.wait_started()
        job = jobs.nap.enqueue(3.0, "container")  # longer than the other takes to start
        wait_marks("container")
        with WorkerProcess("--processes", "1", **SHORT_LEASE) as other:
            other.wait_started()
            begun = time.monotonic()
            dying.kill_all()
            wait_marks("container", 2)
            assert time.monotonic() - begun < 1.5 * LEASE + SLACK
            job = finished(job)
            assert (job.state, job.attempts_made, job.crashes) == ("completed", 1, 0)
            assert [run.outcome for run in job.runs()] == ["stalled"]
    assert is_well("default")


def test_a_process_that_dies_between_claim_and_start_has_its_jobs_run_once(tmp_path: Path) -> None:
    point = tmp_path / "died"
    with WorkerProcess("--processes", "1", KUE_TEST_FAILPOINT=f"claimed:{point}") as worker:
        worker.wait_started()
        begun = time.monotonic()
        job = finished(jobs.leave.enqueue("claimed", "run"))
        assert point.exists()
        assert time.monotonic() - begun < 1.0 + SLACK
        assert (job.state, job.attempts_made, job.crashes) == ("completed", 1, 0)
        assert marks("claimed") == ["run"]
    assert is_well("default")


def test_a_process_that_dies_between_a_runs_end_and_its_acknowledgement_repeats_that_run(
    tmp_path: Path,
) -> None:
    """What "at least once" means: the work was done, and nobody had heard of it."""
    point = tmp_path / "died"
    with WorkerProcess("--processes", "1", KUE_TEST_FAILPOINT=f"ended:{point}") as worker:
        worker.wait_started()
        job = finished(jobs.leave.enqueue("ended", "run"))
        assert point.exists()
        assert (job.state, job.attempts_made) == ("completed", 1)
        assert marks("ended") == ["run", "run"]
    assert is_well("default")


def test_the_retry_that_a_frozen_worker_asks_for_afterwards_is_refused() -> None:
    with (
        WorkerProcess("--processes", "1", **SHORT_LEASE) as first,
        WorkerProcess("--processes", "1", **SHORT_LEASE) as second,
    ):
        first.wait_started()
        second.wait_started()
        job = abuse.fail_first.enqueue(1.0, "refused")
        wait_marks("refused")
        holder = wait_for(lambda: job.refresh().worker).split("/")[0]
        frozen = first if holder in first.log else second
        pids = [frozen.pid, *frozen.children()]
        for pid in pids:
            frozen.send(signal.SIGSTOP, pid)
        time.sleep(1.7 * LEASE)
        wait_marks("refused", 2)
        for pid in pids:
            frozen.send(signal.SIGCONT, pid)
        job = finished(job)
        frozen.wait_log("another worker has the job now")
        assert sorted(marks("refused")) == ["bad", "good", "run", "run"]
        assert (job.state, job.result, job.attempts_made) == ("completed", "good", 1)
        assert [run.outcome for run in job.runs()] == ["stalled"]
    assert is_well("default")


@pytest.mark.parametrize("kind", ["error", "result", "log"])
def test_a_hundred_mib_of_error_result_or_log_are_cut_or_refused(kind: str) -> None:
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        child = worker.child()
        job = finished(abuse.overdo.enqueue(kind, 100), 20)
        if kind == "error":
            assert job.state == "failed"
            assert len(job.error.message) + len(job.error.traceback) < 100_000
            assert "characters are cut here" in job.error.message
        elif kind == "result":
            assert job.state == "failed"
            assert "MAX_RESULT" in job.error.message
        else:
            [line] = job.logs()
            assert job.state == "completed"
            assert line.text.endswith("… (cut)")
            assert len(line.text) < 10_000
        assert finished(jobs.add.enqueue(1)).result == 3
        assert worker.child() == child
    assert is_well("default")


def test_a_poison_pill_leaves_its_neighbours_four_fifths_of_the_throughput() -> None:
    with WorkerProcess("--processes", "2", "--threads", "4") as worker:
        worker.wait_started()

        def drain(pills: int) -> float:
            put = abuse.doze.enqueue_many([(0.02,)] * full_size(800, 6000))
            bad = [abuse.die.using(priority="high").enqueue("kill") for _ in range(pills)]
            begun = time.monotonic()
            assert {job.state for job in all_finished(put, 120)} == {"completed"}
            spent = time.monotonic() - begun
            assert {(job.state, job.crashes) for job in all_finished(bad, 20)} <= {("failed", 3)}
            return spent

        for _ in range(3):  # what else the machine does slows one of the two, or both
            alone, beside = drain(0), drain(1)
            tell(f"alone {alone:.2f} s, beside a poison pill {beside:.2f} s: {alone / beside:.0%}")
            if alone / beside > 0.8:
                break
        else:
            pytest.fail("in none of three tries")


def test_a_grandchild_is_gone_when_its_process_is_retired() -> None:
    with WorkerProcess("--processes", "1", "--max-jobs", "1") as worker:
        worker.wait_started()
        child = worker.child()
        finished(abuse.leave_child.enqueue("grandchild"))
        wait_for(lambda: not is_running(child), 5, "the end of the process")
        wait_for(lambda: not is_running(int(marks("grandchild")[0])), 2, "the grandchild's end")
        assert finished(jobs.add.enqueue(1)).result == 3


def test_a_job_that_alters_signals_harms_nobody_and_its_process_still_ends_in_order() -> None:
    with WorkerProcess("--processes", "1", "--threads", "2") as worker:
        worker.wait_started()
        assert finished(abuse.handle_signals.enqueue()).error.type == "builtins.ValueError"  # Python's own
        finished(abuse.ignore_signals.enqueue("ignored"))
        assert int(marks("ignored")[0]) == worker.child()
        stubborn = finished(jobs.stubborn.enqueue("stubborn"), 5)
        assert stubborn.error.type == "django_kue.errors.JobTimeout"
        finished(abuse.ignore_signals.enqueue("ignored"))
        running = jobs.nap.enqueue(0.5, "running")
        wait_marks("running")
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 10  # not at the deadline, 30 s
        assert running.refresh().state == "completed"
