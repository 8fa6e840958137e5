"""Processes die: by their jobs, by a signal, all at once. Nothing is lost, and only the culprit is blamed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from django_kue import get_queue
from tests.app import abuse, jobs
from tests.audit import audit
from tests.conftest import redis_client
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    counts,
    finished,
    in_state,
    is_running,
    is_well,
    marks,
    wait_for,
    wait_marks,
)


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "4", "--queues", "default") as worker:
        yield worker.wait_started()


@pytest.fixture
def fresh_worker() -> Iterator[WorkerProcess]:
    """One whose processes haven't died again and again, which slows down the start of the next."""
    with WorkerProcess("--processes", "1", "--threads", "4", "--queues", "other") as worker:
        yield worker.wait_started()


@pytest.fixture(autouse=True)
def begin(worker: WorkerProcess) -> Iterator[None]:
    worker.bookmark()
    wait_for(worker.children, 8, "a process")
    yield
    wait_for(lambda: is_well("default"), 2, lambda: str(audit("default")))


def test_a_process_killed_in_a_job_is_replaced_and_the_job_runs_again(worker: WorkerProcess) -> None:
    job = jobs.nap.enqueue(0.5, "killed")
    wait_marks("killed")
    begun = time.monotonic()
    child = worker.kill_child()
    wait_marks("killed", 2)
    assert time.monotonic() - begun < 1.0
    job = finished(job)
    assert (job.state, job.crashes, job.attempts_made) == ("completed", 1, 1)
    assert marks("killed") == ["start", "start", "end"]
    [run] = job.runs()
    assert (run.outcome, run.error.type) == ("crashed", "django_kue.errors.JobCrashed")
    assert "killed by SIGKILL" in run.error.message
    assert worker.child() != child


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("segfault", "SIGSEGV"),
        ("kill", "SIGKILL"),
        ("exit", "exited with code 0"),
        pytest.param("abort", "SIGABRT", marks=pytest.mark.slow),
        pytest.param("exit as if stopped", "exited with code 50", marks=pytest.mark.slow),
    ],
)
def test_a_job_that_kills_its_process_three_times_is_failed(
    fresh_worker: WorkerProcess, how: str, said: str
) -> None:
    job = finished(abuse.die.using(queue="other").enqueue(how), 12)
    assert (job.state, job.crashes) == ("failed", 3)
    assert marks("die") == [how] * 3
    assert job.error.type == "django_kue.errors.JobCrashed"
    assert said in job.error.message
    assert [run.outcome for run in job.runs()] == ["crashed"] * 3
    assert all(run.started_at <= run.finished_at for run in job.runs())
    assert finished(jobs.add.using(queue="other").enqueue(1), 8).result == 3


def test_a_job_that_kills_its_process_once_completes(worker: WorkerProcess) -> None:
    job = finished(abuse.die_first.enqueue("once"), 8)
    assert (job.state, job.result, job.crashes) == ("completed", "alive", 1)


def test_the_neighbours_of_a_poison_pill_arent_blamed(worker: WorkerProcess) -> None:
    neighbours = [jobs.nap.enqueue(0.8, f"beside-{number}") for number in range(2)]
    neighbours.append(jobs.anap.enqueue(0.8, "beside-2"))
    for number in range(3):
        wait_marks(f"beside-{number}")
    pill = abuse.die.enqueue("kill")
    pill = finished(pill, 20)
    assert (pill.state, pill.crashes) == ("failed", 3)
    for number, job in enumerate(all_finished(neighbours, 20)):
        assert (job.state, job.crashes, job.attempts_made) == ("completed", 0, 1)
        assert len(marks(f"beside-{number}")) <= 3  # run again at most once
    assert len(marks("die")) <= 4  # once beside others, then alone


def test_jobs_that_werent_started_are_handed_back_unharmed(worker: WorkerProcess) -> None:
    pill = abuse.die_first.using(priority=10).enqueue("first")
    others = jobs.noop.enqueue_many([() for _ in range(300)])
    finished(pill, 8)
    for job in all_finished(others):
        assert (job.state, job.crashes) == ("completed", 0)


def test_a_group_that_dies_with_its_process_leaves_no_grandchildren(worker: WorkerProcess) -> None:
    finished(abuse.leave_child.enqueue("grandchild"))
    grandchild = int(marks("grandchild")[0])
    assert is_running(grandchild)
    worker.kill_child()
    wait_for(lambda: not is_running(grandchild), 3, "the grandchild's end")


def test_a_job_that_closes_all_descriptors_costs_its_process_and_counts_as_crashed(
    worker: WorkerProcess,
) -> None:
    child = worker.child()
    job = finished(abuse.close_descriptors.enqueue("closed"), 15)
    assert (job.state, job.crashes) == ("failed", 3)
    assert not is_running(child)
    assert "descriptors" in job.error.message
    assert finished(jobs.add.enqueue(1), 8).result == 3


