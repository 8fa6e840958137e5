"""People steer: cancel, remove, pause; limits over all workers; and nobody waits without need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from django_kue import get_queue
from django_kue.worker.measuring import FLUSH
from tests.app import abuse, jobs
from tests.conftest import redis_client
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    broke,
    counts,
    finished,
    in_state,
    is_well,
    marks,
    wait_for,
    wait_marks,
)

THREADS = 4


@pytest.fixture(scope="module")
def workers() -> Iterator[tuple[WorkerProcess, WorkerProcess]]:
    options = ("--processes", "1", "--threads", str(THREADS), "--queues", "default,other,slow")
    with WorkerProcess(*options) as first, WorkerProcess(*options) as second:
        yield first.wait_started(), second.wait_started()


@pytest.fixture(autouse=True)
def begin(workers: tuple[WorkerProcess, WorkerProcess]) -> Iterator[None]:
    for worker in workers:
        worker.bookmark()
    yield
    for worker in workers:
        assert not broke(worker.new_log), worker.new_log[-3000:]


# ── cancel and remove ──


@pytest.mark.parametrize("function", [jobs.until_cancelled, jobs.anap], ids=["sync", "async"])
def test_a_running_job_learns_within_a_second_that_its_cancelled(function: object) -> None:
    arguments = (20, "stop")
    job = function.enqueue(*arguments)  # type: ignore[attr-defined]
    wait_marks("stop")
    begun = time.monotonic()
    assert job.refresh().cancel().state == "active"
    job = finished(job, 2.0)
    assert time.monotonic() - begun < 1.3
    assert (job.state, job.result) == ("cancelled", None)
    assert "end" not in marks("stop")
    assert counts() == {"cancelled": 1}


def test_a_cancelled_run_that_doesnt_look_ends_as_cancelled_whatever_it_returns() -> None:
    job = jobs.nap.enqueue(0.5, "deaf")
    wait_marks("deaf")
    job.cancel()
    job = finished(job)
    assert (job.state, job.result) == ("cancelled", None)
    assert marks("deaf") == ["start", "end"]


def test_a_cancelled_run_that_fails_isnt_tried_again() -> None:
    job = abuse.swallow.using(timeout=0.8, attempts=3).enqueue("failing")
    in_state(job, "active")
    job.cancel()
    assert finished(job).state == "cancelled"
    assert len(marks("failing")) == 1


def test_a_removed_running_job_is_gone_at_once_and_told_to_stop() -> None:
    job = jobs.until_cancelled.enqueue(20, "removed")
    wait_marks("removed")
    job.remove()
    assert counts() == {}
    wait_for(lambda: "cancelled" in marks("removed"), 1.3)
    assert finished(jobs.add.enqueue(1)).result == 3
    wait_for(lambda: is_well("default"), 3)
    assert counts() == {"completed": 1}


def test_a_waiting_job_thats_cancelled_never_runs() -> None:
    get_queue().pause()
    put = [jobs.leave.enqueue("kept", n) for n in range(20)]
    for job in put[::2]:
        job.cancel()
    get_queue().resume()
    all_finished(put)
    assert sorted(map(int, marks("kept"))) == list(range(1, 20, 2))


# ── pause ──


def test_a_paused_queue_rests_on_all_workers_and_resumes_at_once() -> None:
    queue = get_queue("other")
    finished(jobs.noop.using(queue="other").enqueue())
    running = jobs.nap.using(queue="other").enqueue(0.3, "running")
    wait_marks("running")
    queue.pause()
    put = [jobs.leave.using(queue="other").enqueue("paused", n) for n in range(10)]
    put.append(jobs.leave.using(queue="other", delay=0.1).enqueue("paused", 10))
    assert finished(running).state == "completed"  # what runs goes on
    finished(jobs.noop.enqueue())  # other queues go on
    until = time.monotonic() + 0.5
    wait_for(lambda: time.monotonic() > until)
    assert marks("paused") == []
    begun = time.monotonic()
    queue.resume()
    all_finished(put)
    assert time.monotonic() - begun < 1.0
    assert len(marks("paused")) == 11


# ── limits ──


def spans(name: str) -> list[tuple[float, float]]:
    return sorted((float(start), float(end)) for _, _, start, end in map(str.split, marks(name)))


@pytest.fixture(scope="module")
def narrow_workers() -> Iterator[None]:
    """Each could run all that the queue allows."""
    options = ("--processes", "1", "--threads", "2", "--queues", "narrow")
    with WorkerProcess(*options) as first, WorkerProcess(*options) as second:
        first.wait_started()
        second.wait_started()
        yield


def test_concurrency_holds_over_all_workers(narrow_workers: None) -> None:
    held = jobs.nap.using(queue="narrow").enqueue(0.6, "held")  # one place is the first worker's
    wait_marks("held")
    begun = time.monotonic()
    put = abuse.span.using(queue="narrow").enqueue_many([(0.05, "narrow", f"v{n}") for n in range(30)])
    assert {job.state for job in all_finished(put)} == {"completed"}
    spent = time.monotonic() - begun
    moments = sorted([(start, 1) for start, _ in spans("narrow")] + [(end, -1) for _, end in spans("narrow")])
    running = peak = 0
    for _, change in moments:
        running += change
        peak = max(peak, running)
    assert peak == 2
    assert finished(held).finished_at.timestamp() > spans("narrow")[0][0]
    assert spent < 30 * 0.05 / 2 * 2.5  # and both places are used


def test_a_removed_running_job_keeps_its_place_until_its_run_ends(narrow_workers: None) -> None:
    first = [jobs.nap.using(queue="narrow").enqueue(1.0, f"place-{n}") for n in range(2)]
    for number in range(2):
        wait_marks(f"place-{number}")
    for job in first:
        job.remove()
    begun = time.monotonic()
    behind = finished(jobs.noop.using(queue="narrow").enqueue())
    assert behind.state == "completed"
    assert time.monotonic() - begun > 0.5


def test_rate_holds_over_all_workers() -> None:
    put = abuse.begun.using(queue="slow").enqueue_many([(0.0, "rate", f"v{n}") for n in range(17)])
    all_finished(put, 10)
    starts = sorted(float(mark.split()[2]) for mark in marks("rate"))
    for first, sixth in zip(starts, starts[5:], strict=False):
        assert sixth - first >= 1.0 - 0.1  # clocks of marks start a little after the claims
    assert starts[-1] - starts[0] < 3.6  # 17 at 5/s need three seconds


# ── nobody waits without need ──


def test_quick_jobs_never_wait_behind_a_long_one_while_a_worker_is_idle() -> None:
    """The prototype's head-of-line test: what was fetched together with a long run goes back."""
    options = ("--processes", "1", "--threads", "1", "--queues", "email")
    with WorkerProcess(*options) as first, WorkerProcess(*options) as second:
        first.wait_started()
        second.wait_started()
        get_queue("email").pause()
        quick = jobs.stamp.using(queue="email").enqueue_many([() for _ in range(300)])
        long = jobs.until_cancelled.using(queue="email").enqueue(60, "long")
        quick += jobs.stamp.using(queue="email").enqueue_many([() for _ in range(500)])
        get_queue("email").resume()
        starts = sorted(job.result for job in all_finished(quick, 30))
        assert long.refresh().state == "active"
        assert max(after - before for before, after in pairwise(starts)) < 0.6
        long.cancel()
        finished(long)


