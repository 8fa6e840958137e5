"""Calls the peers' drivers: ``benchmarks/peers/__init__.py`` says what they take and return."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measuring import ROOT, Failed, Server, Worker
from benchmarks.peers import NODE, PYTHON

NO_SUCH_CALL = 3


class NoSuchCall(Failed):
    """The peer can't do this, and says so."""


# Installed packages have their bytecode beside them; what's run from a checkout takes more memory without it.
WITHOUT = ("PYTHONDONTWRITEBYTECODE",)


@dataclass(frozen=True)
class Driver:
    """A peer, or a variant of one: other variables in the environment, other options for Redis."""

    name: str
    peer: str = ""  # if it isn't the name
    environment: Mapping[str, str] = field(default_factory=dict)
    redis: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.peer or self.name

    def command(self, *arguments: str) -> list[str]:
        if self.module in NODE:
            return ["node", f"benchmarks/node/{NODE[self.module]}", *arguments]
        package = "benchmarks.peers" if self.module in PYTHON else "benchmarks"
        return [sys.executable, "-m", f"{package}.{self.module}", *arguments]

    def server(self) -> Server:
        return Server(*self.redis)

    def enqueue(self, server: Server, kind: str, jobs: int, *options: str, **environment: str) -> float:
        """How many seconds the loop took."""
        return float(self._told(server, "enqueue", kind, str(jobs), *options, **environment)["seconds"])

    def fill(self, server: Server, kind: str, jobs: int) -> float:
        """Enqueue in the fastest way that the peer has."""
        try:
            return self.enqueue(server, kind, jobs, "--bulk")
        except NoSuchCall:
            return self.enqueue(server, kind, jobs)

    def left(self, server: Server) -> int:
        return int(self._told(server, "left"))

    def about(self, server: Server) -> dict[str, Any]:
        return dict(self._told(server, "about"))

    def work(self, server: Server, kind: str, *options: str) -> Worker:
        return Worker(
            self.command("work", kind, *options), self._environment(server), server.folder / "worker.log"
        )

    def _told(self, server: Server, *arguments: str, **environment: str) -> Any:
        answer = self._ask(server, *arguments, **environment)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise Failed(f"{' '.join(arguments)}: it printed {answer!r}") from error

    def _ask(self, server: Server, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            self.command(*arguments), env=self._environment(server) | environment, cwd=ROOT,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode == NO_SUCH_CALL:
            raise NoSuchCall("it has no such call")
        if done.returncode:
            raise Failed(f"{' '.join(arguments)}: {_last_line(done.stderr)}")
        return _last_line(done.stdout)

    def _environment(self, server: Server) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name not in WITHOUT}
        return {**ours, **server.environment, **self.environment}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it ended without any output"
