"""``kue schedules``: lists schedules, and pauses, resumes, runs or deletes them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from django.utils import translation

from django_kue import schedules
from django_kue.cli import arguments
from django_kue.cli.arguments import Subcommand
from django_kue.cli.screen import Screen, as_text
from django_kue.cli.tables import Cell, Column, Dotted, Painted
from django_kue.cli.verbs import orders_as_json
from django_kue.display import shown_arguments_of
from django_kue.errors import ScheduleDoesNotExist, ScheduleError
from django_kue.schedules import Schedule, Tick
from django_kue.words import NONE, ago, clock, one_line

COLUMNS = (
    Column("SCHEDULE", least=12),
    Column("WHEN", least=16, rank=1),
    Column("QUEUE", rank=4),
    Column("FUNCTION", least=12, rank=5),
    Column("NEXT", is_number=True),
    Column("LAST"),
    Column("SUCCESS", is_number=True, rank=2),
)
TICKS = (Column("TICK"), Column("OUTCOME"), Column("ENDED", rank=1), Column("JOB", rank=2))
ROLES = {
    "completed": "SUCCESS", "failed": "ERROR", "missed": "WARNING", "overlapped": "WARNING",
    "cancelled": "WARNING",
}  # fmt: skip
COMING = 5  # next runs that are shown


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="show everything that's known about one")
    for flag, what in _ORDERS.items():
        parser.add_argument(f"--{flag}", nargs="+", metavar="NAME", default=[], help=what.help)
    arguments.add_json(parser)


def _schedules(screen: Screen, options: Namespace) -> int:
    orders = {flag: getattr(options, flag.replace("-", "_")) for flag in _ORDERS}
    if any(orders.values()):
        return _obey(screen, orders, is_json=options.is_json)
    if options.name is not None:
        return _one(screen, schedules.get(options.name), is_json=options.is_json)
    found = schedules.all()
    if options.is_json:
        screen.json([_as_json(schedule) for schedule in found])
    elif found:
        screen.table(COLUMNS, [_row(schedule) for schedule in found])
    else:
        screen.line("There are no schedules. @job(cron=…) declares one.")
    return 0


# ── orders ──


class _Order:
    """What a flag does to schedules."""

    def __init__(self, verb: Callable[[str], Any], help: str, said: str) -> None:
        self.verb, self.help, self.said = verb, help, said


_ORDERS = {
    "pause": _Order(schedules.pause, "fire no ticks of these", "is paused"),
    "resume": _Order(schedules.resume, "undo a pause", "is running"),
    "run-now": _Order(schedules.run_now, "enqueue a job of each now", "runs now"),
    "delete": _Order(schedules.delete, "delete these, unless they're declared", "is deleted"),
}


def _obey(screen: Screen, orders: Mapping[str, list[str]], *, is_json: bool) -> int:
    refusals: dict[str, str] = {}
    for flag, names in orders.items():
        for name in names:
            try:
                _ORDERS[flag].verb(name)
                if not is_json:
                    screen.line(f"{one_line(name)} {_ORDERS[flag].said}.", "SUCCESS")
            except (ScheduleDoesNotExist, ScheduleError) as error:
                refusals[name] = str(error)
                screen.complain(one_line(error))
    if is_json:
        screen.json(orders_as_json(dict.fromkeys(chain(*orders.values())), refusals))
    return 1 if refusals else 0


# ── telling ──


def _words(schedule: Schedule) -> str:
    """In English, like everything that the commands print, whatever the project's language is."""
    with translation.override("en"):
        return schedule.words


def _row(schedule: Schedule) -> list[Cell]:
    return [
        Painted(schedule.name, "SQL_FIELD"),
        _words(schedule),
        schedule.queue,
        Dotted(schedule.function),
        _next(schedule),
        _outcome(schedule.last_runs[0]) if schedule.last_runs else NONE,
        ago(schedule.last_success),
    ]


def _next(schedule: Schedule) -> Cell:
    if schedule.is_paused:
        return Painted("paused", "WARNING")
    if schedule.undeclared_since is not None:
        return Painted("undeclared", "WARNING")
    return ago(schedule.next_run)


def _outcome(tick: Tick) -> Cell:
    words = tick.outcome if tick.count == 1 else f"{tick.outcome} ({tick.count:,})"
    return Painted(words, ROLES.get(tick.outcome, ""))


def _one(screen: Screen, schedule: Schedule, *, is_json: bool) -> int:
    if is_json:
        screen.json(_as_json(schedule))
        return 0
    screen.line(screen.paint(one_line(schedule.name), "MIGRATE_LABEL"))
    facts = {
        "when": f"{_words(schedule)}, {schedule.rule}" if schedule.cron else _words(schedule),
        "function": schedule.function,
        "arguments": as_text(shown_arguments_of(schedule.function, schedule._arguments)),
        "queue": schedule.queue,
        "catch up": schedule.catch_up,
        "overlap": "yes" if schedule.overlap else "no",
        "declared": _declared(schedule),
        "success": ago(schedule.last_success),
        "next": "paused" if schedule.is_paused else ", ".join(_coming(schedule)) or NONE,
    }
    for name, value in facts.items():
        screen.line(f"  {name:<9} {one_line(value)}")
    if schedule.last_runs:
        screen.line()
        screen.table(TICKS, [_cells(tick) for tick in schedule.last_runs])
    return 0


def _declared(schedule: Schedule) -> str:
    if schedule.undeclared_since is not None:
        return f"not any more, since {clock(schedule.undeclared_since)}"
    if not schedule.is_declared:
        return "no"
    return f"yes; changed here: {', '.join(schedule.overrides)}" if schedule.overrides else "yes"


def _coming(schedule: Schedule) -> list[str]:
    if schedule.is_off:
        return []
    return [f"{run:%Y-%m-%d %H:%M:%S %Z}" for run in schedule.next_runs(COMING)]


def _cells(tick: Tick) -> list[Cell]:
    how = " (run now)" if tick.is_manual else ""
    return [clock(tick.at) + how, _outcome(tick), clock(tick.ended_at), tick.job_id or NONE]


def _as_json(schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "queue": schedule.queue,
        "function": schedule.function,
        "arguments": shown_arguments_of(schedule.function, schedule._arguments),
        "cron": schedule.cron,
        "every": schedule.every,
        "timezone": schedule.timezone,
        "words": _words(schedule),
        "catch_up": schedule.catch_up,
        "overlap": schedule.overlap,
        "is_declared": schedule.is_declared,
        "overrides": list(schedule.overrides),
        "paused_at": schedule.paused_at,
        "undeclared_since": schedule.undeclared_since,
        "next_run": schedule.next_run,
        "last_tick": schedule.last_tick,
        "last_success": schedule.last_success,
        "last_runs": [
            {
                "at": tick.at,
                "job_id": tick.job_id,
                "outcome": tick.outcome,
                "ended_at": tick.ended_at,
                "is_manual": tick.is_manual,
                "count": tick.count,
            }
            for tick in schedule.last_runs
        ],
    }


SUBCOMMANDS = (
    Subcommand(
        "schedules",
        "Recurring jobs: when they run, and how it went; pause, resume, run or delete them",
        _arguments,
        _schedules,
    ),
)
