"""The outboxes: do their tables exist, and is somebody relaying what's in them?"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from django_kue import outbox
from django_kue.doctor.findings import Finding, Level
from django_kue.models import Outbox
from django_kue.words import many, span

LATE = 60  # seconds; a relay looks every two


def examine() -> list[Finding]:
    """Findings about the outboxes that settings or functions name, and any other that isn't empty."""
    declared = outbox.declared()
    return [
        finding
        for alias in sorted(outbox.possible())
        for finding in _one(alias, is_declared=alias in declared)
    ]


def _one(alias: str, *, is_declared: bool) -> Iterator[Finding]:
    try:
        if outbox.is_there(alias):
            if is_declared or outbox.aged(alias).exists():
                yield from _rows(alias)
        elif is_declared:
            yield Finding(
                Level.ERROR,
                "outbox.missing",
                f"Database {alias} has no table for the outbox: jobs can't be enqueued in its transactions.",
                f"Create it: manage.py migrate django_kue --database {alias}",
            )
    except (Error, ImproperlyConfigured) as error:  # also InterfaceError, and a driver that's missing
        yield Finding(
            Level.ERROR if is_declared else Level.WARNING,
            "outbox.unreachable",
            f"The outbox of database {alias} can't be read: {str(error).strip()}",
            "Is the database up, are its settings right, and are its migrations applied? "
            f"manage.py migrate django_kue --database {alias}",
        )


def _rows(alias: str) -> Iterator[Finding]:
    table = Outbox.objects.using(alias)
    oldest = outbox.aged(alias).order_by("created_at").first()
    seconds = 0.0 if oldest is None else oldest.age.total_seconds()
    here = f"{many(table.count(), 'job')} in the outbox of database {alias}"
    refused = table.exclude(error="")
    if row := refused.first():
        yield Finding(
            Level.ERROR,
            "outbox.refused",
            f"{many(refused.count(), 'job')} in the outbox of database {alias} can't be sent. "
            f"The first is {row}: {row.error}",
            "Each is tried again within a minute. manage.py kue outbox lists them.",
        )
    if seconds > LATE:
        yield Finding(
            Level.ERROR,
            "outbox.late",
            f"{here}, the oldest for {span(seconds)}.",
            "Workers relay them, every two seconds. Is one running, and can it reach that database? "
            "manage.py kue outbox --relay sends them now.",
        )
    else:
        yield Finding(Level.OK, "outbox.good", f"{here}, none of them late.")
