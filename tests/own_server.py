"""A Redis server of a test's own, to kill, freeze, starve and misconfigure.

The fixtures are known to the folders whose ``conftest.py`` imports them.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis

from django_kue import EnqueueError, handover
from tests import conftest
from tests.worker_process import wait_for


class OwnServer:
    """A Redis server that can be killed, frozen and started again; its jobs survive a restart."""

    def __init__(self, folder: Path) -> None:
        self.port = conftest.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, environment: Mapping[str, str] | None = None) -> None:
        persistence = ("--appendonly", "yes", "--appendfsync", "always")
        self.process = conftest.start_redis(
            self.port, str(self.folder), *persistence, *options, environment=environment
        )

    def start_without_waiting(self, *options: str) -> None:
        command = [conftest.redis_binary(), "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def append_only_file(self) -> Path:
        """Where it writes now. Redis 7 has a folder of them."""
        found = [path for path in self.folder.rglob("*.aof") if ".base." not in path.name]
        return max(found, key=lambda path: path.stat().st_mtime_ns)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @property
    def client(self) -> Any:
        return redis.Redis.from_url(self.url)


@pytest.fixture
def server(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnServer]:
    """Jobs, marks and workers of this test go to a server of its own; it isn't started yet."""
    own = OwnServer(tmp_path)
    caches = {"default": {**settings.CACHES["default"], "LOCATION": own.url}}
    settings.CACHES = caches
    monkeypatch.setenv("KUE_TEST_REDIS", own.url)
    getattr(conftest.redis_client, "cache_clear", lambda: None)()
    handover._known.clear()
    yield own
    own.kill()
    monkeypatch.undo()
    getattr(conftest.redis_client, "cache_clear", lambda: None)()
    handover._known.clear()


@pytest.fixture
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs leave marks while Redis is away."""
    path = tmp_path_factory.mktemp("notes") / "notes"
    path.touch()
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def rest(seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > until, seconds + 5)


def persistently(action: Callable[[], Any]) -> Any:
    """Enqueue though Redis may be away."""

    def attempt() -> Any:
        try:
            return action()
        except EnqueueError:
            return None

    return wait_for(attempt, 20)
