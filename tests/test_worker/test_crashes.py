"""Processes die: by their jobs, by a signal, all at once. Nothing is lost, and only the culprit is blamed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from django_kue import Job, get_queue
from django_kue.audit import audit
from django_kue.execution import DONE, Run
from django_kue.store import moves
from django_kue.worker import board as boards
from django_kue.worker.board import Board, Busy, Untold
from django_kue.worker.fetch import Fetcher
from django_kue.worker.options import WorkerOptions
from tests.app import abuse, jobs
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
    worker.wait_log(
        f"crashed   tests.app.jobs.nap {job.id} crash 1/3: "
        "JobCrashed: its process died: killed by SIGKILL; it runs again"
    )


def test_a_run_that_completed_is_not_repeated_when_its_process_dies_before_it_was_told(
    tmp_path: Path,
) -> None:
    """Its end stands on the board, from which the supervisor tells it."""
    path = tmp_path / "notes"
    path.touch()
    with WorkerProcess("--processes", "1", "--queues", "other", KUE_TEST_RECEIVERS="1") as worker:
        worker.wait_started()
        job = abuse.note_both_ends.using(queue="other").enqueue(str(path), 0.3)
        wait_for(lambda: path.read_text() == "start\n")
        redis_client().client_pause(1500)  # it can't tell anybody
        wait_for(lambda: path.read_text() == "start\nend\n")
        worker.kill_child()
        job = finished(job)
        assert (job.state, job.result, job.crashes, job.attempts_made) == ("completed", "noted", 0, 1)
        assert path.read_text() == "start\nend\n"
        worker.wait_log("1 run recorded that the dead process had completed")
        told = [json.loads(text)["signal"] for text in wait_marks("signals", 2)]
        wait_for(lambda: "job_completed" in "".join(marks("signals")))
        assert "job_stalled" not in told
    assert is_well("other")


def test_the_board_keeps_what_is_short_and_forgets_what_was_told() -> None:
    board, lease = Board(("default",), 1), b"5|1700000000000|me"
    key = b"k" * 22
    first = board.note_end("default", key, lease, b"c1|")
    assert board.note_end("default", key, lease, b"x" * 201) is None
    assert list(board.untold()) == [Untold("default", key, 5, 1700000000000, b"c1|")]
    board.forget_end(first)
    assert list(board.untold()) == []
    numbers = [board.note_end("default", key, lease, b"c1|") for _ in range(129)]
    assert numbers.count(None) == 1
    board.close()


def test_a_slot_of_the_board_shows_no_run_while_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor looks at any moment: with the last run's deadline the next one would seem late."""
    board, slots = Board(("default",), 1), boards._SLOT
    seen: list[Busy] = []

    class Halves:
        """Packs the first half, and lets the supervisor look."""

        size = slots.size
        unpack_from = staticmethod(slots.unpack_from)

        @staticmethod
        def pack_into(memory: Any, at: int, *values: Any) -> None:
            old = slots.unpack_from(memory, at)
            slots.pack_into(memory, at, *values[:3], *old[3:])
            seen.extend(board.busy())
            slots.pack_into(memory, at, *values)

    monkeypatch.setattr(boards, "_SLOT", Halves)
    board.begin(0, "default", b"1" * 22, 1.0, 2.0, 0)
    assert [busy.deadline for busy in board.busy()] == [2.0]
    board.end(0)
    board.begin(0, "default", b"2" * 22, 100.0, 200.0, 3)
    assert seen == []
    assert list(board.busy()) == [Busy("default", b"2" * 22, 3, 100.0, 200.0, None)]
    board.end(0)
    assert slots.unpack_from(board._memory, board._slots_at[0])[1] == 0.0, (
        "nothing to take for the next one's"
    )
    board.close()


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


def test_what_a_job_forks_ends_at_sigterm(worker: WorkerProcess) -> None:
    assert finished(abuse.fork_and_terminate.enqueue()).result == -signal.SIGTERM


@pytest.mark.parametrize(
    "function", [abuse.fork_and_come_back, abuse.afork_and_come_back], ids=["sync", "async"]
)
def test_a_copy_that_comes_back_out_of_its_job_is_ended_and_told_and_settles_nothing(
    worker: WorkerProcess, function: Any
) -> None:
    raised, returned = all_finished([function.enqueue("raise"), function.enqueue("return")])
    assert (raised.result, returned.result) == (1, 1), "what the copies ended with"
    assert f"job {raised.id} forked a process that returned" in worker.log
    assert "exec failed" in worker.log


