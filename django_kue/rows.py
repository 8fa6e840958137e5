"""Reads what the store holds about a job: its fields, its runs and its log lines.

What foreign or corrupt data has spoiled is left out, or marked as unreadable; the rest is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django_kue import codecs, encryption, ids, records, registry
from django_kue.moments import moment, moment_or_none
from django_kue.states import State
from django_kue.store import reads

# What reading foreign or corrupt data may raise.
FOREIGN = (ValueError, TypeError, LookupError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class JobError:
    """What went wrong, as stored: an exception is never rebuilt from it."""

    type: str  #: dotted, "builtins.ValueError"
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


CUT_OFF = ("stopped", "stalled")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that didn't complete."""

    attempt: int  #: which attempt it was, from 1; a crash doesn't use one up
    started_at: datetime | None  #: ``None`` if that's unknown
    finished_at: datetime
    worker: str
    #: retried, failed, crashed; stopped: handed back because its worker stopped; stalled: its process died or
    #: was killed, and it isn't blamed (if a whole worker died, so are jobs that hadn't begun)
    outcome: str
    error: JobError | None
    delay: float  #: seconds until the next attempt
    times: int = 1  #: for runs that were cut off (stopped, stalled): how many in a row

    @property
    def is_cut_off(self) -> bool:
        """Whether it counts as neither an attempt nor a crash."""
        return self.outcome in CUT_OFF


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a job wrote with ``context.log()``."""

    at: datetime
    text: str

    def __str__(self) -> str:
        return self.text


def attempts_of(name: str, queue: str, options: Mapping[str, Any]) -> int:
    """How often a job may run in total: by its own options, or else by its function's definition."""
    if "attempts" in options:
        return int(options["attempts"])
    definition = registry.get(name)
    return int(definition.option("attempts", queue)) if definition else 1


def fields_of(queue: str, row: reads.Row) -> dict[str, Any]:
    """The fields of a :class:`~django_kue.Job`; without arguments when its record can't be read."""
    try:
        return _fields(queue, row, _record(row))
    except FOREIGN:
        return _fields(queue, row, records.UNREADABLE)


def _record(row: reads.Row) -> records.Record:
    try:
        return records.decode(row.record)
    except records.NewerRecord as error:
        return replace(records.UNREADABLE, head=error.head)


def _fields(queue: str, row: reads.Row, record: records.Record) -> dict[str, Any]:
    head = record.head
    options = codecs.loads(record.options, fetch=False) if record.options else {}
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
        "is_cancelling": row.is_marked,
        "is_parked": "n" in head and row.state in (State.DELAYED, State.WAITING),
        "_options": options,
        "schedule": head.get("t", ""),
        "is_encrypted": encryption.is_sealed(record.arguments),
        "_arguments": arguments_of(record, queue, row.key),
    }
    for some_of in (_fields_of_progress, _fields_of_last_run, _fields_of_this_run, _fields_of_end):
        with suppress(*FOREIGN):
            fields |= some_of(queue, row, head)
    if row.outcome.startswith(b"c"):
        fields["attempts_made"] += 1
    return fields


def arguments_of(record: records.Record | records.NewJob, queue: str, key: str) -> bytes:
    """A job's arguments, unsealed if possible."""
    return encryption.unsealed(record.arguments, encryption.ARGUMENTS, queue, key, record.name)


def error_of(text: bytes, queue: str, key: str) -> JobError | None:
    """A job's stored error; if it can't be opened, an error that says so."""
    try:
        return JobError.from_text(encryption.unseal(text, encryption.ERROR, queue, key))
    except codecs.CannotOpen as error:
        return JobError("django_kue.codecs.CannotOpen", str(error))


def _fields_of_progress(queue: str, row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    if not row.progress:
        return {}
    percent, data = progress_of(row.progress, queue, row.key)
    if isinstance(percent, bool) or not math.isfinite(percent):
        raise ValueError("progress is a finite number of percent")
    return {"progress": percent, "progress_data": data}


def progress_of(text: bytes, queue: str, key: str) -> tuple[float, Any]:
    """Percent and data of a stored progress."""
    percent, data = json.loads(encryption.unseal(text, encryption.PROGRESS, queue, key))
    return percent, data


def _fields_of_last_run(queue: str, row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    """The error of the previous run. The list of runs outlives ``retry()``, but the error doesn't: without a
    failed run (``m``) or a crash (``c``) in the record, the attempts are fresh."""
    if row.state.is_finished or not row.last_run or not ("m" in head or "c" in head):
        return {}
    return {"error": error_of(row.last_run.split(b"|", 6)[6], queue, row.key)}


def _fields_of_this_run(queue: str, row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    if row.state is not State.ACTIVE:
        return {}
    _, claimed, owner = row.lease.split(b"|", 2)
    return {"started_at": moment_or_none(claimed), "worker": owner.decode().strip()}


def _fields_of_end(queue: str, row: reads.Row, head: Mapping[str, str]) -> dict[str, Any]:
    return fields_of_outcome(row.outcome, queue, row.key) if row.state.is_finished else {}


def result_of(text: bytes, queue: str, key: str) -> bytes:
    """A stored result, unsealed if possible."""
    return encryption.unsealed(text, encryption.RESULT, queue, key)


def fields_of_outcome(outcome: bytes, queue: str, key: str) -> dict[str, Any]:
    """What a stored outcome says about when, where and how a job ended."""
    letter, finished, worker, started, text = outcome.split(b"|", 4)
    fields = {
        "started_at": moment_or_none(started),
        "finished_at": moment_or_none(finished),
        "worker": worker.decode(),
    }
    if letter == b"c":
        return fields | {"_result": result_of(text, queue, key), "progress": 100}
    return fields | {"error": error_of(text, queue, key)}


def _created_at(key: str) -> datetime:
    try:
        return moment(ids.created_ms(key))
    except (ValueError, OverflowError):  # not a key of ours
        return moment(0)


def log_lines_from(lines: list[bytes], queue: str, key: str) -> list[LogLine]:
    return [_log_line(line, queue, key) for line in lines]


def _log_line(line: bytes, queue: str, key: str) -> LogLine:
    at, _, text = line.partition(b"|")
    try:
        text = encryption.unseal(text, encryption.LOG, queue, key)
    except codecs.CannotOpen as error:
        text = f"({error})".encode()
    try:
        return LogLine(moment(at), text.decode(errors="replace"))
    except FOREIGN:
        return LogLine(moment(0), line.decode(errors="replace"))


def runs_from(texts: list[bytes], queue: str, key: str) -> list[Run]:
    return [_run(text, queue, key) for text in texts]


def _run(text: bytes, queue: str, key: str) -> Run:
    try:
        attempt, word, started, finished, delay, worker, error = text.split(b"|", 6)
        outcome = word.decode()
        is_cut_off = outcome in CUT_OFF  # its error is that of the previous run
        return Run(
            int(attempt),
            moment_or_none(started),
            moment(finished),
            worker.decode(),
            outcome,
            None if is_cut_off else error_of(error, queue, key),
            0.0 if is_cut_off else int(delay) / 1000,
            int(delay) if is_cut_off else 1,
        )
    except FOREIGN:
        return Run(0, None, moment(0), "", "unreadable", JobError.from_text(text), 0)
