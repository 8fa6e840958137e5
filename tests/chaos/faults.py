"""The faults: a small function each, one table, and who does them by a schedule that comes from the seed.

A fault says when it was, to whom, and what of it may make a run be repeated: the processes that it ended
(``killed``), or that it kept from talking to Redis (``silenced``; ``None`` is all of them).
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import redis

from tests.chaos.stage import Stage, Worker

SOCKET_TIMEOUT = 2.0  # seconds in which a worker finds out that a connection is half-open


@dataclass
class Fault:
    """What was done."""

    name: str
    at: float
    until: float = float("inf")
    killed: list[int] = field(default_factory=list)
    silenced: list[int] | None = field(default_factory=list)

    @property
    def length(self) -> float:
        return self.until - self.at


Deed = Callable[[Stage, random.Random, Fault], None]


def _rest(seconds: float) -> None:
    time.sleep(seconds)


# ── processes ──


def kill_child(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """kill −9 of one process; its supervisor lives."""
    with _one_of(stage, chosen, fault) as worker:
        _, *children = worker.pids()
        if children:
            fault.killed = [chosen.choice(children)]
            fault.at = time.monotonic()
            worker.process.send(signal.SIGKILL, fault.killed[0])


def kill_supervisor(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """kill −9 of a supervisor; the kernel ends its children."""
    with _one_of(stage, chosen, fault, but_one=True) as worker:
        fault.killed = worker.stand_still()
        fault.at = time.monotonic()
        worker.process.send(signal.SIGKILL)
        _rest(chosen.uniform(0.05, 0.5))
        worker.restart()


def kill_worker(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """kill −9 of all processes of a worker: as a container's end."""
    with _one_of(stage, chosen, fault, but_one=True) as worker:
        fault.killed = worker.stand_still()
        fault.at = time.monotonic()
        worker.send_all(signal.SIGKILL)
        _rest(chosen.uniform(0.05, 0.5))
        worker.restart()


