"""An audit's findings, grouped by kind, so that people can read them however much is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from django_kue.audit.faults import Fault
from django_kue.audit.repair import repair
from django_kue.audit.walk import Auditor

FIRST = 5  # faults of each kind that are shown
CHUNK = 1000  # faults that are repaired together, while the audit goes on
ROUNDS = 4  # of repairs: a fault may have hidden others, which only the next audit finds


@dataclass(slots=True)
class Group:
    """The faults of one kind."""

    count: int = 0
    first: list[Fault] = field(default_factory=list)  #: five at most
    fixable: int = 0  #: how many can be repaired

    def add(self, fault: Fault) -> None:
        self.count += 1
        self.fixable += fault.fix is not None
        if len(self.first) < FIRST:
            self.first.append(fault)


@dataclass(slots=True)
class Findings:
    """What an audit of a queue found."""

    queue: str
    jobs: int = 0  #: how many were looked at
    kinds: dict[str, Group] = field(default_factory=dict)  #: the faults by kind
    unchecked: list[str] = field(default_factory=list)  #: what couldn't be looked at, and why

    @property
    def count(self) -> int:
        """How many faults there are."""
        return sum(group.count for group in self.kinds.values())

    @property
    def fixable(self) -> int:
        """How many of them :func:`mend` can repair."""
        return sum(group.fixable for group in self.kinds.values())


def look(queue: str) -> Findings:
    """Audit a queue, which may be at work meanwhile; nothing is changed.

    Raises:
        StoreUnavailable: Redis is away.
    """
    return _look(queue, repairing=False)


def mend(queue: str) -> Findings:
    """Audit a queue and repair what can be repaired, until none of that is left; returns what remains.

    Raises:
        StoreUnavailable: Redis is away; what was repaired so far stays repaired.
    """
    for _ in range(ROUNDS):
        found = _look(queue, repairing=True)
        if not found.fixable:
            return found
    return look(queue)


def _look(queue: str, *, repairing: bool) -> Findings:
    found, auditor = Findings(queue), Auditor(queue)
    for chunk in _chunks(auditor.faults()):
        for fault in chunk:
            found.kinds.setdefault(fault.kind, Group()).add(fault)
        if repairing:
            repair(queue, chunk)
    found.jobs, found.unchecked = auditor.jobs, auditor.unchecked
    return found


def _chunks(faults: Iterator[Fault]) -> Iterator[list[Fault]]:
    while chunk := list(islice(faults, CHUNK)):
        yield chunk
