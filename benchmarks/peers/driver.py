"""The command line of a Python peer; ``benchmarks/peers/__init__.py`` says what its verbs do."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.work import arguments

PROCESSES = 2  # one for each core
NO_SUCH_CALL = 3
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.shop.settings")


@dataclass(frozen=True)
class Worker:
    """A peer's worker, as typed in a shell; several commands are started side by side."""

    commands: Sequence[str]
    environ: dict[str, str] = field(default_factory=dict)

    def typed(self) -> str:
        variables = "".join(f"{name}={value} " for name, value in self.environ.items())
        return variables + " & ".join(self.commands)


@dataclass(frozen=True)
class Peer:
    """What a peer's file says about it. The functions that enqueue return how many seconds that took."""

    name: str
    package: str
    guarantee: str
    on_kill: str
    notes: str
    enqueue: Callable[[str, int], float]
    enqueue_bulk: Callable[[str, int], float] | None
    enqueue_late: Callable[[list[float]], float] | None
    worker: Callable[[str, int | None], Worker]
    left: Callable[[], int]

    def main(self) -> None:
        asked = _arguments()
        getattr(self, f"_{asked.verb}")(asked)

    def _enqueue(self, asked: argparse.Namespace) -> None:
        if asked.spread is not None:
            seconds = _or_leave(self.enqueue_late)(_due_times(asked.jobs, asked.spread))
        elif asked.bulk:
            seconds = _or_leave(self.enqueue_bulk)(asked.kind, asked.jobs)
        else:
            seconds = self.enqueue(asked.kind, asked.jobs)
        print(json.dumps({"seconds": seconds, "jobs": asked.jobs}))

    def _work(self, asked: argparse.Namespace) -> NoReturn:
        become(self.worker(asked.kind, asked.slots))

    def _left(self, asked: argparse.Namespace) -> None:
        print(self.left())

    def _about(self, asked: argparse.Namespace) -> None:
        about = {"name": self.name, "version": version(self.package)}
        about |= {"command": self.worker("noop", None).typed(), "guarantee": self.guarantee}
        print(json.dumps(about | {"on_kill": self.on_kill, "notes": self.notes}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    enqueue = verbs.add_parser("enqueue")
    enqueue.add_argument("kind")
    enqueue.add_argument("jobs", type=int)
    enqueue.add_argument("--bulk", action="store_true")
    enqueue.add_argument("--spread", type=float)
    work = verbs.add_parser("work")
    work.add_argument("kind")
    work.add_argument("--slots", type=int)
    verbs.add_parser("left")
    verbs.add_parser("about")
    return parser.parse_args()


def _or_leave(call: Any) -> Any:
    if call is None:
        sys.exit(NO_SUCH_CALL)
    return call


def _due_times(jobs: int, spread: float) -> list[float]:
    """In whole milliseconds, which all peers support."""
    begin = time.time() + float(os.environ.get("BENCH_LEAD", "1"))
    return [round(begin + spread * number / jobs, 3) for number in range(jobs)]


def become(worker: Worker) -> NoReturn:
    """Replace this process with the worker's command, or with a shell that supervises several."""
    environ = os.environ | worker.environ
    # Finds the commands of this Python's environment, whether or not it's activated.
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    if len(worker.commands) == 1:
        words = shlex.split(worker.commands[0])
        os.execvpe(words[0], words, environ)
    started = "".join(f'{command} & pids="$pids $!"\n' for command in worker.commands)
    script = f"trap 'kill $pids' TERM INT\n{started}wait\nwait\n"
    os.execvpe("sh", ["sh", "-c", script], environ)


def redis_port() -> int:
    return int(os.environ.get("BENCH_REDIS_PORT", "6379"))


def redis_url() -> str:
    return f"redis://127.0.0.1:{redis_port()}/0"


def start_django() -> None:
    import django

    django.setup()


def seconds_of(call: Callable[..., Any], kind: str, times: int) -> float:
    """Call this many times with a job's arguments, one call after another, and return how long it took."""
    begin = time.perf_counter()
    for _ in range(times):
        call(*arguments(kind))
    return time.perf_counter() - begin


def seconds_for(calls: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    calls()
    return time.perf_counter() - begin
