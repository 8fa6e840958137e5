"""What is fetched ahead never waits for a long job, and what has finished is soon told."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from django_kue import get_queue
from django_kue.execution import CANCELLED, DONE, RELEASED, Outcome, Run
from django_kue.worker.served import Places, Served
from tests.app import abuse, jobs
from tests.conftest import redis_client
from tests.test_engine.hands import Hands
from tests.worker_process import WorkerProcess, all_finished, finished, marks, wait_for


def warm_up() -> None:
    """The workers learn that this queue's jobs are quick, and so fetch ahead."""
    all_finished(jobs.noop.enqueue_many([()] * 300))


def test_a_slow_job_holds_none_of_the_quick_ones_while_another_worker_is_idle() -> None:
    one_thread = ("--processes", "1", "--threads", "1")
    with WorkerProcess(*one_thread) as one, WorkerProcess(*one_thread) as other:
        one.wait_started()
        other.wait_started()
        warm_up()
        queue = get_queue()
        queue.pause()
        slow = jobs.nap.enqueue(2, "slow")
        quick = jobs.noop.enqueue_many([()] * 200)
        queue.resume()
        begun = time.monotonic()
        all_finished(quick)
        assert time.monotonic() - begun < 1
        wait_for(
            lambda: marks("slow") == ["start"],
            0.5,
            "the slow one's start; the quick ones are over before it is",
        )
        assert finished(slow).result == "rested"


def test_what_has_finished_is_told_though_the_same_claim_has_a_long_job() -> None:
    with WorkerProcess("--processes", "1", "--threads", "1") as worker:
        worker.wait_started()
        warm_up()
        queue = get_queue()
        before = queue.counts()["completed"]
        queue.pause()
        jobs.noop.enqueue_many([()] * 20)
        long = jobs.nap.enqueue(1.5, "long")
        queue.resume()
        wait_for(lambda: marks("long") == ["start"], what="the long job's start")
        wait_for(lambda: queue.counts()["completed"] == before + 20, 0.5, "the ends of those before it")
        assert marks("long") == ["start"]
        finished(long)


def test_a_worker_without_a_free_thread_leaves_the_bell_to_others() -> None:
    """It has room for coroutines, but what waits needs a thread: it mustn't hear of that again and again."""
    with WorkerProcess("--processes", "1", "--threads", "2") as worker:
        worker.wait_started()
        for _ in range(3):
            jobs.nap.enqueue(4, "busy")
        wait_for(lambda: len(marks("busy")) == 2, what="two jobs to start")
        calls = [redis_client().info("stats")["total_commands_processed"]]
        time.sleep(1.5)
        calls.append(redis_client().info("stats")["total_commands_processed"])
        assert calls[1] - calls[0] < 1500, "a thousand a second, with those that scripts call"
        finished(jobs.anap.using(queue="other").enqueue(0), 1)  # there's room for a coroutine


def most_held(prefetch: str) -> int:
    with WorkerProcess("--processes", "1", "--threads", "1", KUE_TEST_PREFETCH=prefetch) as worker:
        worker.wait_started()
        job = jobs.count_active.using(queue="other")
        all_finished(job.enqueue_many([(0.0,)] * 50))
        return max(done.result for done in all_finished(job.enqueue_many([(0.0,)] * 200)))


def test_a_queue_without_prefetch_is_claimed_from_job_by_job() -> None:
    assert most_held("yes") > 1, "else this test can't fail"
    assert most_held("no") == 1


def wanted(busy: float | None, turn: float, *, free: int = 0, waiting: int = 0, in_a_row: int = 1000) -> int:
    """What's claimed by eight threads whose runs take ``busy`` seconds, while a turn takes ``turn``."""
    queue = Served("default")
    queue.duration, queue.async_share = busy, 0.0
    queue._count_claimed(in_a_row)
    queue.took(turn)
    return queue.wanted(Places(8, free, waiting, is_flowing=True), Places(100, 100, 0, is_flowing=False))


def test_work_at_hand_lasts_until_a_turn_has_brought_more_however_long_that_takes() -> None:
    assert wanted(0.002, turn=0.0002) == 12, "3 ms for each thread"
    assert wanted(0.002, turn=0.01) == 40, "10 ms"
    assert wanted(0.002, turn=0.01, waiting=20) == 20
    assert wanted(0.002, turn=0.01, waiting=21) == 0, "more than half is there yet"


def test_however_long_a_turn_takes_long_jobs_arent_fetched_ahead() -> None:
    assert wanted(0.5, turn=10) == 0
    assert wanted(0.02, turn=0.01, free=3) == 4, "10 ms for each thread"


def test_the_first_long_jobs_are_claimed_one_by_one() -> None:
    """Another process may have a core for the next."""
    assert wanted(0.5, turn=0.0002, free=8, in_a_row=7) == 1
    assert wanted(0.5, turn=0.01, free=8, in_a_row=7) == 1
    assert wanted(None, turn=0.0002, free=8, in_a_row=7) == 1, "they may be"
    assert wanted(0.002, turn=0.0002, free=8, in_a_row=7) == 7
    assert wanted(0.5, turn=0.0002, free=8, in_a_row=20) == 5, "so a hundred threads are soon busy"


