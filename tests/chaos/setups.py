"""Redis in other setups: watched by a Sentinel, and as a Cluster. What can't be mixed with the rest."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.conftest import free_port, redis_binary, start_redis


def _wait_for(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except (redis.RedisError, KeyError):
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class Watched:
    """A master, a replica, and a Sentinel that watches them."""

    NAME = "shop"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lock = threading.Lock()
        self._ports = [free_port(), free_port()]
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._sentinel_port = free_port()
        self.environment = {"KUE_CHAOS_SENTINEL": f"{self.NAME}:{self._sentinel_port}"}
        self.seen_loading = 0
        self._deaths = 0

    def troubles(self) -> list[str]:
        """A failover that nobody asked for may lose what wasn't copied, as any does."""
        found = re.search(rf"config-epoch {self.NAME} (\d+)", (self._folder / "sentinel.conf").read_text())
        extra = int(found[1]) - self._deaths if found else 0
        if not extra:
            return []
        return [f"the Sentinel failed over {extra} times by itself: this machine is too busy to judge by"]

    def start(self) -> None:
        master, replica = self._ports
        self._start(master)
        self._start(replica, "--replicaof", "127.0.0.1", str(master))
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"port {self._sentinel_port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {self.NAME} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {self.NAME} 2000\n"
            f"sentinel failover-timeout {self.NAME} 4000\n"
        )
        command = [redis_binary(), str(config), "--sentinel"]
        self._sentinel = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for(lambda: self._is_ready(), "a replica that the Sentinel knows")

    def _start(self, port: int, *options: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir(exist_ok=True, parents=True)
        self._servers[port] = start_redis(port, str(folder), "--appendonly", "yes", *options)

    def _is_ready(self) -> bool:
        master = redis.Redis(port=self.master_port()).info("replication")
        known = redis.Redis(port=self._sentinel_port).info("sentinel")["master0"]["slaves"]
        return master["connected_slaves"] == 1 and known == 1 and master["slave0"]["state"] == "online"

    def master_port(self) -> int:
        _, port = redis.Redis(port=self._sentinel_port).execute_command(
            "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME
        )
        return int(port)

    def fail_over(self) -> None:
        """kill −9 of the master, and its replica takes over.

        Replication is asynchronous, and what it hadn't copied would be lost, as is documented. So the master
        refuses writes until all is copied, and then dies.
        """
        old = self.master_port()
        master = redis.Redis(port=old)
        master.execute_command("CLIENT", "PAUSE", 5000, "WRITE")
        _wait_for(lambda: self._has_copied(master), "a replica that has copied all")
        self._deaths += 1
        self._servers[old].kill()
        self._servers[old].wait()
        _wait_for(lambda: self.master_port() != old, "a new master")
        self._start(old, "--replicaof", "127.0.0.1", str(self.master_port()))
        _wait_for(self._is_ready, "the old master as a replica")

    @staticmethod
    def _has_copied(master: Any) -> bool:
        info = master.info("replication")
        return bool(info["slave0"]["offset"] == info["master_repl_offset"])

    def url_of(self, queue: str) -> str:
        return f"redis://127.0.0.1:{self.master_port()}/0"

    def kill(self) -> None:
        for process in (self._sentinel, *self._servers.values()):
            process.kill()
            process.wait()


class Clustered:
    """Three masters of a Cluster; a queue's slot can move from one to another."""

    SLOTS = 16384

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lock = threading.Lock()
        self._ports = [free_port() for _ in range(3)]
        self.environment = {"KUE_TEST_REDIS_SETTING": f"redis+cluster://127.0.0.1:{self._ports[0]}"}
        self.seen_loading = 0
        self._servers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        buses = [free_port() for _ in self._ports]
        for port, bus in zip(self._ports, buses, strict=True):
            folder = self._folder / str(port)
            folder.mkdir(parents=True)
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus), "--appendonly", "yes")
            self._servers.append(start_redis(port, str(folder), *options))
        self._nodes = [redis.Redis(port=port) for port in self._ports]
        for index, node in enumerate(self._nodes):
            first, last = index * self.SLOTS // 3, (index + 1) * self.SLOTS // 3
            node.execute_command("CLUSTER", "ADDSLOTS", *range(first, last))
            node.execute_command("CONFIG", "SET", "cluster-announce-ip", "127.0.0.1")
        for port, bus in zip(self._ports[1:], buses[1:], strict=True):
            self._nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        _wait_for(lambda: all(self._is_whole(node) for node in self._nodes), "a whole Cluster")
        self._ids = [self._text(node.execute_command("CLUSTER", "MYID")) for node in self._nodes]
        self._homes: dict[int, int] = {}

    def troubles(self) -> list[str]:
        return []

    @staticmethod
    def _text(value: Any) -> str:
        return value.decode() if isinstance(value, bytes) else str(value)

    @staticmethod
    def _is_whole(node: Any) -> bool:
        info = node.execute_command("CLUSTER", "INFO")
        if isinstance(info, bytes):
            info = dict(line.split(":") for line in info.decode().splitlines() if ":" in line)
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == 3

    def _slot_of(self, queue: str) -> int:
        return int(self._nodes[0].execute_command("CLUSTER", "KEYSLOT", f"kue:{{{queue}}}:d"))

    def _home(self, slot: int) -> int:
        """The number of the node that has a slot."""
        at_first = next(index for index in range(3) if slot < (index + 1) * self.SLOTS // 3)
        return self._homes.get(slot, at_first)

    def move_slot(self, queue: str) -> None:
        """A queue's slot goes to the next node, key by key, while the workers are at it."""
        slot = self._slot_of(queue)
        here = self._home(slot)
        there = (here + 1) % 3
        source, target = self._nodes[here], self._nodes[there]
        target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self._ids[here])
        source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self._ids[there])
        while keys := source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 3):
            source.execute_command("MIGRATE", "127.0.0.1", self._ports[there], "", 0, 5000, "KEYS", *keys)
            time.sleep(0.01)
        for node in (target, source, *self._nodes):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self._ids[there])
        self._homes[slot] = there

    def url_of(self, queue: str) -> str:
        return f"redis://127.0.0.1:{self._ports[self._home(self._slot_of(queue))]}/0"

    def kill(self) -> None:
        for process in self._servers:
            process.kill()
            process.wait()
