"""The newest failures, grouped by function and kind of error, so that a hundred from one bug are one line."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django_kue.jobs import Job
from django_kue.overview import QueueOverview
from django_kue.states import State
from django_kue.store import reads, send

LOOKED_AT = 100  # newest failed jobs in total; no more, since they're read with their tracebacks
LEAST = 5  # of each queue
SHOWN = 120  # characters of a message

# What differs between two cases of one bug, longest forms first: UUIDs, our own keys and other long ids,
# hexadecimal numbers, numbers.
_PARTICULARS = re.compile(
    r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|\b0x[0-9a-fA-F]+\b"
    r"|\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9_-]{16,}(?![\w-])"
    r"|\d+(?:[.,:]\d+)*"
)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one function that look like one bug."""

    name: str  # of the function
    kind: str  # dotted name of the exception
    pattern: str  # its message's first line, with numbers and ids as …
    count: int  # among the failures that were looked at
    first: datetime
    last: datetime
    newest: Job

    @property
    def error(self) -> str:
        """The exception's own name, without its module."""
        return self.kind.rpartition(".")[2]

    @property
    def words(self) -> str:
        """What to search for to find the others: the longest part of the message without particulars."""
        return max((part.strip(" '\":,()[]") for part in self.pattern.split("…")), key=len)


@dataclass(frozen=True, slots=True)
class Failures:
    """The newest failures in groups, the group with the newest one first."""

    groups: tuple[FailureGroup, ...]
    looked_at: int  # jobs
    of: int  # failed jobs in total


def newest_failures(queues: Sequence[QueueOverview], groups: int = 10) -> Failures:
    """The newest failures of these queues.

    Raises:
        StoreUnavailable: Redis is away.
    """
    failing = [queue.name for queue in queues if queue.counts["failed"]]
    if not failing:
        return Failures((), 0, 0)
    most = max(LEAST, LOOKED_AT // len(failing))
    replies = send(*[reads.page(name, State.FAILED, 0, most, newest_first=True) for name in failing])
    jobs = [Job.from_row(name, row) for name, rows in zip(failing, replies, strict=True) for row in rows]
    total = sum(queue.counts["failed"] for queue in queues)
    return Failures(tuple(grouped(jobs)[:groups]), len(jobs), total)


def grouped(jobs: Iterable[Job]) -> list[FailureGroup]:
    """Failed jobs in groups, the group with the newest failure first."""
    alike: dict[tuple[str, str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        kind, message = (job.error.type, job.error.message) if job.error else ("", "")
        alike[job.name, kind, pattern_of(message)].append(job)
    found = [_group(*key, some) for key, some in alike.items()]
    return sorted(found, key=lambda group: group.last, reverse=True)


def pattern_of(message: str) -> str:
    """What an error's message has in common with others from the same bug.

    >>> pattern_of("Order 17 of 'b0b5e7a2-1111-2222-3333-444455556666' not found\\nmore")
    "Order … of '…' not found"
    """
    line = message.strip().partition("\n")[0][:1000]
    pattern = _PARTICULARS.sub("…", line)
    return pattern if len(pattern) <= SHOWN else pattern[: SHOWN - 1] + "…"


def _group(name: str, kind: str, pattern: str, jobs: list[Job]) -> FailureGroup:
    by_end = sorted(jobs, key=_ended)
    return FailureGroup(name, kind, pattern, len(jobs), _ended(by_end[0]), _ended(by_end[-1]), by_end[-1])


def _ended(job: Job) -> datetime:
    return job.finished_at or job.created_at
