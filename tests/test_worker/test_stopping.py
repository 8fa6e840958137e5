"""How a worker ends: on a signal, on an order, when there's nothing more to do; and its options."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_kue import get_queue
from django_kue.store import ask, reads
from tests.app import abuse, jobs
from tests.app.classified import loaded
from tests.test_faults import full_size
from tests.worker_process import (
    ROOT,
    WorkerProcess,
    all_finished,
    counts,
    finished,
    is_running,
    is_well,
    marks,
    wait_for,
    wait_marks,
)

FILE_BASED = "django.core.cache.backends.filebased.FileBasedCache"
SLACK = 0.5  # seconds, for a loaded machine


@contextmanager
def hangup(disposition: signal.Handlers) -> Iterator[None]:
    """What a process that starts within does on SIGHUP, whatever the tests themselves were started with."""
    before = signal.signal(signal.SIGHUP, disposition)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_running_jobs_finish_and_waiting_ones_stay(number: int) -> None:
    with hangup(signal.SIG_DFL), WorkerProcess("--processes", "1", "--threads", "1") as worker:
        worker.wait_started()
        arun = jobs.anap.enqueue(0.8, "arunning")
        wait_marks("arunning")
        job = jobs.nap.enqueue(0.8, "running")
        wait_marks("running")
        waiting = jobs.nap.enqueue(0.1, "waiting")
        worker.send(number)
        assert worker.wait() == 0
        assert (job.refresh().state, arun.refresh().state) == ("completed", "completed")
        assert waiting.refresh().state == "waiting"
        assert "stopping" in worker.log
        assert "stopped after 2 jobs" in worker.log
    assert is_well("default")


def test_a_hangup_that_nohup_has_it_ignore_stops_nothing() -> None:
    with hangup(signal.SIG_IGN), WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        for pid in (worker.pid, worker.child()):
            worker.send(signal.SIGHUP, pid)
        assert finished(jobs.add.enqueue(1)).result == 3
        assert "stopping" not in worker.log
        assert worker.stop() == 0


def test_a_signal_asks_where_its_jobs_are() -> None:
    with WorkerProcess("--processes", "2") as worker:
        worker.wait_started()
        jobs.nap.enqueue(3.0, "asked")
        wait_marks("asked")
        worker.send(signal.SIGUSR1)
        wait_for(
            lambda: worker.log.count("Current thread 0x") == 2 and " in nap" in worker.log,
            what=lambda: worker.log,
        )
        wait_marks("asked")
        assert worker.stop() == 0, "and they go on"


def test_an_idle_worker_ends_at_once_and_leaves_the_list_of_workers() -> None:
    with WorkerProcess("--processes", "2") as worker:
        worker.wait_started()
        wait_for(lambda: ask(reads.registry()).workers)
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 2.0
        assert ask(reads.registry()).workers == {}


def test_at_the_deadline_running_jobs_are_handed_back_at_the_front_with_no_attempt_used() -> None:
    with WorkerProcess("--processes", "1", "--threads", "2", "--shutdown-timeout", "1") as worker:
        worker.wait_started()
        long = [
            jobs.nap.enqueue(30, "long"),
            jobs.anap.enqueue(30, "long"),
            jobs.stubborn.using(timeout=None).enqueue("long"),
        ]
        wait_marks("long", 3)
        behind = jobs.noop.enqueue()
        children = worker.children()
        begun = time.monotonic()
        assert worker.stop() == 0
        assert 1.0 <= time.monotonic() - begun < 2.0 + SLACK
        assert not any(map(is_running, children))
        for job in long:
            job = job.refresh()
            assert (job.state, job.attempts_made, job.crashes) == ("waiting", 0, 0)
        assert [(run.attempt, run.outcome) for run in job.runs()] == [(1, "stopped")]
        first = [job.id for job in get_queue().jobs("waiting", newest_first=False)]
        assert first[-1] == behind.id
        assert {*first[:3]} == {job.id for job in long}
    assert is_well("default")


def test_a_second_signal_ends_it_at_once() -> None:
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        job = jobs.nap.enqueue(30, "long")
        wait_marks("long")
        worker.send(signal.SIGTERM)
        worker.wait_log("stopping")
        begun = time.monotonic()
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        assert time.monotonic() - begun < 2.0
        job = job.refresh()
        assert (job.state, job.attempts_made, job.crashes) == ("waiting", 0, 0)
        assert [(run.attempt, run.outcome) for run in job.runs()] == [(1, "stopped")]


def test_jobs_in_the_buffer_go_back_at_once() -> None:
    with WorkerProcess("--processes", "1", "--threads", "1", "--shutdown-timeout", "5") as worker:
        worker.wait_started()
        all_finished(jobs.noop.enqueue_many([() for _ in range(300)]))
        # the long one ends before what's behind it would go back by itself
        put = abuse.begun.enqueue_many([(0.2 if n == 3 else 0.002, "begun", n) for n in range(60)])
        wait_for(lambda: any(mark.startswith("3 ") for mark in marks("begun")))
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        done = sum(job.refresh().state == "completed" for job in put)
        assert 4 <= done < 30  # 4, unless the machine was too busy to tell the worker in time
        order = [job.id for job in get_queue().jobs("waiting", newest_first=False, limit=100)]
        assert order == [job.id for job in put[done:]]


def test_an_order_from_a_page_stops_it() -> None:
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        [name] = wait_for(lambda: list(ask(reads.registry()).workers))
        ask(reads.registry(order_to=name, order="stop"))
        assert worker.wait(5) == 0
        assert "asked to stop by an operator" in worker.log
        assert ask(reads.registry()).workers == {}


def test_the_list_of_workers_says_what_each_does() -> None:
    import json
    import os

    with WorkerProcess("--processes", "2", "--threads", "3", "--queues", "email,other") as worker:
        worker.wait_started()
        job = jobs.nap.using(queue="other").enqueue(3.0)
        wait_marks("nap")

        def portrait() -> dict | None:
            for text in ask(reads.registry()).workers.values():
                said = json.loads(text)
                if any(process["jobs"] for process in said["processes"]):
                    return said
            return None

        said = wait_for(portrait, 5)
        assert said["pid"] == worker.pid
        assert said["host"] == os.uname().nodename
        assert (said["queues"], said["threads"], said["state"]) == (["email", "other"], 3, "running")
        assert {process["pid"] for process in said["processes"]} == set(worker.children())
        assert [process["jobs"] for process in said["processes"] if process["jobs"]] == [[job.id]]


@pytest.mark.slow
def test_stops_at_any_moment_lose_nothing() -> None:
    """Workers one after the other, each told to stop at a random moment of its first second."""
    chosen = random.Random(11)
    rounds = full_size(20, 500)
    for round_ in range(rounds):
        jobs.leave.using(keep=7200).enqueue_many([("stops", f"{round_}-{n}") for n in range(100)])
        jobs.anap.using(queue="other", keep=7200).enqueue_many([(0.005, "astops") for _ in range(20)])
        with WorkerProcess("--processes", "2", "--threads", "2") as worker:
            until = time.monotonic() + chosen.uniform(0.3, 1.1)
            wait_for(lambda until=until: time.monotonic() > until)
            worker.send(signal.SIGTERM)  # Python itself can lose a SIGINT that comes while it imports
            assert worker.wait() in (0, -signal.SIGTERM)
            if "stopping" in worker.log:
                assert worker.wait() == 0, worker.log
            assert counts().get("active", 0) == 0
    with WorkerProcess("--burst") as worker:
        assert worker.wait(60 + rounds) == 0
    assert (counts(), counts("other")) == ({"completed": 100 * rounds}, {"completed": 20 * rounds})
    ran = Counter(marks("stops"))
    assert len(ran) == 100 * rounds
    assert max(ran.values()) == 1  # an orderly stop runs nothing twice
    assert is_well("default")
    assert is_well("other")


# ── options ──


def test_a_burst_ends_when_nothing_waits_and_leaves_delayed_jobs() -> None:
    put = jobs.noop.enqueue_many([() for _ in range(50)])
    put += jobs.anap.enqueue_many([(0.05,) for _ in range(10)])
    put.append(jobs.fail_twice.enqueue("burst"))
    later = jobs.noop.using(delay=60).enqueue()
    with WorkerProcess("--processes", "2", "--burst") as worker:
        assert worker.wait() == 0
    assert {job.refresh().state for job in put} == {"completed"}
    assert later.refresh().state == "delayed"
    assert counts() == {"completed": 61, "delayed": 1}


def test_a_burst_on_empty_queues_ends_at_once() -> None:
    with WorkerProcess("--burst") as worker:
        assert worker.wait(5) == 0


def test_a_burst_waits_for_a_queue_whose_rate_or_concurrency_is_used_up() -> None:
    put = [jobs.noop.using(queue="slow").enqueue() for _ in range(8)]
    put += [jobs.nap.using(queue="narrow").enqueue(0.2, "narrow") for _ in range(6)]
    with WorkerProcess("--processes", "1", "--burst") as worker:
        assert worker.wait() == 0
    assert {job.refresh().state for job in put} == {"completed"}


def test_a_burst_passes_a_paused_queue() -> None:
    get_queue("other").pause()
    job = jobs.noop.using(queue="other").enqueue()
    with WorkerProcess("--processes", "1", "--burst") as worker:
        assert worker.wait(5) == 0
    assert job.refresh().state == "waiting"


@pytest.mark.slow
def test_a_process_is_replaced_after_max_jobs() -> None:
    with WorkerProcess("--processes", "1", "--threads", "1", "--max-jobs", "3") as worker:
        all_finished([abuse.whoami.enqueue("pids") for _ in range(12)])
        runs = Counter(marks("pids"))
        assert len(runs) == 4
        assert set(runs.values()) == {3}
        assert "died" not in worker.log
        assert worker.stop() == 0


def test_a_process_is_replaced_when_it_has_grown_too_large() -> None:
    with WorkerProcess("--processes", "1", "--max-memory", "150") as worker:
        worker.wait_started()
        child = worker.child()
        neighbour = jobs.nap.enqueue(0.5, "neighbour")
        assert finished(abuse.grow.enqueue(120)).state == "completed"
        wait_for(lambda: not is_running(child), 5, "a new process")
        assert re.search(r"INFO .* uses \d+ MiB, over its limit of 150: .*is replaced", worker.log)
        [rest] = re.findall(r"is replaced once these are over: (.*)", worker.log)
        assert f"tests.app.jobs.nap {neighbour.id}" in rest
        assert finished(neighbour).attempts_made == 1
        assert marks("neighbour") == ["start", "end"]
        assert finished(jobs.add.enqueue(1)).result == 3


def test_a_limit_that_no_process_can_keep_is_told_and_forks_without_haste() -> None:
    with WorkerProcess("--processes", "1", "--max-memory", "5") as worker:
        wait_for(lambda: worker.log.count("over its limit of 5 before its first job") >= 3)
        rest_until = time.monotonic() + 2
        wait_for(lambda: time.monotonic() > rest_until)
        assert worker.log.count("before its first job") < 8, "ever longer pauses"


def test_it_serves_only_the_queues_that_it_is_told() -> None:
    elsewhere = jobs.noop.using(queue="other").enqueue()
    with WorkerProcess("--processes", "1", "--queues", "email, default") as worker:
        finished(jobs.noop.enqueue())
        finished(jobs.noop.using(queue="email").enqueue())
        assert worker.stop() == 0
    assert elsewhere.refresh().state == "waiting"


def test_an_unknown_queue_is_an_error_that_names_the_declared_ones() -> None:
    with pytest.raises(
        CommandError, match=r"emial.*Did you mean 'email'.*default, email, other, narrow, slow"
    ) as raised:
        call_command("runworker", "--queues", "emial")
    assert raised.value.returncode == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--processes", "0"),
        ("--threads", "0"),
        ("--max-jobs", "0"),
        ("--max-memory", "0"),
        ("--shutdown-timeout", "-1"),
    ],
)
def test_a_number_that_makes_no_sense_is_an_error(option: str, value: str) -> None:
    with pytest.raises(CommandError, match=f"{option} is at least") as raised:
        call_command("runworker", option, value)
    assert raised.value.returncode == 2, "as where argparse finds it: no service manager need try again"


def test_a_worker_that_the_system_checks_object_to_does_not_start() -> None:
    with WorkerProcess(KUE_TEST_LEASE="-1") as worker:
        assert worker.wait() == 1
        assert worker.log.startswith("SystemCheckError")
        assert worker.log.count('KUE["LEASE"]') == 1


def test_of_what_the_system_checks_load_a_worker_keeps_the_urls() -> None:
    with WorkerProcess("--processes", "1"):
        names = ["django.db.migrations.autodetector", "tests.urls"]
        assert finished(loaded.enqueue(names)).result == ["tests.urls"]


def test_a_warning_of_the_system_checks_is_written_once_and_the_worker_starts(
    settings: Any, tmp_path: Path
) -> None:
    caches = settings.CACHES | {"files": {"BACKEND": FILE_BASED, "LOCATION": "not/absolute"}}
    factory = "django_redis.pool.ConnectionFactory"
    with WorkerProcess(
        "--processes", "1", folder=tmp_path,
        KUE_TEST_CACHES=json.dumps(caches), KUE_TEST_CONNECTION_FACTORY=factory,
    ) as worker:  # fmt: skip
        worker.wait_started()
        assert worker.log.count("(caches.W003)") == 1


def test_a_liveness_file_that_can_not_be_touched_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="can't be touched: .*a folder that exists"):
        call_command("runworker", "--liveness-file", str(tmp_path / "absent" / "alive"))


@pytest.mark.slow
def test_the_liveness_file_is_touched_while_it_is_well(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    with WorkerProcess("--processes", "1", "--liveness-file", str(path)) as worker:
        wait_for(path.exists)
        seen = path.stat().st_mtime
        wait_for(lambda: path.stat().st_mtime > seen, 3, "a touch")
        for pid in (worker.pid, *worker.children()):
            worker.send(signal.SIGSTOP, pid)
        seen = path.stat().st_mtime
        until = time.monotonic() + 2.5
        wait_for(lambda: time.monotonic() > until)
        assert path.stat().st_mtime == seen


@pytest.mark.slow
def test_reload_restarts_the_worker_when_code_changes(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tests", project / "tests", ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    with WorkerProcess("--processes", "1", "--reload", folder=project) as worker:
        first = finished(abuse.who_am_i.enqueue(), 20).worker
        changed = project / "tests" / "app" / "jobs.py"
        worker.bookmark()
        changed.write_text(changed.read_text() + "\n\n@job\ndef fresh() -> str:\n    return 'fresh'\n")
        worker.wait_log("stopped after", 10)
        second = finished(abuse.who_am_i.enqueue(), 20).worker
        assert first.split("/")[0] != second.split("/")[0]
        worker.send(signal.SIGTERM)
        worker.wait(10)
    wait_for(lambda: not _mentions(str(project)), 5, "the end of all of it")


def _mentions(text: str) -> bool:
    listing = subprocess.run(["ps", "-A", "-E", "-o", "args="], capture_output=True, text=True, check=False)
    return text in listing.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_a_worker_that_is_process_1_works_as_in_a_container() -> None:
    probe = subprocess.run(["unshare", "-pf", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("namespaces aren't allowed here")
    with (
        WorkerProcess("--processes", "1", wrap="unshare -pf --kill-child --mount-proc") as first,
        WorkerProcess("--processes", "1", wrap="unshare -pf --kill-child --mount-proc") as second,
    ):
        names = wait_for(lambda: found if len(found := ask(reads.registry()).workers) == 2 else None, 20)
        assert len(names) == 2
        assert {name.split(":")[1] for name in names} == {"1"}
        put = jobs.nap.enqueue_many([(0.02,) for _ in range(40)])
        assert {job.state for job in all_finished(put)} == {"completed"}
        assert "died" not in first.log + second.log
        left = finished(abuse.leave_child.enqueue("child"))
        assert left.state == "completed"
