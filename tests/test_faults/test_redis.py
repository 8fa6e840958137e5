"""Redis fails: its power, its disk, its network, its password. What it acknowledged is kept, or is it not?"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from django_kue import EnqueueError, Job, get_queue
from django_kue.audit import audit
from django_kue.scripts import load
from tests.app import abuse, jobs
from tests.own_server import OwnServer, lines, persistently, rest
from tests.proxy import Proxy
from tests.test_engine.hands import Hands, completed, failed, put, retried
from tests.test_engine.test_sentinel import Watched
from tests.test_faults import full_size, tell
from tests.test_faults.load import Load
from tests.worker_process import (
    WorkerProcess,
    all_finished,
    broke,
    counts,
    finished,
    is_well,
    marks,
    wait_for,
    wait_marks,
)

SLACK = 1.0  # seconds, for a loaded machine


# ── its power and its disk ──


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_power_cut_costs_nothing_with_fsync_always_and_two_seconds_at_most_with_everysec(
    server: OwnServer, preload: str, fsync: str
) -> None:
    """The server is killed, and its file cut back to what was synced last: a kill alone loses nothing."""
    server.start("--appendfsync", fsync, environment={"LD_PRELOAD": preload, "KUE_TEST_SYNCED": "1"})
    stored: list[tuple[str, float]] = []

    def enqueue(number: int) -> None:
        for job in jobs.noop.enqueue_many([(number,)] * 10):
            stored.append((job.key, time.monotonic()))

    with Load(enqueue, each=0) as load:
        file = server.append_only_file()
        synced = Path(f"{file}.synced")
        for _ in range(full_size(1, 10)):
            seen = synced.read_text() if synced.exists() else ""
            wait_for(lambda seen=seen: synced.exists() and synced.read_text() != seen, 10, "a sync")
            rest(0.5)
        load.expect_error = True
        server.kill()
        cut_at = time.monotonic()
    size = int(synced.read_text())
    written = file.stat().st_size
    os.truncate(file, size)
    server.start()
    kept = {job.key for job in all_waiting()}
    lost = [at for key, at in stored if key not in kept]
    tell(f"{fsync}: {len(lost)} of {len(stored)} acknowledged jobs are lost, {written - size} bytes were cut")
    if fsync == "always":
        assert lost == []
    else:
        assert lost  # else nothing was tried
        assert cut_at - min(lost) < 2.0 + SLACK
    assert audit("default") == []


def all_waiting() -> list[Job]:
    found: list[Job] = []
    while page := get_queue().jobs("waiting", offset=len(found), limit=1000, newest_first=False):
        found += page
    return found


def test_a_file_whose_end_is_missing_leaves_no_job_half_moved(server: OwnServer) -> None:
    """Each move is one script, which Redis writes as a whole and reads as a whole."""
    server.start()
    hands = Hands()
    chosen = random.Random(3)
    put(count=40, search=("x" * 22,))
    put(count=10, delay=60_000)
    for _ in range(25):
        put(unique=f"{chosen.random():.16f}".ljust(22, "_"))
        keys = hands.take(3)
        outcomes = [completed("done"), failed(), retried(), retried(60_000), b"b"]
        hands.turn(0, {key: chosen.choice(outcomes) for key in keys[:2]})
    server.kill()
    file = server.append_only_file()
    whole = file.read_bytes()
    found = {}
    for cut in chosen.sample(range(1, 501), full_size(12, 500)):
        file.write_bytes(whole[:-cut])
        server.start()
        found[cut] = audit("default")
        server.kill()
    assert {cut: wrong for cut, wrong in found.items() if wrong} == {}


# ── it stands still ──


def test_a_worker_says_at_its_start_that_redis_may_throw_jobs_away(server: OwnServer) -> None:
    server.start("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with WorkerProcess("--processes", "1") as worker:
        line = worker.wait_log("maxmemory-policy must be noeviction")
        assert "ERROR" in line
        assert "redis.conf" in line
        assert finished(jobs.add.enqueue(1)).result == 3
        assert worker.stop() == 0


def test_after_a_redis_that_stood_still_the_first_job_runs_within_two_seconds(
    server: OwnServer, settings: Any
) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 0.5}
    server.start()
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        finished(jobs.noop.enqueue())
        server.freeze()
        begun = time.monotonic()
        with pytest.raises(EnqueueError):
            jobs.noop.enqueue()
        assert time.monotonic() - begun < 0.5 + SLACK
        rest(full_size(8, 10))
        server.thaw()
        begun = time.monotonic()
        job = finished(persistently(lambda: jobs.add.enqueue(1)))
        took = time.monotonic() - begun
        tell(f"the first job was done {took:.2f} s after Redis went on")
        assert job.result == 3
        assert took < 2.0
        assert "died" not in worker.log


# ── its network ──


@pytest.fixture
def proxied(server: OwnServer) -> Any:
    """A worker's way to Redis that can be spoilt; this process has its own."""
    server.start()
    with Proxy(server.port) as proxy:
        yield proxy


KINDS = ("turn", "report", "sync", "beat", "rescue", "workers", "measure", "bury")


