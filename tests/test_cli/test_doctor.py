"""``kue doctor``: what it finds, and what it advises."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.test import override_settings

from django_kue import get_queue, job, registry, schedules
from django_kue.doctor import Finding, Level, examine, queues
from django_kue.doctor import server as server_doctor
from tests import acl
from tests.app.jobs import noop
from tests.conftest import NOBODY, free_port, redis_client, start_redis
from tests.test_cli.hands import ended, enqueued, kue
from tests.test_cli.test_workers import announce
from tests.test_engine.hands import Hands, failed, parked

pytestmark = pytest.mark.django_db  # it looks into the outboxes, too

EVERYTHING = ["default", "email", "other", "narrow", "slow"]


def found(code: str) -> Finding:
    """The only finding with this code."""
    [finding] = [finding for finding in examine() if finding.code == code]
    return finding


def codes(level: Level) -> list[str]:
    return [finding.code for finding in examine() if finding.level is level]


@pytest.fixture
def served() -> None:
    announce("w1", queues=EVERYTHING)


@pytest.fixture
def persistent() -> None:
    redis_client().config_set("appendonly", "yes")
    yield
    redis_client().config_set("appendonly", "no")


@pytest.mark.usefixtures("served", "persistent")
def test_when_all_is_well_it_says_so_and_ends_with_0() -> None:
    enqueued()
    said = kue("doctor")
    assert said.lines[-1] == "All is well."
    assert said.code == 0
    assert "✓ 5 queues with 1 unfinished job, none of them in trouble." in said.lines
    assert codes(Level.ERROR) == codes(Level.WARNING) == []


def test_a_wrong_setting_is_the_only_finding() -> None:
    with override_settings(KUE={"LEASE": 0}):
        [finding] = examine()
        said = kue("doctor")
    assert finding.code == "django_kue.E001"
    assert finding.remedy == "Write for example 10."
    assert said.code == 1
    assert said.lines[-1] == "1 error."


def test_redis_away_is_an_error_and_ends_the_visit() -> None:
    with override_settings(KUE={"REDIS": NOBODY}):
        findings = examine()
        said = kue("doctor")
    assert findings[-1].code == "redis.unreachable"
    assert findings[-1].level is Level.ERROR
    assert 'does KUE["REDIS"] name the right one?' in findings[-1].remedy
    assert said.code == 1


def test_persistence_is_looked_at(persistent: None) -> None:
    assert found("django_kue.I001").level is Level.INFO
    client = redis_client()
    client.config_set("appendfsync", "always")
    assert "django_kue.I001" not in codes(Level.INFO)
    client.config_set("appendfsync", "no")
    assert found("redis.fsync").level is Level.WARNING
    client.config_set("appendfsync", "everysec")
    client.config_set("appendonly", "no")
    assert found("django_kue.W003").remedy.startswith("Write `appendonly yes`")


def test_an_eviction_policy_that_drops_jobs_is_an_error_and_so_is_full_memory() -> None:
    client = redis_client()
    used = int(client.info("memory")["used_memory"])
    try:
        client.config_set("maxmemory", used * 10)
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert found("django_kue.E005").level is Level.ERROR
        assert found("redis.memory").level is Level.OK
        client.config_set("maxmemory-policy", "noeviction")
        assert "django_kue.E005" not in codes(Level.ERROR)
        client.config_set("maxmemory", int(used * 1.25))
        assert found("redis.memory").level is Level.WARNING
        client.config_set("maxmemory", int(used * 1.05))
        assert found("redis.memory").level is Level.ERROR
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(
    ("info", "code"),
    [
        ({"role": "slave"}, "redis.replica"),
        ({"rdb_last_bgsave_status": "err"}, "redis.disk"),
        ({"aof_last_write_status": "err"}, "redis.disk"),
    ],
)
def test_a_redis_that_refuses_writes_is_an_error(
    info: dict[str, str], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = server_doctor.server_info()
    monkeypatch.setattr(server_doctor, "server_info", lambda: real | info)
    assert found(code).level is Level.ERROR


def test_a_real_replica_is_told(tmp_path: Path) -> None:
    port = free_port()
    process = start_redis(
        port, str(tmp_path), "--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "yes"
    )
    try:
        with override_settings(KUE={"REDIS": f"redis://127.0.0.1:{port}/0"}):
            assert "redis.replica" in codes(Level.ERROR)
    finally:
        process.terminate()
        process.wait(10)


def test_a_clock_that_differs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("redis.clock").level is Level.OK
    real = time.time
    monkeypatch.setattr(server_doctor.time, "time", lambda: real() + 90)
    finding = found("redis.clock")
    assert finding.level is Level.WARNING
    assert finding.what.startswith("This host's clock is 90 s ahead of Redis's.")


def test_a_server_that_may_not_be_asked_for_its_configuration_is_no_trouble() -> None:
    client = redis_client()
    client.acl_setuser("plain", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"],
                       commands=["+@all", "-config"])  # fmt: skip
    where = client.connection_pool.connection_kwargs
    try:
        with override_settings(KUE={"REDIS": f"redis://plain:pw@{where['host']}:{where['port']}/0"}):
            assert "redis.unreachable" not in codes(Level.ERROR)
    finally:
        client.acl_deluser("plain")


@pytest.fixture
def come_as() -> Iterator[Callable[[str], None]]:
    """Makes the doctor come to Redis as a user of the documentation."""
    client, ways = redis_client(), ExitStack()

    def come(user: str, *rules: str) -> None:
        url = acl.let_in(client, user, os.environ["KUE_TEST_REDIS"])
        client.execute_command("ACL", "SETUSER", user, *rules)
        ways.enter_context(override_settings(KUE={"REDIS": url, "QUEUES": {name: {} for name in EVERYTHING}}))

    with ways:
        yield come
    client.acl_deluser(*acl.users())


@pytest.mark.usefixtures("served", "persistent")
def test_a_worker_s_user_is_told_that_the_disk_can_not_be_seen(come_as: Callable[..., None]) -> None:
    come_as("kue-worker")
    finding = found("redis.unseen")
    assert finding.level is Level.INFO
    assert "how often that file reaches the disk can't be seen" in finding.what
    assert "django_kue.I001" not in codes(Level.INFO)
    said = kue("doctor")
    assert (said.lines[-1], said.code) == ("All that can be seen is well.", 0)


@pytest.mark.usefixtures("served")
def test_a_producer_s_user_is_told_what_it_may_not_look_at_and_the_rest_is(
    come_as: Callable[..., None],
) -> None:
    schedules.create("nightly", noop, every=60)
    enqueued()
    come_as("kue-producer")
    assert "INFO" in found("django_kue.I002").what
    assert codes(Level.ERROR) == []
    assert {"redis.answers", "redis.clock", "worker.running"} <= {*codes(Level.OK)}
    assert not {"redis.memory", "queue.good"} & {*codes(Level.OK)}
    hidden = [finding.what for finding in examine() if finding.code == "redis.unseen"]
    assert [what.partition(": ")[0] for what in hidden] == [
        "This Redis user may not look at the queues default, email, narrow, other or slow",
        "This Redis user may not look at the schedules",
    ]
    said = kue("doctor")
    assert (said.lines[-1], said.code) == ("2 warnings.", 0)


def test_a_user_who_may_nothing_is_told_so(come_as: Callable[..., None]) -> None:
    come_as("kue-producer", "-evalsha", "-eval")
    finding = found("redis.unreachable")
    assert finding.level is Level.ERROR
    assert "lacks a right" in finding.what
    assert "redis-users.md" in finding.remedy


# ── workers and queues ──


def test_a_lost_worker_is_told_with_its_host() -> None:
    announce("web1:1:a", age=300)
    finding = found("worker.lost")
    assert finding.level is Level.WARNING
    assert finding.what.startswith("Worker web1:1:a was last heard of 5 min ago")
    assert "on host web1 why process 4711 ended" in finding.remedy
    assert finding.remedy.startswith("The next worker takes over its jobs.")
    announce("web2:1:a")
    assert found("worker.lost").remedy.startswith("Other workers take over its jobs.")


def test_what_is_worst_is_told_first() -> None:
    enqueued()
    announce("web1:1:a", queues=["email"])
    signs = [line[0] for line in kue("doctor").lines[:-2] if not line.startswith(" ")]
    assert signs == sorted(signs, key="✗!i✓".index)
    assert {"✗", "✓"} <= {*signs}


def test_workers_of_two_releases_are_told() -> None:
    announce("w1")
    announce("w2", version="0.2.0")
    assert "0.1.0, 0.2.0" in found("worker.releases").what


def test_jobs_that_wait_for_no_worker_are_an_error() -> None:
    enqueued(queue="email")
    finding = found("queue.no_worker")
    assert finding.level is Level.ERROR
    assert finding.what.startswith("1 job of queue email could run, the oldest for")
    assert finding.remedy == "Start one: manage.py runworker --queues email"
    assert kue("doctor").code == 1
    announce("w1", queues=["email"])
    assert "queue.no_worker" not in codes(Level.ERROR)


def test_delayed_jobs_that_nobody_promotes_count_when_theyre_due() -> None:
    enqueued(queue="email", delay=60_000)
    assert "queue.no_worker" not in codes(Level.ERROR)
    redis_client().zadd("kue:{email}:z", dict.fromkeys(redis_client().zrange("kue:{email}:z", 0, -1), 1000))
    redis = redis_client()
    [key] = redis.hkeys("kue:{email}:d")
    record = redis.hget("kue:{email}:d", key)
    head, rest = record.split(b"|", 1)
    tokens = [token for token in head.split(b",") if not token.startswith(b"d")]
    redis.hset("kue:{email}:d", key, b",".join([*tokens, b"d1000"]).strip(b",") + b"|" + rest)
    assert "queue.no_worker" in codes(Level.ERROR)


@pytest.mark.usefixtures("served")
def test_a_paused_queue_is_a_warning() -> None:
    get_queue("email").pause()
    enqueued(queue="email")
    finding = found("queue.paused")
    assert finding.level is Level.WARNING
    assert "1 job waiting" in finding.what
    assert finding.remedy.endswith("manage.py kue resume email")
    assert codes(Level.ERROR) == []


def test_a_queue_that_isnt_declared_any_more_is_told_with_how_to_clear_it() -> None:
    enqueued(queue="bygone")
    finding = found("queue.undeclared")
    assert finding.level is Level.ERROR
    assert finding.remedy.endswith("or clear it: manage.py kue empty bygone")
    kue("empty", "bygone", "--yes")
    assert found("queue.undeclared").level is Level.INFO
    ended(failed(), queue="bygone")
    finding = found("queue.undeclared")
    assert finding.level is Level.WARNING
    assert finding.remedy.endswith("manage.py kue clean bygone failed")


@pytest.mark.usefixtures("served")
def test_active_jobs_of_an_owner_that_is_gone_are_an_error() -> None:
    hands = Hands("email", "w9/1")
    enqueued(queue="email")
    hands.take()
    assert "queue.stuck" not in codes(Level.ERROR)
    hands.let_lease_run_out()
    finding = found("queue.stuck")
    assert finding.level is Level.ERROR
    assert finding.what.startswith("w9/1, which has been gone for")
    assert "1 active job of queue email" in finding.what
    redis_client().delete("kue:{email}:hb")
    assert "isn't watched by anybody" in found("queue.stuck").what


@pytest.mark.usefixtures("served")
def test_unknown_functions_are_told_with_the_one_they_resemble() -> None:
    ended(parked(), "tests.app.jobs.addd")
    enqueued("tests.app.jobs.addd")
    finding = found("job.unknown")
    assert finding.level is Level.WARNING
    assert "2 jobs of queue default" in finding.what
    assert (
        'Was it renamed to tests.app.jobs.add? Then write @job(aliases=["tests.app.jobs.addd"])'
        in finding.remedy
    )


@pytest.mark.usefixtures("served")
def test_no_function_is_said_to_resemble_another_because_their_module_is_the_same() -> None:
    enqueued("tests.app.jobs.poll_every_partner")
    assert "Was it renamed? Then write" in found("job.unknown").remedy


@pytest.mark.usefixtures("served")
def test_of_more_jobs_than_are_looked_at_a_part_is_not_said_to_be_all() -> None:
    for _ in range(queues.LOOK):
        enqueued("tests.app.jobs.gone")
    assert f"at least {queues.LOOK} jobs of queue default" in found("job.unknown").what


@pytest.mark.usefixtures("served")
def test_a_function_that_only_the_workers_dont_know_means_that_theyre_old() -> None:
    ended(parked(), "tests.app.jobs.add")
    finding = found("job.unknown")
    assert "isn't known to the workers" in finding.what
    assert "Restart them" in finding.remedy


def test_hostile_names_are_spelt_out() -> None:
    enqueued("evil\x1b[31m")
    announce("w\x1b[2J", age=30)
    said = kue("doctor").out
    assert "\x1b" not in said
    assert r"evil\x1b[31m" in said


def test_findings_as_json_have_stable_keys() -> None:
    enqueued(queue="email")
    findings = kue("doctor", "--json")
    assert findings.code == 1
    assert {tuple(sorted(finding)) for finding in json.loads(findings.out)} == {
        ("code", "level", "remedy", "what")
    }
    assert ("error", "queue.no_worker") in {(one["level"], one["code"]) for one in findings.json}


def test_everything_but_what_is_well_has_a_remedy() -> None:
    enqueued(queue="email")
    enqueued(queue="bygone")
    enqueued("tests.gone")
    get_queue("other").pause()
    announce("w1", age=30)
    findings = examine()
    assert len({finding.code for finding in findings}) > 8
    assert [
        finding.code for finding in findings if finding.level is not Level.OK and not finding.remedy
    ] == []


@pytest.mark.parametrize("suffix", ["a", "z", "h", "p"])
def test_a_queue_that_cant_be_read_is_named_and_the_others_are_looked_at(suffix: str) -> None:
    jobs = enqueued()
    redis_client().set(f"kue:{{email}}:{suffix}", "foreign")
    finding = found("queue.broken")
    assert "Queue email can't be read: " in finding.what
    assert "kue doctor --deep --queue email" in finding.remedy
    assert "queue.no_worker" in {finding.code for finding in examine()}
    said = kue("stats")
    assert said.code == 1
    assert "Queue email can't be read: " in said.err
    assert any(line.startswith("default") for line in said.lines)
    assert jobs


def test_a_function_for_a_queue_that_isnt_there_is_told_once_and_hides_nothing() -> None:
    @job(name="checked", queue="emial")
    def function() -> None: ...

    try:
        codes = [finding.code for finding in examine()]
    finally:
        registry.unregister(function)
    assert codes.count("django_kue.W006") == 1
    assert "redis.answers" in codes
