"""What a chaos run plays on: a Redis of its own, and workers, each behind a proxy of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from tests.conftest import free_port, redis_binary
from tests.proxy import Proxy
from tests.worker_process import WorkerProcess


class Server:
    """A Redis that syncs every write, and says ``LOADING`` while it reads its file."""

    OPTIONS = (
        "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--bind", "127.0.0.1",
        "--loading-process-events-interval-bytes", "1024", "--no-appendfsync-on-rewrite", "no",
    )  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()  # held by whoever does harm to it
        self.seen_loading = 0
        self.environment: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *options: str) -> None:
        """Start it; it answers when this returns."""
        command = [redis_binary(), "--port", str(self.port), "--dir", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, *self.OPTIONS, *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"Redis did not start in {self.folder}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.BusyLoadingError:
            self.seen_loading += 1
        except redis.RedisError:
            pass
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def troubles(self) -> list[str]:
        """What happened to it that nobody did."""
        return []

    def url_of(self, queue: str) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Any:
        """A new client, which tries nothing twice."""
        return redis.Redis(port=self.port, socket_timeout=5, retry=None)


class Worker:
    """A ``runworker`` that's started again when it was killed, and the proxy between it and Redis."""

    def __init__(self, name: str, proxy: Proxy | None, environment: dict[str, str], *arguments: str) -> None:
        self.name = name
        self.proxy = proxy
        self.lock = threading.Lock()  # held by whoever does harm to it
        self.families: dict[int, int] = {}  # process → its supervisor, also those that are dead
        self._environment = environment
        self._arguments = arguments
        self._dead_logs: list[str] = []
        self._is_over = False
        self._standing: list[int] = []
        self.process = self._new()

    def _new(self) -> WorkerProcess:
        environment = {"DJANGO_SETTINGS_MODULE": "tests.chaos.settings", **self._environment}
        return WorkerProcess(*self._arguments, **environment).start()

    def restart(self) -> None:
        """As a service manager does."""
        self.end()
        self.process = self._new()
        self._is_over = False
        with suppress(AssertionError):  # Redis may be away, and it waits
            self.process.wait_started(5)

    def end(self) -> None:
        self._dead_logs.append(self.process.log)
        self._is_over = True
        self.process.__exit__(None, None, None)

    @property
    def log(self) -> str:
        return "".join([*self._dead_logs, "" if self._is_over else self.process.log])

    def pids(self) -> list[int]:
        """Its supervisor and its living processes."""
        children = self.process.children()
        self.families.update(dict.fromkeys(children, self.process.pid))
        return [self.process.pid, *children]

    def stand_still(self) -> list[int]:
        """The same, with the supervisor stopped: so that no process is born meanwhile."""
        self.process.send(signal.SIGSTOP)
        while not _stands_still(self.process.pid):  # it may be in the middle of a fork
            time.sleep(0.001)
        self._standing = self.pids()
        return self._standing

    def send_all(self, number: int) -> None:
        """A signal for all that stood still."""
        for pid in self._standing:
            with suppress(ProcessLookupError):
                self.process.send(number, pid)


def _stands_still(pid: int) -> bool:
    """Whether a process is stopped, or dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "TtZX"


class Stage:
    """Everything that takes part.

    ``server`` is a :class:`Server`, with proxies before it, or one of ``setups.py``, reached directly.
    """

    def __init__(
        self,
        folder: Path,
        server: Any,
        *,
        workers: int,
        lease: float,
        mutant: str = "",
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self.lease = lease
        self.spare = threading.Semaphore(workers - 1)  # that may be out of action at once
        self.ledger = folder / "ledger"
        self.server = server
        server.start()
        environment = {
            "KUE_CHAOS_LEDGER": str(self.ledger), "KUE_CHAOS_MUTANT": mutant,
            "KUE_TEST_LEASE": str(lease), **server.environment,
        }  # fmt: skip
        self.door = self._proxy()  # the producer's
        os.environ.update(environment | self._way(self.door))
        self.workers = []
        for number in range(workers):
            proxy = self._proxy()
            own = environment | self._way(proxy)
            if number == workers - 1:
                own["KUE_CHAOS_CLOCK"] = str(seed + 1)  # it's on a host whose clock jumps
            self.workers.append(
                Worker(f"worker {number}", proxy, own, "--processes", "2", "--shutdown-timeout", "5")
            )

    def _proxy(self) -> Proxy | None:
        return Proxy(self.server.port) if isinstance(self.server, Server) else None

    @staticmethod
    def _way(proxy: Proxy | None) -> dict[str, str]:
        return {"KUE_TEST_REDIS": proxy.url} if proxy else {}

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        for proxy in (self.door, *(worker.proxy for worker in self.workers)):
            if proxy is not None:
                proxy.__exit__(None, None, None)
        self.server.kill()

    def families(self) -> dict[int, int]:
        return {child: parent for worker in self.workers for child, parent in worker.families.items()}


@contextmanager
def staged(folder: Path, server: Any, **options: Any) -> Iterator[Stage]:
    stage = Stage(folder, server, **options)
    try:
        yield stage
    finally:
        with suppress(OSError):
            stage.close()