def test_a_reply_cut_after_any_command_of_a_worker_doubles_and_loses_nothing(
    proxied: Proxy, notes: Path
) -> None:
    proxied.cut_reply_to(load("registry").digest)  # its first
    with WorkerProcess(
        "--processes", "1", "--threads", "2", KUE_TEST_REDIS=proxied.url, KUE_TEST_LEASE="1"
    ) as worker:
        worker.wait_started()
        finished(jobs.noop.enqueue())
        assert not proxied.is_pending
        wanted: Counter[str] = Counter()
        for kind in KINDS:
            put_now = [abuse.anote.enqueue(str(notes), f"{kind} long", 0.7)]
            wait_for(lambda kind=kind: f"{kind} long" in lines(notes))
            proxied.cut_reply_to(load(kind).digest)
            put_now += abuse.note.enqueue_many([(str(notes), f"{kind} {n}", 0.01) for n in range(10)])
            put_now.append(abuse.note_twice.enqueue(str(notes), f"{kind} twice"))
            if kind == "sync":
                proxied.cut_all()
            if kind == "bury":
                worker.kill_child()
            wait_for(lambda: not proxied.is_pending, 10, f"a call of {kind}")
            assert {job.state for job in all_finished(put_now, 20)} == {"completed"}
            wanted.update([f"{kind} long", *(f"{kind} {n}" for n in range(10))])
            wanted.update([f"{kind} twice"] * 2)
        ran = Counter(lines(notes))
        assert not wanted - ran  # nothing is lost
        again = ran - wanted
        assert {line.split()[0] for line in again} <= {"bury"}, again  # that's where a process died
        assert counts() == {"completed": 1 + 12 * len(KINDS)}
        assert worker.log.count("ERROR   process ") == 1
        assert worker.stop() == 0
    assert is_well("default")


def test_a_connection_that_swallows_everything_is_left_within_seconds(proxied: Proxy) -> None:
    """As when a firewall forgets it, or the other machine is gone: nobody closes it, nothing comes."""
    with WorkerProcess("--processes", "1", KUE_TEST_REDIS=proxied.url) as worker:
        worker.wait_started()
        finished(jobs.noop.enqueue())
        rest(3.0)  # until it has nothing more to tell, and only waits
        proxied.swallow()
        begun = time.monotonic()
        job = finished(jobs.add.enqueue(1), 40)
        tell(f"an idle worker's swallowed connections were left after {time.monotonic() - begun:.1f} s")
        assert job.result == 3
        assert time.monotonic() - begun < 8 + SLACK


@pytest.mark.parametrize(("split", "delay"), [(1, 0.0), (None, 0.2)], ids=["single bytes", "200 ms"])
def test_a_slow_network_and_replies_in_single_bytes_change_nothing(
    proxied: Proxy, notes: Path, settings: Any, split: int | None, delay: float
) -> None:
    direct = settings.CACHES
    with WorkerProcess("--processes", "1", KUE_TEST_REDIS=proxied.url) as worker:
        worker.wait_started()
        proxied.split, proxied.delay = split, delay
        settings.CACHES = {"default": {**direct["default"], "LOCATION": proxied.url}}
        put_now = abuse.note.enqueue_many([(str(notes), n, 0.0) for n in range(50)])
        put_now.append(jobs.add.enqueue(1))
        settings.CACHES = direct
        assert {job.state for job in all_finished(put_now, 20)} == {"completed"}
        assert put_now[-1].refresh().result == 3
        assert Counter(lines(notes)) == Counter(map(str, range(50)))
        proxied.delay = 0.0
        assert "ERROR" not in worker.log
        assert worker.stop() == 0
    assert is_well("default")


# ── who may come in ──


def test_a_redis_with_no_room_for_clients_is_waited_for(server: OwnServer, settings: Any) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 1}
    server.start()
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        finished(jobs.noop.enqueue())
        client = server.client
        client.config_set("maxclients", 1)
        drop_others(client)
        with pytest.raises(EnqueueError, match="max number of clients"):
            jobs.noop.enqueue()
        worker.wait_log("Redis is unavailable")
        client.config_set("maxclients", 1000)
        assert finished(persistently(lambda: jobs.add.enqueue(1)), 15).result == 3
        assert "died" not in worker.log
        assert not broke(worker.log)
        assert worker.stop() == 0


def test_a_password_that_was_changed_is_waited_for_until_it_is_good_again(
    server: OwnServer, settings: Any
) -> None:
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 1}
    server.start()
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        finished(jobs.noop.enqueue())
        client = server.client
        client.config_set("requirepass", "new")
        drop_others(client)
        with pytest.raises(EnqueueError, match="is the password that"):
            jobs.noop.enqueue()
        worker.wait_log("is the password that")  # the reason, not only that the connection ended
        client.config_set("requirepass", "")
        assert finished(persistently(lambda: jobs.add.enqueue(1)), 15).result == 3
        assert "died" not in worker.log
        assert not broke(worker.log)
        assert worker.stop() == 0