@pytest.mark.slow
def test_a_job_that_replaces_all_descriptors_is_noticed_too(worker: WorkerProcess) -> None:
    neighbour = jobs.nap.enqueue(1.5, "near")
    wait_marks("near")
    job = finished(abuse.replace_descriptors.enqueue("replaced"), 15)
    assert (job.state, job.crashes) == ("failed", 3)
    neighbour = finished(neighbour)
    assert (neighbour.state, neighbour.crashes) == ("completed", 0)


def test_a_job_that_changes_the_working_folder_costs_its_process(worker: WorkerProcess) -> None:
    child = worker.child()
    assert finished(abuse.change_folder.enqueue()).state == "completed"
    wait_for(lambda: not is_running(child), 3, "a new process")
    assert "working folder" in worker.new_log
    assert finished(jobs.add.enqueue(1)).result == 3


def test_a_thread_that_a_job_left_doesnt_hold_up_the_end() -> None:
    with WorkerProcess("--processes", "1", "--queues", "other") as other:
        other.wait_started()
        finished(abuse.leave_thread.using(queue="other").enqueue("thread"))
        begun = time.monotonic()
        assert other.stop() == 0
        assert time.monotonic() - begun < 3


def test_the_supervisors_death_ends_its_processes_at_once_and_another_worker_runs_their_jobs() -> None:
    with WorkerProcess(
        "--processes", "2", "--threads", "2", "--queues", "other", KUE_TEST_LEASE="1"
    ) as first:
        first.wait_started()
        running = [jobs.nap.using(queue="other").enqueue(3.0, f"orphan-{n}") for n in range(3)]
        for number in range(3):
            wait_marks(f"orphan-{number}")
        children = first.children()
        get_queue("other").pause()
        with WorkerProcess("--queues", "other", "--threads", "2", KUE_TEST_LEASE="1") as second:
            second.wait_started()
            get_queue("other").resume()
            first.send(signal.SIGKILL)
            wait_for(lambda: not any(map(is_running, children)), 0.9, "the end of the processes")
            for job in all_finished(running, 8):
                assert (job.state, job.crashes, job.attempts_made) == ("completed", 0, 1)
            for number in range(3):
                assert marks(f"orphan-{number}") == ["start", "start", "end"]
            assert "taken back from a worker that died" in second.log
    assert counts("other") == {"completed": 3}
    assert is_well("other")


def test_a_whole_worker_that_dies_at_once_loses_nothing() -> None:
    """As when a container is ended: supervisor and processes by SIGKILL."""
    with WorkerProcess("--processes", "2", "--queues", "other", KUE_TEST_LEASE="1") as first:
        first.wait_started()
        put = jobs.nap.using(queue="other").enqueue_many([(0.05, "all") for _ in range(200)])
        wait_marks("all", 20)
        first.kill_all()
        with WorkerProcess("--processes", "2", "--queues", "other", KUE_TEST_LEASE="1"):
            for job in all_finished(put, 20):
                assert job.state == "completed"
    assert marks("all").count("end") - 200 <= 32  # no more than what was in hand ran twice
    assert is_well("other")


def test_a_waiting_job_is_found_though_the_worker_that_was_woken_for_it_died(worker: WorkerProcess) -> None:
    """A bell rings for one worker; should that one die before it looks, another does."""
    with WorkerProcess("--processes", "1", "--queues", "narrow", KUE_TEST_LEASE="1") as other:
        other.wait_started()
        finished(jobs.noop.using(queue="narrow").enqueue())
        get_queue("narrow").pause()
        job = jobs.noop.using(queue="narrow").enqueue()
        redis_client().hdel("kue:{narrow}:h", "paused")  # resumed, but the bell was another's to hear
        assert finished(job, 1.5).state == "completed"


@pytest.mark.slow
def test_a_poison_pill_leaves_the_others_most_of_the_throughput() -> None:
    with WorkerProcess("--processes", "2", "--threads", "4", "--queues", "other") as other:
        other.wait_started()

        def drain(pills: int) -> float:
            put = jobs.nap.using(queue="other").enqueue_many([(0.02, "load") for _ in range(1000)])
            bad = [abuse.die.using(queue="other", priority=5).enqueue("kill") for _ in range(pills)]
            begun = time.monotonic()
            assert {job.state for job in all_finished(put, 60)} == {"completed"}
            spent = time.monotonic() - begun
            assert {job.state for job in all_finished(bad, 20)} <= {"failed"}
            return spent

        alone = drain(0)
        assert drain(1) < alone * 1.6 + 0.5


def test_a_job_killed_while_delayed_work_waits_keeps_that(worker: WorkerProcess) -> None:
    later = jobs.add.using(delay=0.6).enqueue(1)
    job = jobs.nap.enqueue(0.2, "meanwhile")
    wait_marks("meanwhile")
    worker.kill_child()
    in_state(job, "completed")
    assert finished(later).result == 3
