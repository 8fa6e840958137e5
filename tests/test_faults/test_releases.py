"""Two releases of an app side by side: nothing is lost, and what one can't run the other does, soon."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from django_kue.conf import settings
from django_kue.jobs import Job
from tests.app import jobs
from tests.conftest import redis_client
from tests.test_faults import full_size, percentile, tell
from tests.test_faults.load import Load
from tests.test_faults.releases import Release, put, put_record
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    counts,
    finished,
    in_state,
    is_well,
    marks,
    wait_for,
)

OLD = """
@job
def greet(who):
    mark("ran", f"{RELEASE} greets {who}")
"""


@pytest.fixture
def old(tmp_path: Path) -> Release:
    return Release(tmp_path, "old", OLD)


def test_a_job_that_one_release_does_not_know_is_soon_run_by_the_one_that_does(
    tmp_path: Path, old: Release
) -> None:
    new = Release(tmp_path, "new", OLD + OLD.replace("greet", "thank"))
    with old.worker() as first, old.worker() as second, new.worker() as third:
        for worker in (first, second, third):
            worker.wait_started()
        took = []
        for n in range(5):
            begun = time.monotonic()
            job = finished(put("shop.jobs.thank", n), 5)
            took.append(time.monotonic() - begun)
            assert (job.state, job.attempts_made, job.runs()) == ("completed", 1, [])
        assert max(took) < 2, took  # 0.15 s on an idle machine
        assert marks("ran") == [f"new thanks {n}" for n in range(5)]
    assert is_well("default")


def test_jobs_that_no_release_at_work_knows_hold_up_no_others_and_cost_ever_less(old: Release) -> None:
    with old.worker() as worker:
        worker.wait_started()
        unknown = [put("shop.jobs.thank", n) for n in range(200)]
        for n in range(20):
            assert finished(put("shop.jobs.greet", n), 2).state == "completed"
        wait_for(lambda: all(int(times_parked(job)) >= 9 for job in unknown), 20)
        spent, calls = worker.cpu_seconds(), commands()
        until = time.monotonic() + 2
        wait_for(lambda: time.monotonic() > until)
        assert worker.cpu_seconds() - spent < 0.5
        assert commands() - calls < 3 * 200  # each is looked at once or twice
        wait_for(lambda: counts()["delayed"] == 200, 5, lambda: str(counts()))  # not in the midst of a look
        assert worker.stop() == 0
    assert is_well("default")


def times_parked(job: Job) -> int:
    head = redis_client().hget(f"{settings.PREFIX}:{{default}}:d", job.key).split(b"|")[0].decode()
    return int({token[0]: token[1:] for token in head.split(",") if token}.get("n", 0))


def commands() -> int:
    return sum(
        stats["calls"] for name, stats in redis_client().info("commandstats").items() if "evalsha" in name
    )


def test_payloads_of_the_first_release_are_still_run() -> None:
    """The records that 0.1 wrote, byte for byte: a newer release reads them as it did."""
    name = "tests.app.jobs.leave"
    old = [
        put_record(f'|{name}|["v1","plain"]'),
        put_record(f'|{name}|{{"a":["v1"],"k":{{"value":"by name"}}}}'),
        put_record(f'p10|{name}|["v1","urgent"]', priority=10),
        put_record(f'o28|{name}|{{"attempts":3,"timeout":20}} ["v1","options"]'),
        put_record(f'm1,d1700000000000|{name}|["v1","tried once"]'),
        put_record(f'q0|{name}|["v1","not kept"]'),
        put_record(f'|{name}|["v1",{{"$decimal":"1.50"}}]'),
    ]
    with WorkerProcess("--processes", "1", "--burst") as worker:
        assert worker.wait() == 0
    assert Counter(marks("v1")) == Counter(
        ["plain", "by name", "urgent", "options", "tried once", "not kept", "1.50"]
    )
    assert counts() == {"completed": len(old)}


def test_a_payload_of_a_newer_release_is_left_alone_and_blocks_nobody() -> None:
    """An older worker puts it aside unread; what stands in it stays as it was, byte for byte."""
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        newer = [put_record(f"v2|tests.app.jobs.leave|whatever release 2 writes {n}") for n in range(50)]
        put_beside = jobs.leave.enqueue_many([("v2", n) for n in range(50)])
        assert {job.state for job in all_finished(put_beside)} == {"completed"}
        for n, job in enumerate(newer):
            job = in_state(job, "delayed")
            assert (job.attempts_made, job.is_parked) == (0, True)
            record = redis_client().hget(f"{settings.PREFIX}:{{default}}:d", job.key)
            assert record.endswith(b"|tests.app.jobs.leave|whatever release 2 writes %d" % n)
        assert "ERROR" not in worker.log
        assert worker.stop() == 0
    assert is_well("default")


def test_a_job_renamed_with_an_alias_runs_under_both_names(tmp_path: Path, old: Release) -> None:
    new = Release(
        tmp_path,
        "new",
        """
        @job(name="shop.jobs.welcome", aliases=["shop.jobs.greet"])
        def welcome(who):
            mark("ran", f"{RELEASE} welcomes {who}")
        """,
    )
    with new.worker() as worker:
        worker.wait_started()
        assert finished(put("shop.jobs.greet", "Ada")).state == "completed"
        assert finished(put("shop.jobs.welcome", "Bob")).state == "completed"
        assert marks("ran") == ["new welcomes Ada", "new welcomes Bob"]
        with old.worker() as other:
            other.wait_started()
            for n in range(5):  # its old name is known to both, its new one to the new
                assert finished(put("shop.jobs.greet", n), 5).state == "completed"
                assert finished(put("shop.jobs.welcome", n), 5).state == "completed"
    assert len(marks("ran")) == 12


def test_a_job_renamed_without_an_alias_waits_and_is_told_how_to_go_on(tmp_path: Path) -> None:
    new = Release(tmp_path, "new", OLD.replace("greet", "welcome"))
    with new.worker() as worker:
        worker.wait_started()
        job = in_state(put("shop.jobs.greet", "Ada"), "delayed")
        assert (job.is_parked, job.attempts_made) == (True, 0)
        assert "aliases=" in worker.wait_log("unknown job shop.jobs.greet")


CHANGED = """
@job(attempts=2)
def greet(who, *, tone="friendly"):
    mark("ran", f"{who} {tone}")