def drop_others(client: Any) -> None:
    """Close all connections but this one."""
    client.client_kill_filter(_type="normal", skipme=True)


# ── its clock and everybody's ──


def test_workers_whose_clocks_are_five_minutes_wrong_keep_their_leases_and_delays(preload: str) -> None:
    """Leases and delays go by Redis's clock."""

    def skewed(queue: str, ahead: int) -> WorkerProcess:
        return WorkerProcess(
            "--processes", "1", "--queues", queue,
            LD_PRELOAD=preload, KUE_TEST_CLOCK=str(ahead), KUE_TEST_LEASE="1",
        )  # fmt: skip

    with skewed("default,email", 300) as fast, skewed("other,email", -300) as slow:
        fast.wait_started()
        slow.wait_started()
        put_now = {}
        for queue, ahead in (("default", 300), ("other", -300)):
            stamp = finished(jobs.stamp.using(queue=queue).enqueue()).result
            assert abs(stamp - time.time() - ahead) < 5  # its clock is really wrong
            put_now[queue] = (
                jobs.add.using(queue=queue, delay=0.5).enqueue(1),
                jobs.nap.using(queue=queue).enqueue(2.5, queue),
            )
        for queue, (delayed, long) in put_now.items():
            delayed, long = finished(delayed), finished(long)
            assert 0 <= (delayed.started_at - delayed.created_at).total_seconds() - 0.5 < SLACK
            assert (long.state, long.attempts_made) == ("completed", 1)
            assert (long.finished_at - long.started_at).total_seconds() == pytest.approx(2.5, abs=0.5)
            assert marks(queue) == ["start", "end"]
        assert "taken back" not in fast.log + slow.log
        lost = jobs.nap.using(queue="email").enqueue(1.0, "lost")
        wait_marks("lost")
        dying = fast if lost.refresh().worker.split("/")[0] in fast.log else slow
        dying.kill_all()
        begun = time.monotonic()
        wait_marks("lost", 2)
        assert time.monotonic() - begun < 1.5 + SLACK
        assert finished(lost).state == "completed"


# ── another one takes over ──


@pytest.fixture
def watched(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentinel: Watched) -> Watched:
    """As ``sentinel``, for workers too."""
    settings.KUE = {**settings.KUE, "ENQUEUE_TIMEOUT": 1}
    monkeypatch.setenv("KUE_TEST_CACHES", json.dumps(settings.CACHES))
    monkeypatch.setenv("KUE_TEST_CONNECTION_FACTORY", settings.DJANGO_REDIS_CONNECTION_FACTORY)
    return sentinel


FAILOVERS = ("killed", "frozen, min-replicas-to-write 1", "frozen")


@pytest.mark.parametrize("how", FAILOVERS[: full_size(2, 3)])
def test_after_a_failover_jobs_are_taken_and_run_again_within_five_seconds(
    watched: Watched, notes: Path, how: str
) -> None:
    """What a replica hadn't got is lost. A master that was frozen goes on acknowledging until it's told
    that it's none any more; with min-replicas-to-write it refuses instead."""
    stored: list[int] = []

    def enqueue(number: int) -> None:
        with suppress(EnqueueError):
            abuse.note.enqueue(str(notes), number)
            stored.append(number)

    master = watched.processes[0]
    if "min-replicas" in how:
        client = Redis(port=watched.master)
        client.config_set("min-replicas-max-lag", 1)
        client.config_set("min-replicas-to-write", 1)
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        with Load(enqueue, each=0.002) as load:
            wait_for(lambda: len(lines(notes)) >= 200)
            before = load.count
            master.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
            begun = time.monotonic()
            wait_for(lambda: any(int(line) > before + 5 for line in lines(notes)[-50:]), 20, "a job's run")
            gap = time.monotonic() - begun
            master.send_signal(signal.SIGCONT)
            rest(1.0)
        wait_for(lambda: not counts().get("waiting") and not counts().get("active"), 20)
        ran = Counter(map(int, lines(notes)))
        lost = [number for number in stored if number not in ran]
        again = sum(ran.values()) - len(ran)
        tell(f"{how}: a gap of {gap:.1f} s; {len(lost)} of {len(stored)} jobs are lost, {again} ran twice")
        assert gap < 5.0 + SLACK
        if how != "frozen":
            assert len(lost) <= 10  # what was on its way to the replica
        assert worker.stop() == 0


def test_an_idle_worker_too_leaves_a_frozen_master_within_five_seconds(watched: Watched) -> None:
    """It waits for nothing but a bell, and a bell that doesn't ring tells nothing."""
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        finished(jobs.add.enqueue(1))
        rest(5.5)  # a new pop has just begun
        watched.processes[0].send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        finished(wait_for(_enqueued, 20, "an enqueue"), 20)
        gap = time.monotonic() - begun
        watched.processes[0].send_signal(signal.SIGCONT)
        tell(f"idle: a gap of {gap:.1f} s")
        assert gap < 5.0 + SLACK


def _enqueued() -> Job | None:
    """A job; nothing while Redis is away."""
    with suppress(EnqueueError):
        return jobs.add.enqueue(1)
    return None
