"""``kue workers``: lists who runs jobs, and can stop workers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from django.core.management.base import CommandError

from django_kue.cli import arguments
from django_kue.cli.arguments import Subcommand
from django_kue.cli.screen import Screen
from django_kue.cli.tables import Cell, Column, Painted
from django_kue.cli.text import listed
from django_kue.cli.verbs import orders_as_json
from django_kue.words import ago, many, one_line
from django_kue.workers import Worker, WorkerState, workers

ROLES = {WorkerState.RUNNING: "SUCCESS", WorkerState.STOPPING: "WARNING", WorkerState.LOST: "ERROR"}
COLUMNS = (
    Column("WORKER"),
    Column("STATE"),
    Column("QUEUES", least=12, rank=1),
    Column("PROCESSES", is_number=True, rank=4),
    Column("RUNNING", is_number=True),
    Column("DONE", is_number=True, rank=3),
    Column("STARTED", is_number=True, rank=2),
    Column("SEEN", is_number=True, rank=5),
    Column("RELEASE", rank=6),
)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--stop",
        nargs="+",
        type=arguments.beginning,
        metavar="ID",
        help="ask these workers to stop, as SIGTERM does; the beginning of an id will do",
    )
    arguments.add_json(parser)


def _workers(screen: Screen, options: Namespace) -> int:
    found = workers()
    if options.stop:
        return _stop(screen, found, options)
    if options.is_json:
        screen.json([_as_json(worker) for worker in found])
        return 0
    if not found:
        screen.line("No worker is running. Start one: manage.py runworker")
        return 0
    screen.table(COLUMNS, [_row(worker) for worker in found])
    for worker in found:
        _running(screen, worker)
    return 0


def _row(worker: Worker) -> list[Cell]:
    return [
        worker.id,
        Painted(worker.state, ROLES[worker.state]),
        ", ".join(worker.queues),
        f"{len(worker.processes)} × ({worker.threads} + {worker.coroutines})",
        len(worker.jobs),
        worker.done,
        ago(worker.started_at),
        ago(worker.seen_at),
        worker.version,
    ]


def _running(screen: Screen, worker: Worker) -> None:
    for process in worker.processes:
        if process.jobs and worker.state is not WorkerState.LOST:
            screen.line(
                f"process {process.pid} of {one_line(worker.id)} runs {one_line(listed(process.jobs, 4))}"
            )


def _stop(screen: Screen, found: list[Worker], options: Namespace) -> int:
    chosen = [_chosen(found, start) for start in options.stop]
    refusals: dict[str, str] = {}
    for worker in chosen:
        try:
            if worker.state is WorkerState.LOST:
                raise LookupError(
                    f"{worker} was last heard of {ago(worker.seen_at)}: it can't hear an order."
                )
            worker.stop()
            if not options.is_json:
                screen.line(
                    f"{worker} is asked to stop; {many(len(worker.jobs), 'job')} running there.", "SUCCESS"
                )
        except LookupError as error:
            refusals[worker.id] = error.args[0]
            screen.complain(one_line(error.args[0]))
    if options.is_json:
        screen.json(orders_as_json([worker.id for worker in chosen], refusals))
    return 1 if refusals else 0


def _chosen(found: list[Worker], start: str) -> Worker:
    fitting = [worker for worker in found if worker.id == start] or [
        worker for worker in found if worker.id.startswith(start)
    ]
    if len(fitting) == 1:
        return fitting[0]
    known = listed(worker.id for worker in fitting or found) or "none"
    raise CommandError(
        f"{'Several workers begin with' if fitting else 'There is no worker'} {start!r}; there are: {known}"
    )


def _as_json(worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.id,
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "queues": list(worker.queues),
        "threads": worker.threads,
        "coroutines": worker.coroutines,
        "started_at": worker.started_at,
        "seen_at": worker.seen_at,
        "done": worker.done,
        "memory": worker.memory,
        "processes": [
            {
                "pid": process.pid,
                "jobs": list(process.jobs),
                "done": process.done,
                "memory": process.memory,
                "busy": process.busy,
                "slots": process.slots,
            }
            for process in worker.processes
        ],
    }


SUBCOMMANDS = (Subcommand("workers", "Who runs jobs; --stop ends one", _arguments, _workers),)