def test_a_job_behind_long_ones_is_run_by_the_other_worker() -> None:
    all_finished(jobs.noop.enqueue_many([() for _ in range(300)]))  # they fetch ahead now
    long = [jobs.nap.enqueue(1.5, f"long-{n}") for n in range(THREADS)]
    for number in range(THREADS):
        wait_marks(f"long-{number}")
    put = [(time.time(), jobs.stamp.enqueue()) for _ in range(THREADS)]
    for at, job in put:
        assert finished(job).result - at < 0.6
    all_finished(long)


def test_a_flooded_queue_doesnt_starve_another() -> None:
    flood = abuse.begun.enqueue_many([(0.005, "flood", f"{n}") for n in range(1500)])
    wait_marks("flood", 20)
    waits = []
    for _ in range(10):
        at = time.time()
        waits.append(finished(jobs.stamp.using(queue="other").enqueue()).result - at)
    assert max(waits) < 0.5, waits
    assert len(marks("flood")) < 1500  # the flood was still on
    get_queue().empty()
    wait_for(lambda: not counts().get("active"))
    assert flood


def test_a_delayed_job_starts_on_time_on_an_idle_worker() -> None:
    lateness = []
    for _ in range(3):
        put = [
            (time.time(), 0.1 + 0.037 * n, jobs.stamp.using(delay=0.1 + 0.037 * n).enqueue())
            for n in range(10)
        ]
        for at, delay, job in put:
            job = finished(job)
            assert (job.started_at - job.run_at).total_seconds() >= 0
            lateness.append(job.result - at - delay)
    lateness.sort()
    assert lateness[0] > -0.002
    assert lateness[len(lateness) // 2] < 0.03
    assert lateness[-1] < 0.3


def test_an_earlier_delayed_job_wakes_a_worker_that_waits_for_a_later_one() -> None:
    later = jobs.stamp.using(delay=30).enqueue()
    at = time.time()
    assert finished(jobs.stamp.using(delay=0.2).enqueue()).result - at < 0.6
    later.remove()


def test_an_idle_workers_job_starts_within_milliseconds() -> None:
    waits = []
    for _ in range(40):
        at = time.time()
        waits.append(finished(jobs.stamp.enqueue()).result - at)
    waits.sort()
    assert waits[len(waits) // 2] < 0.02


@pytest.mark.slow
def test_idle_workers_ask_redis_for_little() -> None:
    """Two workers on five queues: heartbeats and sweeps, but no polling."""
    finished(jobs.noop.enqueue())
    told = time.monotonic() + FLUSH + 1  # measurements of all that ran before this test
    wait_for(lambda: time.monotonic() > told, 10)
    client = redis_client()
    client.config_resetstat()
    until = time.monotonic() + 5
    wait_for(lambda: time.monotonic() > until, 10)
    asked = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
    calls = asked.get("cmdstat_evalsha", 0) + asked.get("cmdstat_eval", 0)
    # A worker announces itself and asks for schedules every 2 s, and sweeps its 5 queues every 4 s; each is
    # looked in on by the way.
    assert calls <= 2 * (3 + 3 + 3 * 5) + 4, asked
    assert asked.get("cmdstat_bzpopmin", 0) <= 4, asked