def test_coroutines_are_claimed_together_however_long_they_wait() -> None:
    queue = Served("default")
    queue.duration, queue.async_share = 0.5, 1.0
    queue._count_claimed(1000)
    places = Places(8, 8, 0, is_flowing=False), Places(100, 100, 0, is_flowing=False)
    assert queue.wanted(*places) == 100


@pytest.mark.parametrize(
    ("is_short", "ends", "expected"),
    [
        (True, 1, [1, 4, 20, 100, 128]),
        (True, 0, [1, 1, 2, 4, 8, 16, 32, 64, 128]),
        (False, 1, [1, 1, 2, 4, 8, 16, 32, 64, 128]),
    ],
    ids=["short ones end", "nothing ends", "not short"],
)
def test_claims_grow_while_there_is_more(is_short: bool, ends: int, expected: list[int]) -> None:
    hands, queue = Hands(), Served("default")
    queue.duration, queue.async_share, queue.is_short = 0.00001, 0.0, is_short
    jobs.noop.enqueue_many([()] * sum(expected))
    places = Places(8, 8, 0, is_flowing=False), Places(100, 100, 0, is_flowing=False)
    asked = []
    while not asked or queue.ready_at <= time.monotonic():
        asked.append(queue.wanted(*places))
        queue.looked(hands.turn(asked[-1]), asked[-1])
        queue.tellable = ends
    assert asked == expected
    assert queue.wanted(*places) == 128, "while they flow"
    queue._claimed_at -= 0.2
    assert queue.wanted(*places) == 1, "after a rest"


def test_a_burst_of_jobs_that_compute_goes_to_all_processes() -> None:
    with WorkerProcess("--processes", "2", "--threads", "16") as worker:
        worker.wait_started()

        def both_have_run() -> bool:
            all_finished(abuse.span.enqueue_many([(0.05, "up")] * 32))
            return len({mark.split()[0] for mark in marks("up")}) == 2

        wait_for(both_have_run, 20, "both processes to be up")
        all_finished(abuse.compute.enqueue_many([("burst", 0.15)] * 16))
    assert min(Counter(marks("burst")).values()) > 2, "most often eight, though each has threads for all"


def test_a_delayed_job_is_in_time_though_a_long_one_came_before_it_was_due() -> None:
    with WorkerProcess("--processes", "1", "--threads", "2") as worker:
        worker.wait_started()
        due = time.time() + 1.0
        abuse.begun.using(delay=1.0).enqueue(0, "delayed")
        jobs.nap.enqueue(4, "long")
        (mark,) = wait_for(lambda: marks("delayed"), what="the delayed job")
        assert marks("long") == ["start"]
    assert float(mark.split()[-1]) - due < 0.5, "not when somebody sweeps"


def settle(queue: Served, *seconds: float, outcome: Outcome = DONE, started: float = 1.0) -> None:
    """Runs that took so long have ended, together; they were fetched at 0."""
    runs = [Run(queue.name, b"k" * 22, b"1|2|me", b"", 2, 0.0) for _ in seconds]
    for run, took in zip(runs, seconds, strict=True):
        run.started, run.finished, run.outcome = started, started + took, outcome
    queue.settled(runs)


def test_a_slow_start_is_soon_outweighed_by_runs_that_are_quick() -> None:
    queue = Served("default")
    settle(queue, *[0.002] * 8)
    settle(queue, *[0.000003] * 128)
    settle(queue, *[0.000003] * 64)
    assert queue.is_short


def test_a_run_that_was_quick_makes_no_long_ones_seem_so() -> None:
    queue = Served("default")
    settle(queue, *[1.0] * 8)
    settle(queue, 0.000003)
    assert queue.duration is not None
    assert queue.duration > 0.9


def test_what_never_ran_says_nothing_of_how_long_runs_take() -> None:
    queue = Served("default")
    settle(queue, *[1.0] * 8)
    for outcome in (RELEASED, CANCELLED, Outcome("k")):
        settle(queue, *[0.000003] * 128, outcome=outcome)
    settle(queue, *[0.000003] * 128, outcome=Outcome("f"), started=0.0)  # its record can't be read
    assert queue.duration == 1.0


def test_coroutines_that_come_together_make_no_mixed_queue_one_of_coroutines() -> None:
    queue = Served("default")
    queue.async_share, queue.duration = 0.5, 0.2
    run = Run(queue.name, b"k" * 22, b"1|2|me", b"", 2, 0.0)
    run.definition = jobs.anap
    queue.claimed(b"1|2|me", [run] * 128)
    places = Places(8, 2, 0, is_flowing=False), Places(100, 100, 0, is_flowing=False)
    assert queue.wanted(*places) <= 8


def test_one_slow_turn_is_soon_forgotten() -> None:
    queue = Served("default")
    queue.took(1)
    for _ in range(60):
        queue.took(0.0002)
    assert queue.turn_time < 0.003