@pytest.mark.parametrize("seconds", [0.0, 0.005])
def test_a_job_that_closes_all_descriptors_costs_its_process_and_counts_as_crashed(
    fresh_worker: WorkerProcess, seconds: float
) -> None:
    """However long it goes on then: its end isn't told as a good one."""
    child = fresh_worker.child()
    job = finished(abuse.close_descriptors.using(queue="other").enqueue("closed", seconds), 15)
    assert (job.state, job.crashes) == ("failed", 3)
    assert not is_running(child)
    assert "descriptors" in job.error.message
    assert finished(jobs.add.using(queue="other").enqueue(1), 8).result == 3


@pytest.mark.slow
def test_a_job_that_replaces_all_descriptors_is_noticed_too(fresh_worker: WorkerProcess) -> None:
    neighbour = jobs.nap.using(queue="other").enqueue(1.5, "near")
    wait_marks("near")
    job = finished(abuse.replace_descriptors.using(queue="other").enqueue("replaced"), 15)
    assert (job.state, job.crashes) == ("failed", 3)
    neighbour = finished(neighbour)
    assert (neighbour.state, neighbour.crashes) == ("completed", 0)


def test_a_job_that_changes_the_working_folder_costs_its_process(worker: WorkerProcess) -> None:
    child = worker.child()
    assert finished(abuse.change_folder.enqueue()).state == "completed"
    wait_for(lambda: not is_running(child), 3, "a new process")
    assert "working directory" in worker.new_log
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
        running = [jobs.nap.using(queue="other").enqueue(5.0, f"orphan-{n}") for n in range(3)]
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


def has_asked_in_advance() -> bool:
    """Whether a worker sleeps on a pop with something behind it."""
    return any("b" in one["flags"] and int(one["qbuf"]) > 0 for one in redis_client().client_list())


def claimed_for_a_frozen_child(worker: WorkerProcess, definition: Any) -> Job:
    """A job that Redis gave to a child which hasn't heard of it. A child whose pop was over just when it was
    frozen gets none: then it tries again."""
    for _ in range(5):
        wait_for(has_asked_in_advance)
        worker.send(signal.SIGSTOP, worker.child())
        job = definition.enqueue()
        with suppress(AssertionError):
            return in_state(job, "active", 1)
        worker.send(signal.SIGCONT, worker.child())
        finished(job)
    raise AssertionError("it never got a job")


def test_a_job_that_was_claimed_for_a_process_that_died_before_it_heard_of_it_goes_back_at_once() -> None:
    with WorkerProcess("--processes", "1", "--queues", "other", KUE_TEST_LEASE="60") as worker:
        noop = jobs.noop.using(queue="other")
        finished(noop.enqueue())
        job = claimed_for_a_frozen_child(worker, noop)
        worker.kill_child()
        job = finished(job, 5)
        assert (job.state, job.crashes, job.attempts_made) == ("completed", 0, 1)


def test_a_waiting_job_is_found_though_the_worker_that_was_woken_for_it_died(worker: WorkerProcess) -> None:
    """A bell rings for one worker; should that one die before it looks, another does."""
    with WorkerProcess("--processes", "1", "--queues", "narrow", KUE_TEST_LEASE="1") as other:
        other.wait_started()
        finished(jobs.noop.using(queue="narrow").enqueue())
        get_queue("narrow").pause()
        job = jobs.noop.using(queue="narrow").enqueue()
        redis_client().hdel("kue:{narrow}:h", "paused")  # resumed, but the bell was another's to hear
        assert finished(job, 1.5).state == "completed"


def test_a_job_killed_while_delayed_work_waits_keeps_that(worker: WorkerProcess) -> None:
    later = jobs.add.using(delay=0.6).enqueue(1)
    job = jobs.nap.enqueue(0.2, "meanwhile")
    wait_marks("meanwhile")
    worker.kill_child()
    in_state(job, "completed")
    assert finished(later).result == 3


def test_the_end_of_a_run_that_took_long_does_not_wait_for_company() -> None:
    """While runs are at hand, ends of the shortest are told together; a crash would repeat a longer one."""
    options = WorkerOptions(queues=("default",), threads=2)
    board = Board(options.queues, 3 + options.coroutines)
    fetcher = Fetcher(moves.owner("prompt"), options, board)
    queue, alarm = fetcher._queues["default"], fetcher._alarm
    fetcher.crew.buffer.put([object()], 0)
    for duration, is_asleep in ((None, True), (0.0005, True), (0.005, False)):
        queue.duration, alarm.is_asleep = duration, True
        fetcher.crew.done(Run("default", b"k" * 22, b"1|2|me", b"", 2, 0.0), DONE)
        assert alarm.is_asleep == is_asleep
        assert (fetcher._nap(time.monotonic()) == 0.0) == (not is_asleep)
    fetcher._end()
    board.close()