@job
def thank(who, what):
    mark("ran", f"{who} {what}")

@job
async def athank(who, what):
    mark("ran", f"{who} {what}")

@job
def inside(who):
    int(None)
"""


def test_a_new_parameter_with_a_default_and_old_payloads_get_on(tmp_path: Path) -> None:
    with Release(tmp_path, "new", CHANGED).worker() as worker:
        worker.wait_started()
        assert finished(put("shop.jobs.greet", "Ada")).state == "completed"
        assert finished(put("shop.jobs.greet", "Ada", tone="formal")).state == "completed"
    assert marks("ran") == ["Ada friendly", "Ada formal"]


def test_arguments_for_another_signature_fail_and_the_error_names_the_remedy(tmp_path: Path) -> None:
    with Release(tmp_path, "new", CHANGED).worker() as worker:
        worker.wait_started()
        removed = finished(put("shop.jobs.greet", "Ada", copy_to="me"))
        missing = finished(put("shop.jobs.thank", "Ada"))
        amissing = finished(put("shop.jobs.athank", "Ada"))
        elsewhere = finished(put("shop.jobs.inside", "Ada"))
    assert (removed.state, removed.attempts_made, removed.error.type) == ("failed", 2, "builtins.TypeError")
    assert "unexpected keyword argument 'copy_to'" in removed.error.message
    for job in (missing, amissing):
        assert (job.state, job.attempts_made) == ("failed", 1)
        assert "missing 1 required positional argument: 'what'" in job.error.message
    for job in (removed, missing, amissing):
        assert "enqueued for another version of the function" in job.error.message
        assert "Give new parameters a default" in job.error.message
    assert "another version" not in elsewhere.error.message  # a TypeError of the job's own code
    assert marks("ran") == []


def test_a_rolling_restart_under_load_loses_nothing_and_delays_little(tmp_path: Path, old: Release) -> None:
    """Two workers are replaced one after the other, again and again, while jobs keep coming."""
    text = """
    import time

    @job
    def timed(number, at):
        now = time.time()
        mark("timed", f"{number} {now - at:.4f}")
        time.sleep(0.01)
    """
    releases = [Release(tmp_path, f"release-{n}", text) for n in range(full_size(3, 10))]
    workers = [releases[0].worker().start().wait_started() for _ in range(2)]
    load = Load(lambda number: put("shop.jobs.timed", number, time.time()), each=0.01)
    try:
        with load:
            for release in releases[1:]:
                for place in range(2):
                    assert workers[place].stop() == 0
                    workers[place].end()
                    workers[place] = release.worker().start().wait_started()
        assert load.count >= 100
        wait_for(lambda: counts().keys() == {"completed"}, 20, lambda: str(counts()))
        for worker in workers:
            assert worker.stop() == 0
    finally:
        for worker in workers:
            worker.end()
    ran = [line.split() for line in marks("timed")]
    assert Counter(int(number) for number, _ in ran) == Counter(range(load.count))  # each once
    latencies = [float(latency) for _, latency in ran]
    tell(f"{load.count} jobs, p50 {percentile(latencies, 50):.4f} s, p99 {percentile(latencies, 99):.4f} s")
    assert percentile(latencies, 99) < 3.0  # a lease is 10 s
    assert is_well("default")
