"""``kue outbox``: lists jobs on their way from a database to Redis, and can send them now."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import Error

from django_kue import outbox
from django_kue.cli import arguments, progress
from django_kue.cli.arguments import Subcommand
from django_kue.cli.screen import Screen
from django_kue.cli.tables import Column, Dotted, Painted
from django_kue.words import many, one_line, span

COLUMNS = (
    Column("JOB"),
    Column("FUNCTION", least=12),
    Column("AGE", is_number=True),
    Column("TRIES", is_number=True, rank=2),
    Column("DATABASE", rank=1),
    Column("ERROR", least=20),
)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--relay", action="store_true", dest="is_relay", help="send them now")
    parser.add_argument(
        "--limit",
        type=arguments.whole(1, 1000),
        default=25,
        metavar="N",
        help="show at most N jobs of each database (25)",
    )
    arguments.add_json(parser)


def _outbox(screen: Screen, options: Namespace) -> int:
    aliases, complaints = _readable()
    for complaint in complaints:
        screen.complain(complaint)
    if not aliases and not complaints:
        raise CommandError("No database has the outbox's table. Create it: manage.py migrate django_kue")
    do = _relay if options.is_relay else _list
    try:
        return do(screen, aliases, options) or int(bool(complaints))
    except Error as error:
        raise CommandError(f"{one_line(error)}. manage.py kue doctor tells you more.") from error


def _readable() -> tuple[list[str], list[str]]:
    """Databases whose outbox can be read, and what's wrong with others that should or could have one."""
    declared = outbox.declared()
    aliases, complaints = [], []
    for alias in sorted(outbox.possible()):
        try:
            if outbox.is_there(alias):
                aliases.append(alias)
            elif alias in declared:
                remedy = f"manage.py migrate django_kue --database {alias}"
                complaints.append(f"Database {alias} has no table for the outbox. Create it: {remedy}")
        except (Error, ImproperlyConfigured) as error:  # also InterfaceError, and a driver that's missing
            complaints.append(f"The outbox of {alias} can't be read: {one_line(error)}")
    return aliases, complaints


def _list(screen: Screen, aliases: Sequence[str], options: Namespace) -> int:
    rows = [row for alias in aliases for row in outbox.aged(alias)[: options.limit]]
    total = sum(outbox.aged(alias).count() for alias in aliases)
    if options.is_json:
        screen.json([_as_json(row) for row in rows])
    elif rows:
        screen.table(COLUMNS, [_cells(row) for row in rows])
        if total > len(rows):
            screen.line(f"{total - len(rows):,} more; --limit shows more of them.")
    elif aliases:
        screen.line("The outbox is empty.")
    return 0


def _relay(screen: Screen, aliases: Sequence[str], options: Namespace) -> int:
    told = [_relay_one(screen, alias, options) for alias in aliases]
    if options.is_json:
        screen.json(told)
    return 1 if any(one["refused"] for one in told) else 0


def _relay_one(screen: Screen, alias: str, options: Namespace) -> dict[str, Any]:
    errors: dict[int, str] = {}
    pks = list(outbox.aged(alias).values_list("pk", flat=True))
    sent = progress.summed(screen, "Sending", len(pks), _relayed(alias, pks, errors))
    if not options.is_json:
        screen.line(f"{many(sent, 'job')} of the outbox of {alias} sent.", "SUCCESS" if not errors else "")
    for reason in sorted(set(errors.values())):
        count = sum(one == reason for one in errors.values())
        screen.complain(f"{many(count, 'job')} can't be sent: {one_line(reason)}")
    return {"database": alias, "sent": sent, "refused": len(errors)}


def _relayed(alias: str, pks: Sequence[int], errors: dict[int, str]) -> Iterator[int]:
    """Send these rows, each once; yields how many were sent, batch by batch. ``errors`` gets the reasons why
    others weren't."""
    for first in range(0, len(pks), outbox.BATCH):
        relayed = outbox.relay(alias, only=pks[first : first + outbox.BATCH])
        errors |= relayed.errors
        yield relayed.sent


def _cells(row: Any) -> list[Any]:
    return [
        Painted(row, "SQL_FIELD"),
        Dotted(outbox.name_in(row)),
        span(row.age.total_seconds()),
        row.attempts,
        row._state.db,
        Painted(row.error or "–", "ERROR" if row.error else ""),
    ]


def _as_json(row: Any) -> dict[str, Any]:
    return {
        "id": str(row),
        "queue": row.queue,
        "name": outbox.name_in(row),
        "age": round(row.age.total_seconds(), 3),
        "attempts": row.attempts,
        "error": row.error,
        "database": row._state.db,
    }


SUBCOMMANDS = (
    Subcommand(
        "outbox",
        "Jobs on their way from a database to Redis; --relay sends them now",
        _arguments,
        _outbox,
    ),
)
