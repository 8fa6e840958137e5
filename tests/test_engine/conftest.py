"""After each test of the engine, all keys of the queues are audited: none may be left behind or be wrong."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_kue.audit import audit
from django_kue.conf import settings
from django_kue.store import forget_links
from tests.conftest import free_port, redis_client, start_redis


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "foreign_data: the test itself puts wrong data under our keys")


@pytest.fixture(autouse=True)
def sound_keys(request: pytest.FixtureRequest, empty_redis: None) -> Iterator[None]:
    """Fails a test that leaves keys behind that aren't sound, or a key outside of keys.py."""
    yield
    if request.node.get_closest_marker("foreign_data"):
        return
    prefix = settings.PREFIX
    found = {
        name.decode().partition("}")[0].partition("{")[2] for name in redis_client().keys(f"{prefix}:{{*")
    }
    assert {queue: audit(queue) for queue in found} == {queue: [] for queue in found}


@pytest.fixture
def own_server(settings: Any, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis server of the test's own, and the settings lead to it."""
    port = free_port()
    server = start_redis(port, str(tmp_path), "--unixsocket", str(tmp_path / "redis.sock"))
    settings.KUE = {**settings.KUE, "REDIS": f"redis://127.0.0.1:{port}/0", "ENQUEUE_TIMEOUT": 0.5}
    yield server
    server.send_signal(signal.SIGCONT)
    server.kill()
    server.wait()
    forget_links()