def freeze_worker(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """SIGSTOP beyond the lease, then SIGCONT."""
    with _one_of(stage, chosen, fault, but_one=True) as worker:
        fault.silenced = worker.stand_still()
        worker.send_all(signal.SIGSTOP)
        _rest(stage.lease * chosen.uniform(1.2, 2.2))
        worker.send_all(signal.SIGCONT)
        _rest(0.5)


def freeze_supervisor(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """Nobody beats, while the children go on."""
    with _one_of(stage, chosen, fault, but_one=True) as worker:
        fault.silenced = worker.stand_still()
        _rest(stage.lease * chosen.uniform(0.5, 2))
        worker.process.send(signal.SIGCONT)


def stop_worker(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """SIGTERM, as a deploy does; a new one is started."""
    with _one_of(stage, chosen, fault, but_one=True) as worker:
        fault.killed = worker.stand_still()  # what still runs after the shutdown timeout
        worker.process.send(signal.SIGTERM)
        worker.process.send(signal.SIGCONT)
        worker.process.wait(30)
        worker.restart()


# ── Redis ──


def restart_redis(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """kill −9, and started again with every write on disk."""
    with _redis_of(stage, fault):
        stage.server.kill()
        _rest(chosen.uniform(0.1, 1.0))
        stage.server.start()


def restart_redis_slowly(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """The same, and it says LOADING for a while."""
    with _redis_of(stage, fault):
        stage.server.kill()
        stage.server.start("--key-load-delay", "-20")
        stage.server.client.config_set("key-load-delay", 0)


def freeze_redis(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """Connections stay open, nobody answers; sometimes for longer than a lease."""
    with _redis_of(stage, fault):
        stage.server.signal(signal.SIGSTOP)
        _rest(stage.lease * chosen.uniform(0.2, 1.5))
        stage.server.signal(signal.SIGCONT)


def pause_clients(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    with _redis_of(stage, fault):
        ms = chosen.randint(100, 1500)
        stage.server.client.execute_command("CLIENT", "PAUSE", ms, chosen.choice(["WRITE", "ALL"]))
        _rest(ms / 1000)


def flush_scripts(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    with stage.server.lock:
        for _ in range(5):
            stage.server.client.script_flush()
            _rest(0.05)


def fill_memory(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """maxmemory is reached, with noeviction."""
    with _redis_of(stage, fault):
        stage.server.client.config_set("maxmemory", 1)
        _rest(chosen.uniform(0.2, 1.2))
        stage.server.client.config_set("maxmemory", 0)


def make_readonly(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """It's a replica now, and refuses writes; after a moment it's the master again."""
    with _redis_of(stage, fault):
        stage.server.client.replicaof("127.0.0.1", 1)
        _rest(chosen.uniform(0.2, 1.0))
        stage.server.client.replicaof("NO", "ONE")


def kill_clients(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    with stage.server.lock:
        stage.server.client.client_kill_filter(_type="normal", skipme=True)


# ── the network ──


def cut_reply(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """Redis does what it's told, and the answer ends in the middle."""
    with _one_of(stage, chosen, fault) as worker:
        worker.proxy.cut_reply(chosen.choice([0, 1, 7, 40]))


def cut_request(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    with _one_of(stage, chosen, fault) as worker:
        worker.proxy.cut_request(chosen.choice([0, 1, 30, 200]))


def cut_producer(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """An enqueue's reply is lost: it's sent again, and must not create its jobs twice."""
    stage.door.cut_reply(chosen.choice([0, 1, 3]))


def cut_all(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    with _one_of(stage, chosen, fault) as worker:
        worker.proxy.cut_all()


def stall_reply(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """Half-open: part of a reply comes, and then nothing more."""
    with _one_of(stage, chosen, fault) as worker:
        fault.silenced = worker.pids()
        worker.proxy.stall_reply(chosen.choice([0, 5]))
        _rest(SOCKET_TIMEOUT)


def mute(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """A worker is cut off for longer than its lease, and doesn't notice that connections are gone."""
    with _one_of(stage, chosen, fault, but_one=True) as worker:
        fault.silenced = worker.pids()
        worker.proxy.is_mute = True
        _rest(stage.lease * chosen.uniform(0.5, 2))
        worker.proxy.is_mute = False
        worker.proxy.cut_all()
        _rest(SOCKET_TIMEOUT)


def slow_down(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """Replies come in pieces, and late."""
    with _one_of(stage, chosen, fault) as worker:
        fault.silenced = worker.pids()
        worker.proxy.split, worker.proxy.delay = 64, 0.002
        _rest(chosen.uniform(1, 2))
        worker.proxy.split, worker.proxy.delay = None, 0.0


# ── other setups (setups.py) ──


def fail_over(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """The master that a Sentinel watches dies, and its replica is the master."""
    with _redis_of(stage, fault):
        stage.server.fail_over()


def move_slot(stage: Stage, chosen: random.Random, fault: Fault) -> None:
    """A queue's slot moves to another node of the Cluster."""
    with _redis_of(stage, fault):
        stage.server.move_slot(chosen.choice(["default", "default", "long"]))


# How many of each a minute.
TABLE: dict[Deed, float] = {
    kill_child: 14, kill_supervisor: 3, kill_worker: 4,
    freeze_worker: 2, freeze_supervisor: 1, stop_worker: 1,
    restart_redis: 2, restart_redis_slowly: 1, freeze_redis: 1, pause_clients: 1, flush_scripts: 2,
    fill_memory: 1, make_readonly: 1, kill_clients: 2,
    cut_reply: 6, cut_request: 4, cut_producer: 6, cut_all: 2, stall_reply: 2, mute: 1, slow_down: 1,
}  # fmt: skip
ON_SENTINEL: dict[Deed, float] = {kill_child: 8, kill_worker: 3, fail_over: 4}
ON_CLUSTER: dict[Deed, float] = {kill_child: 8, kill_worker: 3, move_slot: 8}
NAMES = {deed.__name__: deed for deed in TABLE}
KILLS = ("kill_child", "kill_supervisor", "kill_worker")
RESTARTS = ("restart_redis", "restart_redis_slowly")


@contextmanager
def _redis_of(stage: Stage, fault: Fault) -> Iterator[None]:
    """Redis, that no other fault is at; from now on nobody may be able to talk to it."""
    with stage.server.lock:
        fault.at, fault.silenced = time.monotonic(), None
        yield


@contextmanager
def _one_of(stage: Stage, chosen: random.Random, fault: Fault, *, but_one: bool = False) -> Iterator[Worker]:
    """A worker that no other fault is at.

    ``but_one`` where the worker is out of action as a whole: one always stays, to take over.
    """
    with stage.spare if but_one else nullcontext(), _any_of(stage, chosen) as worker:
        fault.at = time.monotonic()
        yield worker


@contextmanager
def _any_of(stage: Stage, chosen: random.Random) -> Iterator[Worker]:
    for worker in chosen.sample(stage.workers, len(stage.workers)):
        if worker.lock.acquire(blocking=False):
            break
    else:
        worker = chosen.choice(stage.workers)
        worker.lock.acquire()
    try:
        yield worker
    finally:
        worker.lock.release()


def schedule(seconds: float, seed: int, table: dict[Deed, float]) -> list[tuple[float, Deed]]:
    """When what is done: as often as the table says, at random moments."""
    chosen = random.Random(seed)
    moments = [
        (chosen.uniform(0, seconds), deed)
        for deed, a_minute in table.items()
        for _ in range(max(1, round(a_minute * seconds / 60)))
    ]
    return sorted(moments, key=lambda moment: moment[0])


class Injector(threading.Thread):
    """Does the faults of a schedule, side by side where they're long."""

    def __init__(self, stage: Stage, moments: list[tuple[float, Deed]], seed: int) -> None:
        super().__init__(name="injector", daemon=True)
        self._stage = stage
        self._moments = moments
        self._seed = seed
        self._threads: list[threading.Thread] = []
        self.faults: list[Fault] = []
        self.troubles: list[str] = []

    def run(self) -> None:
        begun = time.monotonic()
        for number, (at, deed) in enumerate(self._moments):
            _rest(max(0.0, begun + at - time.monotonic()))
            thread = threading.Thread(target=self._do, args=(deed, number), daemon=True)
            thread.start()
            self._threads.append(thread)
        for thread in self._threads:
            thread.join(90)

    def _do(self, deed: Deed, number: int) -> None:
        fault = Fault(deed.__name__, time.monotonic())
        self.faults.append(fault)
        try:
            deed(self._stage, random.Random(self._seed * 1_000_003 + number), fault)
        except redis.RedisError:
            pass  # another fault had got hold of Redis: this one did less
        except Exception as error:
            self.troubles.append(f"the fault {deed.__name__} could not be done: {error!r}")
        fault.until = time.monotonic()

    def counts(self) -> Counter[str]:
        return Counter(fault.name for fault in self.faults)
