"""What a worker says: progress and log lines of jobs, its own log, signals."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from django_kue import get_queue
from tests.app import abuse, jobs
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    broke,
    counts,
    finished,
    marks,
    wait_for,
    wait_marks,
)


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess(
        "--processes", "1", "--threads", "2", "--queues", "default,email", KUE_TEST_RECEIVERS="1"
    ) as worker:
        yield worker.wait_started()


@pytest.fixture(autouse=True)
def begin(worker: WorkerProcess) -> Iterator[None]:
    worker.bookmark()
    yield
    assert not broke(worker.new_log), worker.new_log[-3000:]


# ── progress and logs ──


def test_progress_and_logs_can_be_read_while_the_job_runs() -> None:
    job = abuse.report_then.enqueue(1.0, 40, {"step": "four"})
    seen = wait_for(lambda: now if (now := job.refresh()).progress else None, 0.6)
    assert (seen.state, seen.progress, seen.progress_data) == ("active", 40, {"step": "four"})
    assert [str(line) for line in job.logs()] == ["at 40"]
    finished(job)


def test_all_that_a_job_said_is_there_before_its_outcome() -> None:
    for _ in range(30):
        job = finished(jobs.progress.enqueue(5))
        assert [str(line) for line in job.logs()] == [f"step {step} of 5" for step in range(1, 6)]


def test_of_many_progresses_the_newest_counts() -> None:
    job = finished(abuse.many_progresses.enqueue(5000))
    assert job.state == "completed"
    assert job.progress_data == {"done": 5000}


def test_the_newest_log_lines_are_kept() -> None:
    job = finished(abuse.chatter.enqueue(1500))
    lines = [str(line) for line in job.logs()]
    assert len(lines) == 1000
    assert lines[0].startswith("500 ")
    assert lines[-1].startswith("1499 ")


def test_a_long_log_line_is_cut_and_marked_so() -> None:
    job = finished(abuse.chatter.enqueue(1, 100_000))
    [line] = job.logs()
    assert len(str(line)) < 4200
    assert str(line).endswith("… (cut)")


def test_megabytes_of_log_lines_dont_stop_a_job() -> None:
    job = finished(abuse.chatter.enqueue(3000, 4000))
    assert job.state == "completed"
    assert len(job.logs()) == 1000


def test_odd_log_lines_are_kept_as_they_are() -> None:
    lines = [str(line) for line in finished(abuse.odd_lines.enqueue()).logs()]
    assert lines == ["two\nlines \x1b[31mred", "100% sure", "lone ?"]


def test_progress_data_over_the_limit_fail_the_job_and_name_the_setting() -> None:
    assert finished(abuse.big_progress.enqueue(16_000)).state == "completed"
    job = finished(abuse.big_progress.enqueue(20_000))
    assert (job.state, job.error.type) == ("failed", "builtins.ValueError")
    assert "MAX_PROGRESS_DATA" in job.error.message


# ── the worker's log ──


def test_a_job_is_one_line_with_its_facts(worker: WorkerProcess) -> None:
    job = finished(jobs.add.using(queue="email").enqueue(1))
    line = worker.wait_log(job.id)
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d INFO    done      tests\.app\.jobs\.add {re.escape(job.id)} "
        r"attempt 1/3 waited \d+ ms ran \d+ ms",
        line,
    )


def test_retries_and_failures_say_why(worker: WorkerProcess) -> None:
    job = finished(jobs.fail.using(attempts=2, backoff=0.05).enqueue("no luck"))
    wait_for(lambda: worker.new_log.count(job.id) == 2)
    retry, failure = (line for line in worker.new_log.splitlines() if job.id in line)
    assert "WARNING retry " in retry
    assert retry.endswith("in 50 ms: ValueError: no luck")
    assert "ERROR   FAILED " in failure
    assert failure.endswith("attempt 2/2 waited " + failure.rpartition("waited ")[2])
    assert failure.endswith(": ValueError: no luck")


def test_a_failure_has_its_traceback_below(worker: WorkerProcess) -> None:
    job = finished(jobs.fail.using(attempts=2, backoff=0.05).enqueue("no luck"))
    worker.wait_log("FAILED ")
    wait_for(lambda: "    ValueError: no luck\n" in worker.new_log)
    below = worker.new_log.partition(f"FAILED    tests.app.jobs.fail {job.id}")[2].splitlines()[1:]
    assert below[0] == "    Traceback (most recent call last):"
    assert below[1].startswith('      File "')
    assert below[1].endswith(", in fail")
    assert below[below.index("    ValueError: no luck") :] == ["    ValueError: no luck"]
    assert worker.new_log.count("Traceback") == 1  # none for the retry


def test_nobody_can_forge_a_log_line(worker: WorkerProcess) -> None:
    job = finished(abuse.raise_it.enqueue("injection"))
    line = worker.wait_log(job.id)
    assert r"first\n12:00:00 ERROR    forged line\r\x1b[2Jgone\u2028end" in line
    assert "\x1b" not in worker.new_log
    wait_for(lambda: "    12:00:00 ERROR    forged line" in worker.new_log)  # in the traceback, indented
    assert not any(text.startswith("12:00:00 ERROR    forged") for text in worker.new_log.splitlines())


def test_every_record_of_a_jobs_code_has_its_id() -> None:
    logging = {
        "version": 1, "disable_existing_loggers": False,
        "formatters": {"f": {"format": "%(name)s <%(job_id)s> %(message)s"}},
        "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
        "root": {"handlers": ["h"], "level": "INFO"},
    }  # fmt: skip
    with WorkerProcess(
        "--processes", "1", "--queues", "other", KUE_TEST_LOGGING=json.dumps(logging)
    ) as other:
        first = finished(abuse.log_plainly.using(queue="other").enqueue("one"))
        others = all_finished([abuse.alog_plainly.using(queue="other").enqueue(f"a{n}") for n in range(5)])
        assert other.wait_log("says one") == f"tests.app <{first.id}> the project says one"
        for number, job in enumerate(others):
            assert other.wait_log(f"says a{number}") == f"tests.app <{job.id}> the project says a{number}"
        assert other.stop() == 0
        assert "<-> stopping" in other.log


# ── signals ──


def heard(name: str, count: int = 1) -> list[dict[str, Any]]:
    """What receivers of a signal were told, once ``count`` calls have come."""

    def found() -> list[dict[str, Any]] | None:
        said = [one for one in map(json.loads, marks("signals")) if one["signal"] == name]
        return said if len(said) >= count else None

    return wait_for(found, what=lambda: f"{count} × {name} in {marks('signals')}")


def quiet() -> list[str]:
    """The signals so far, when nothing more can come: another job has come through."""
    finished(jobs.leave.enqueue("quiet", 1))
    heard("job_completed")
    wait_for(
        lambda: any(
            json.loads(m)["sender"] == "tests.app.jobs.leave" and json.loads(m)["signal"] == "job_completed"
            for m in marks("signals")
        )
    )
    return [
        one["signal"] for one in map(json.loads, marks("signals")) if one["sender"] != "tests.app.jobs.leave"
    ]


def test_a_completed_job_is_told_with_its_result() -> None:
    job = finished(jobs.add.enqueue(40))
    [said] = heard("job_completed")
    assert said["job"] == job.id
    assert (said["state"], said["result"], said["attempts_made"]) == ("completed", 42, 1)
    assert said["names"] == ["result"]
    assert said["sender"] == "tests.app.jobs.add"
    assert said["is_original"]
    assert said["thread"].startswith("kue-")
    assert quiet() == ["job_started", "job_completed"]


@pytest.mark.parametrize("function", [jobs.nap, jobs.anap], ids=["sync", "async"])
def test_the_sender_is_the_original_function_for_using_too(function: Any) -> None:
    finished(function.using(priority=5, title="x").enqueue(0.0, "signalled"))
    for name in ("job_started", "job_completed"):
        [said] = heard(name)
        assert said["is_original"], name
        assert said["thread"].startswith("kue-")
        assert said["thread"] != "kue-loop"


def test_a_failed_attempt_is_told_with_its_exception_and_the_delay() -> None:
    job = finished(jobs.fail.using(attempts=2, backoff=0.05).enqueue("no luck"))
    [retrying] = heard("job_retrying")
    assert (retrying["job"], retrying["delay"], retrying["state"]) == (job.id, 0.05, "delayed")
    assert retrying["exception"] == "ValueError('no luck')"
    assert retrying["exc_info"] == "ValueError('no luck')"
    assert retrying["attempts_made"] == 1
    [failed] = heard("job_failed")
    assert (failed["state"], failed["attempts_made"], failed["names"]) == ("failed", 2, ["exception"])
    assert failed["exc_info"] == failed["exception"] == "ValueError('no luck')"
    told = ["job_failed", "job_promoted", "job_retrying", "job_started", "job_started"]
    assert sorted(quiet()) == told  # on two threads, so that their marks may overtake each other


def test_a_coroutines_failure_is_told_alike() -> None:
    finished(abuse.araise.using(attempts=1).enqueue())
    [failed] = heard("job_failed")
    assert failed["exc_info"] == "ValueError('no')"


def test_progress_is_told_with_its_data() -> None:
    job = finished(abuse.report_then.enqueue(0.3, 40, {"step": 4}))
    [said] = heard("job_progressed")
    assert (said["job"], said["progress"], said["data"]) == (job.id, 40, {"step": 4})


def test_a_promoted_job_is_told_where_it_happens() -> None:
    job = finished(jobs.noop.using(delay=0.1).enqueue())
    [said] = heard("job_promoted")
    assert said["job"] == job.id


def test_a_cancelled_run_is_told_once() -> None:
    job = jobs.until_cancelled.enqueue(10, "stop")
    wait_marks("stop")
    job.cancel()
    assert finished(job).state == "cancelled"
    [said] = heard("job_cancelled")
    assert (said["job"], said["state"], said["names"]) == (job.id, "cancelled", [])
    assert quiet().count("job_cancelled") == 1


def test_an_expired_job_is_told_as_cancelled() -> None:
    get_queue().pause()
    job = jobs.noop.using(expires=0.05).enqueue()
    over = time.monotonic() + 0.1
    wait_for(lambda: time.monotonic() > over)
    get_queue().resume()
    assert finished(job).state == "cancelled"
    [said] = heard("job_cancelled")
    assert (said["job"], said["state"]) == (job.id, "cancelled")


def test_a_job_whose_process_died_is_told_as_stalled_and_in_the_end_failed(worker: WorkerProcess) -> None:
    # Whoever tells of one death may die of the same job: what it has begun to tell isn't told a second time.
    job = finished(abuse.die.enqueue("kill", after=0.5), 20)
    stalled = heard("job_stalled", 2)
    assert {said["job"] for said in stalled} == {job.id}
    [failed] = heard("job_failed")
    assert (failed["job"], failed["state"]) == (job.id, "failed")
    assert "JobCrashed" in failed["exception"]
    assert len(heard("job_stalled")) == 2


def test_a_timeout_that_cost_the_process_is_told_as_any_failure() -> None:
    job = finished(jobs.stubborn.enqueue("stubborn"))
    [failed] = heard("job_failed")
    assert failed["job"] == job.id
    assert "JobTimeout" in failed["exception"]


def test_every_job_is_told_exactly_once() -> None:
    put = all_finished(jobs.noop.enqueue_many([(n,) for n in range(300)]))
    wait_for(lambda: len(marks("signals")) >= 600)
    said = [(one["signal"], one["job"]) for one in map(json.loads, marks("signals"))]
    assert len(said) == len(set(said)) == 600
    assert {job for name, job in said if name == "job_completed"} == {job.id for job in put}


@pytest.mark.parametrize("kind", ["bad", "fatal"])
def test_a_receiver_that_raises_is_logged_and_changes_nothing(kind: str) -> None:
    with WorkerProcess(
        "--processes", "1", "--threads", "2", "--queues", "other", KUE_TEST_RECEIVERS=kind
    ) as other:
        put = all_finished(jobs.add.using(queue="other").enqueue_many([(n,) for n in range(20)]))
        assert [job.result for job in put] == [n + 2 for n in range(20)]
        if kind == "bad":
            other.wait_log("hear_badly")
            other.wait_log("RuntimeError: this receiver is broken")
            heard("job_completed", 20)
        else:
            other.wait_log("SystemExit: this receiver wants out")
        assert finished(jobs.add.using(queue="other").enqueue(1)).result == 3
        assert counts("other") == {"completed": 21}


def test_each_process_is_told_that_it_starts_and_stops() -> None:
    with WorkerProcess("--processes", "2", "--queues", "other", KUE_TEST_RECEIVERS="1") as other:
        started = heard("worker_started", 2)
        assert len({said["worker"] for said in started}) == 1
        assert other.stop() == 0
        assert len(heard("worker_stopping", 2)) == 2
