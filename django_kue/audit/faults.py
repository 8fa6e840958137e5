"""What an audit can find: the kinds of faults, with what each means and what a repair does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from django_kue.store.audits import JobRepair, KeyRepair


class IndexRepair(NamedTuple):
    """An index entry to drop; without an entry, a function whose failed jobs are to be counted again."""

    name: str
    part: bytes
    entry: bytes | None = None


class LevelRepair(NamedTuple):
    """A priority to put right; with a ``shape``, the count of its stale entries is set too."""

    priority: str
    shape: bytes = b""
    dead: int | None = None


class RegistryRepair(NamedTuple):
    """The queue has to be added to the registry."""


Fix = JobRepair | KeyRepair | IndexRepair | LevelRepair | RegistryRepair


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that's wrong."""

    kind: str  #: such as ``job.nowhere``
    name: str  #: a job's key, or the part of a Redis key that follows ``PREFIX:{queue}:``
    detail: str = ""
    fix: Fix | None = None  # None: not for a program to decide

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}{': ' if self.detail else ''}{self.detail}>"


class Kind(NamedTuple):
    meaning: str
    repair: str


KINDS = {
    # jobs
    "job.nowhere": Kind(
        "Jobs that are in no state: no worker will ever take them.",
        "They go back to the state that their outcome or their due time points to; otherwise they wait, at "
        "the back.",
    ),
    "job.twice": Kind(
        "Jobs that are in two places: they may run once too often.",
        "Each keeps one place: where it's running, else where it has yet to run, else where it has ended.",
    ),
    "job.misplaced": Kind(
        "Jobs that wait in the list of a priority other than their own.",
        "They join the back of their own priority.",
    ),
    "job.unreadable": Kind(
        "Jobs whose stored record can't be read.",
        "They're quarantined: failed, with that as their error. The record stays as it is. A running one is "
        "left to its worker, which fails it.",
    ),
    "job.gone": Kind(
        "Keys of jobs that have no record: it was lost, or deleted by hand.",
        "They're removed from the places where they're stored.",
    ),
    "lease.unwatched": Kind(
        "Jobs that are leased to a process whose death nobody would notice.",
        "The lease gets a time limit: if the process lives it carries on, else other workers take the jobs.",
    ),
    "lease.ghost": Kind(
        "Jobs that are active, but also noted as removed under the same lease.", "They stay active."
    ),
    "mark.lost": Kind("Orders to stop for runs that are over.", "They're dropped."),
    "outcome.wrong": Kind(
        "Finished jobs whose outcome is missing, or doesn't match their state.",
        "They get an outcome without a result or an error. The old one is put aside.",
    ),
    "outcome.early": Kind("Jobs that have an outcome but aren't finished.", "The outcome is put aside."),
    "progress.unreadable": Kind("Progress that can't be read.", "It's put aside."),
    "kept.wrong": Kind(
        "Finished jobs that aren't noted for removal at the end of their own retention, or unfinished ones "
        "that are.",
        "The note is added, or dropped.",
    ),
    # indexes
    "failed.unlisted": Kind(
        "Failed jobs that aren't listed under their function.", "They're listed, and counted."
    ),
    "failed.mislisted": Kind(
        "Jobs that are listed as failed under a function, but aren't.", "They're taken off the list."
    ),
    "failed.miscounted": Kind("Functions whose failed jobs are miscounted.", "They're counted again."),
    "search.missing": Kind(
        "Jobs that can't be found by one of their search keys.", "They can be found by it again."
    ),
    "side.missing": Kind(
        "Jobs with search keys, or from an outbox, that would leave something behind when they're removed.",
        "They're noted, so that everything that belongs to them is removed with them.",
    ),
    "search.wrong": Kind("Search keys that lead to jobs that don't have them.", "The entries are dropped."),
    "unique.missing": Kind(
        "Jobs that should hold their unique key, but don't: a second one could be enqueued.",
        "They hold it again, unless another job does by now.",
    ),
    "unique.wrong": Kind(
        "Unique keys held by jobs that have no right to them: a new job could be taken for a duplicate.",
        "They're released.",
    ),
    # waiting lists
    "level.missing": Kind(
        "Priorities that no worker looks at, though jobs wait in their lists.", "Workers look at them again."
    ),
    "level.wrong": Kind(
        "Entries among the priorities that aren't priorities, or are in the wrong order.",
        "The former are dropped, the latter are put in order.",
    ),
    "stale.miscounted": Kind(
        "Waiting lists whose stale entries are miscounted: the number of waiting jobs is wrong.",
        "They're counted again.",
    ),
    # keys
    "key.type": Kind(
        "Keys whose type isn't the one that django-kue writes: calls that need them fail.",
        "They're put aside under `bad:`, and what belongs there is rebuilt from the other keys.",
    ),
    "key.unknown": Kind(
        "Keys that this release doesn't know.",
        "None: a newer release may have written them. If you know that nobody needs them, delete them.",
    ),
    "key.forever": Kind("Keys that should expire, but don't.", "They're given a time to live."),
    "lists.lost": Kind(
        "Log lines and runs that nobody would clean up.",
        "Those of jobs that are gone are deleted; the others are noted, and removed with their job.",
    ),
    "value.wrong": Kind("Values of the wrong form: calls that need them may fail.", "They're put aside."),
    "owner.forever": Kind(
        "Processes whose leases don't end: if they die, nobody takes back their jobs.",
        "Their leases end like any other, unless they're renewed.",
    ),
    "schedule.stopped": Kind(
        "Schedules that are on, but have no next tick: they'd never run again.", "They run once, now."
    ),
    "schedule.gone": Kind(
        "Ticks of schedules that have no record: it was lost, or deleted by hand.",
        "They're dropped. A schedule that's declared comes back when a worker next looks at declarations.",
    ),
    "queue.unregistered": Kind(
        "The queue isn't in the registry: once it's no longer declared, its jobs would be hidden.",
        "It's added to the registry.",
    ),
}  # fmt: skip
