"""``kue stats|pause|resume|empty|clean``: whole queues."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import Any

from django_kue.cli import arguments, progress
from django_kue.cli.arguments import Subcommand, queue_named
from django_kue.cli.screen import Screen
from django_kue.cli.tables import Cell, Column, Painted
from django_kue.errors import StoreError
from django_kue.overview import QueueOverview, readable
from django_kue.queue import Queue
from django_kue.states import FINISHED, State
from django_kue.words import ago, many, rate, span

STATES = (State.WAITING, State.DELAYED, State.ACTIVE, State.FAILED, State.COMPLETED, State.CANCELLED)


# ── stats ──


def _stats_arguments(parser: ArgumentParser) -> None:
    arguments.add_json(parser)


def _stats(screen: Screen, options: Namespace) -> int:
    seen, broken = readable()
    queues = seen.queues
    if options.is_json:
        screen.json([_as_json(queue) for queue in queues])
        return _say_broken(screen, broken)
    columns = [
        Column("QUEUE", least=10),
        *(Column(state.upper(), is_number=True, rank=_RANKS.get(state, 0)) for state in STATES),
        Column("OLDEST", is_number=True, rank=2),
        Column("PER MIN", is_number=True, rank=3),
        Column("WORKERS", is_number=True),
    ]
    rows = [_row(queue) for queue in queues]
    if len(queues) > 1:
        rows.append(_totals(queues))
    screen.table(columns, rows)
    for queue in queues:
        if queue.paused_since is not None:
            screen.line(
                f"{queue.name} was paused {ago(queue.paused_since)}: no worker takes its jobs.", "WARNING"
            )
    return _say_broken(screen, broken)


def _say_broken(screen: Screen, broken: Mapping[str, StoreError]) -> int:
    for name, error in broken.items():
        screen.complain(f"Queue {name} can't be read: {error}. manage.py kue doctor tells you more.")
    return 1 if broken else 0


_RANKS = {State.CANCELLED: 5, State.COMPLETED: 1}


def _row(queue: QueueOverview) -> list[Cell]:
    is_paused = queue.paused_since is not None
    name = queue.name + (" (paused)" if is_paused else "") + ("" if queue.is_declared else " (undeclared)")
    return [
        Painted(name, "WARNING" if is_paused or not queue.is_declared else "SQL_FIELD"),
        *(_count(state, queue.counts[state]) for state in STATES),
        span(queue.oldest_waiting),
        rate(queue.per_minute),
        _workers(queue),
    ]


def _count(state: State, count: int) -> Cell:
    return Painted(count, "ERROR") if state is State.FAILED and count else count


def _workers(queue: QueueOverview) -> Cell:
    if queue.workers:
        return len(queue.workers)
    is_needed = queue.counts[State.WAITING] or queue.counts[State.DELAYED]
    return Painted("no worker", "ERROR" if is_needed else "WARNING")


def _totals(queues: tuple[QueueOverview, ...]) -> list[Cell]:
    oldest = max((queue.oldest_waiting or 0 for queue in queues), default=0)
    cells: list[Cell] = [
        "all",
        *(sum(queue.counts[state] for queue in queues) for state in STATES),
        span(oldest or None),
        rate(sum(queue.per_minute for queue in queues)),
        len({worker for queue in queues for worker in queue.workers}),
    ]
    return [Painted(cell, "MIGRATE_LABEL") for cell in cells]


def _as_json(queue: QueueOverview) -> dict[str, Any]:
    return {
        "queue": queue.name,
        "is_declared": queue.is_declared,
        "paused_since": queue.paused_since,
        "counts": dict(queue.counts),
        "oldest_waiting": queue.oldest_waiting,
        "per_minute": round(queue.per_minute, 2),
        "workers": list(queue.workers),
    }


# ── pause and resume ──


def _queue_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("queues", nargs="+", metavar="QUEUE")
    arguments.add_json(parser)


def _switch(screen: Screen, options: Namespace, *, is_pause: bool) -> int:
    switch, word = (Queue.pause, "paused") if is_pause else (Queue.resume, "running")
    told = []
    for queue in [queue_named(name) for name in options.queues]:
        is_changed = switch(queue)
        told.append({"queue": queue.name, "is_paused": is_pause, "is_changed": is_changed})
        if not options.is_json:
            screen.line(f"{queue} {'is' if is_changed else 'was'} {word}{'' if is_changed else ' already'}.",
                        "SUCCESS" if is_changed else "")  # fmt: skip
    if options.is_json:
        screen.json(told)
    return 0


def _pause(screen: Screen, options: Namespace) -> int:
    return _switch(screen, options, is_pause=True)


def _resume(screen: Screen, options: Namespace) -> int:
    return _switch(screen, options, is_pause=False)


# ── empty and clean ──


def _empty_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("queue", metavar="QUEUE")
    arguments.add_yes(parser)
    arguments.add_json(parser)


def _empty(screen: Screen, options: Namespace) -> int:
    queue = queue_named(options.queue)
    counts = queue.counts()
    waiting, delayed = counts["waiting"], many(counts["delayed"], "delayed job")
    _ask(screen, options, f"empty {queue}", f"{waiting:,} waiting and {delayed} of {queue}")
    total = waiting + counts["delayed"]
    gone = progress.summed(screen, "Removing", total, queue._emptied())
    return _removed(screen, options, queue, gone, "job")


def _ask(screen: Screen, options: Namespace, command: str, what: str) -> None:
    """Go on only if somebody confirms the removal."""
    if options.is_sure:
        return
    if options.is_json:
        raise arguments.misused(f"--json can't ask for confirmation: manage.py kue {command} --json --yes")
    screen.confirm(f"This removes {what} for good.", "removed")


def _removed(screen: Screen, options: Namespace, queue: Queue, gone: int, what: str) -> int:
    if options.is_json:
        screen.json({"queue": queue.name, "removed": gone})
    else:
        screen.line(f"{many(gone, what)} removed from {queue}.", "SUCCESS")
    return 0


def _clean_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("queue", metavar="QUEUE")
    parser.add_argument("state", metavar="STATE", type=arguments.state, help="completed, failed or cancelled")
    parser.add_argument(
        "--older-than",
        type=arguments.seconds,
        default=0,
        metavar="AGE",
        help="only jobs that finished longer ago than this: 90 (seconds), 12h, 3d; default: all",
    )
    arguments.add_yes(parser)
    arguments.add_json(parser)


def _clean(screen: Screen, options: Namespace) -> int:
    if options.state not in FINISHED:
        raise arguments.misused(
            f"clean takes completed, failed or cancelled, not {options.state}. "
            f"To remove waiting and delayed jobs: manage.py kue empty {options.queue}"
        )
    queue = queue_named(options.queue)
    there = queue.counts()[options.state]
    what = f"{many(there, f'{options.state} job')} of {queue}"
    if options.older_than:
        what = f"up to {what} (those that finished more than {span(options.older_than)} ago)"
    _ask(screen, options, f"clean {queue} {options.state}", what)
    gone = progress.summed(screen, "Removing", there, queue._cleaned(options.state, options.older_than))
    return _removed(screen, options, queue, gone, f"{options.state} job")


SUBCOMMANDS = (
    Subcommand(
        "stats", "Queues, how many jobs are in each state, and who serves them", _stats_arguments, _stats
    ),
    Subcommand(
        "pause",
        "Keep workers from taking jobs of these queues; running ones finish",
        _queue_arguments,
        _pause,
    ),
    Subcommand("resume", "Undo a pause", _queue_arguments, _resume),
    Subcommand("empty", "Remove a queue's waiting and delayed jobs", _empty_arguments, _empty),
    Subcommand("clean", "Remove a queue's completed, failed or cancelled jobs", _clean_arguments, _clean),
)
