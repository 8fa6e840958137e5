"""What mustn't cross a fork: connections that two processes would then both read from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import CacheHandler
from django.core.cache.backends.locmem import LocMemCache
from django.db.utils import ConnectionHandler

from django_kue.management.commands.runworker import Command
from django_kue.worker import forks
from django_kue.worker.options import WorkerOptions
from django_kue.worker.supervisor import Supervisor

Opened = Callable[[], tuple[bool, bool]]


class Cache(LocMemCache):
    is_open = True

    def close(self, **kwargs: Any) -> None:
        self.is_open = False


@pytest.fixture
def opened(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Whether a database's connection, and a cache's, are open. They are."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    connections = ConnectionHandler({"default": database})
    connections["default"].connect()
    caches = CacheHandler({"default": {"BACKEND": f"{__name__}.Cache"}})
    cache: Any = caches["default"]
    monkeypatch.setattr(forks, "connections", connections)
    monkeypatch.setattr(forks, "caches", caches)
    yield lambda: (connections["default"].connection is not None, cache.is_open)
    connections["default"].close()


def start_a_child() -> None:
    supervisor = Supervisor(WorkerOptions(queues=("default",)))
    supervisor._respawn_at = {0: 0.0}
    supervisor._spawn_due()


def run_the_checks() -> None:
    Command().check()


@pytest.mark.parametrize("fork", [start_a_child, run_the_checks])
def test_no_connection_crosses_a_fork(
    opened: Opened, fork: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    crossed: list[tuple[bool, bool]] = []

    def refuse() -> int:
        crossed.append(opened())
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("os.fork", refuse)
    assert opened() == (True, True)
    with suppress(BlockingIOError):
        fork()
    assert crossed == [(False, False)]
