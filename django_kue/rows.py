"""What the store's texts about a job mean: its fields, its runs and its log lines.

What foreign or corrupt data spoil is left out, or said to be unreadable; the rest is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django_kue import codecs, ids, records, registry
from django_kue.states import State
from django_kue.store import reads

# What foreign or corrupt data raise when they're read.
FOREIGN = (ValueError, TypeError, LookupError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class JobError:
    """What went wrong, as stored: an exception is never rebuilt from it."""

    type: str  # dotted, "builtins.ValueError"
    message: str
    traceback: str = ""

    @classmethod
    def from_text(cls, text: bytes) -> JobError | None:
        if not text:
            return None
        try:
            data = json.loads(text)
            return cls(str(data["type"]), str(data["message"]), str(data.get("traceback", "")))
        except (*FOREIGN, AttributeError):
            return cls("django_kue.errors.StoreError", "the stored error can't be read", repr(text[:200]))

    def as_text(self) -> bytes:
        """The stored form."""
        data = {"type": self.type, "message": self.message, "traceback": self.traceback}
        return json.dumps(data).encode()

    @property
    def summary(self) -> str:
        """The exception's name without its module, and the message: for lists."""
        return f"{self.type.rpartition('.')[2]}: {self.message}"

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Run:
    """A run that didn't complete."""

    attempt: int  # which try it was, from 1; a crash uses none up
    started_at: datetime | None
    finished_at: datetime
    worker: str
    outcome: str  # retried, failed, crashed
    error: JobError | None
    delay: float  # seconds till the next try


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a job wrote with ``context.log()``."""

    at: datetime
    text: str

    def __str__(self) -> str:
        return self.text


def moment(ms: int | str | bytes) -> datetime:
    """Unix milliseconds as an aware datetime."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(ms))


def moment_or_none(ms: int | str | bytes | None) -> datetime | None:
    return moment(ms) if ms else None


def attempts_of(name: str, queue: str, options: Mapping[str, Any]) -> int:
    """How often a job may run in all: as its options say, else its function's definition."""
    if "attempts" in options:
        return int(options["attempts"])
    definition = registry.get(name)
    return int(definition.option("attempts", queue)) if definition else 1


def fields_of(queue: str, row: reads.Row) -> dict[str, Any]:
    """The fields of a :class:`~django_kue.Job`; without arguments when its record can't be read."""
    try:
        return _fields(queue, row, records.decode(row.record))
    except FOREIGN:
        return _fields(queue, row, records.Record({}, "(unreadable)", b"", b""))


def _fields(queue: str, row: reads.Row, record: records.Record) -> dict[str, Any]:
    head = record.head
    options = codecs.loads(record.options) if record.options else {}
    fields: dict[str, Any] = {
        "id": f"{queue}.{row.key}",
        "queue": queue,
        "name": record.name,
        "state": row.state,
        "priority": int(head.get("p", 0)),
        "attempts": attempts_of(record.name, queue, options),
        "attempts_made": int(head.get("m", 0)),
        "created_at": _created_at(row.key),
        "run_at": moment_or_none(head.get("d")),
        "crashes": int(head.get("c", 0)),
        "is_parked": "n" in head and row.state in (State.DELAYED, State.WAITING),
        "_options": options,
        "_arguments": record.arguments,
    }
    for some_of in (_fields_of_progress, _fields_of_last_run, _fields_of_this_run, _fields_of_end):
        with suppress(*FOREIGN):
            fields |= some_of(row, head)
    if row.outcome.startswith(b"c"):
        fields["attempts_made"] += 1
    return fields


def _fields_of_progress(row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    if not row.progress:
        return {}
    percent, data = json.loads(row.progress)
    if isinstance(percent, bool) or not math.isfinite(percent):
        raise ValueError("progress is a finite number of percent")
    return {"progress": percent, "progress_data": data}


def _fields_of_last_run(row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    """The error of the run before. The list of runs outlives ``retry()``, its error doesn't: without a
    failed run (``m``) or a crash (``c``) in the record, the attempts are fresh."""
    if row.state.is_finished or not row.last_run or not ("m" in head or "c" in head):
        return {}
    return {"error": JobError.from_text(row.last_run.split(b"|", 6)[6])}


def _fields_of_this_run(row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    if row.state is not State.ACTIVE:
        return {}
    _, claimed, owner = row.lease.split(b"|", 2)
    return {"started_at": moment_or_none(claimed), "worker": owner.decode().strip()}


def _fields_of_end(row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    return fields_of_outcome(row.outcome) if row.state.is_finished else {}


def fields_of_outcome(outcome: bytes) -> dict[str, Any]:
    """What a stored outcome says of when, where and how a job ended."""
    letter, finished, started, worker, text = outcome.split(b"|", 4)
    fields = {
        "started_at": moment_or_none(started),
        "finished_at": moment_or_none(finished),
        "worker": worker.decode(),
    }
    if letter == b"c":
        return fields | {"_result": text, "progress": 100}
    return fields | {"error": JobError.from_text(text)}


def _created_at(key: str) -> datetime:
    try:
        return moment(ids.created_ms(key))
    except (ValueError, OverflowError):  # not a key of ours
        return moment(0)


def log_lines_from(lines: list[bytes]) -> list[LogLine]:
    return [_log_line(line) for line in lines]


def _log_line(line: bytes) -> LogLine:
    at, _, text = line.partition(b"|")
    try:
        return LogLine(moment(at), text.decode(errors="replace"))
    except FOREIGN:
        return LogLine(moment(0), line.decode(errors="replace"))


def runs_from(texts: list[bytes]) -> list[Run]:
    return [_run(text) for text in texts]


def _run(text: bytes) -> Run:
    try:
        attempt, outcome, started, finished, delay, worker, error = text.split(b"|", 6)
        return Run(
            int(attempt),
            moment_or_none(started),
            moment(finished),
            worker.decode(),
            outcome.decode(),
            JobError.from_text(error),
            int(delay) / 1000,
        )
    except FOREIGN:
        return Run(0, None, moment(0), "", "unreadable", JobError.from_text(text), 0)
