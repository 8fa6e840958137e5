"""What an audit can find: a kind each, with what it means and what a repair does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from django_kue.store.audits import JobRepair, KeyRepair


class IndexRepair(NamedTuple):
    """An index's entry to drop, or with none of them a function's failed jobs to count."""

    name: str
    part: bytes
    entry: bytes | None = None


class LevelRepair(NamedTuple):
    """A priority to put right; with a ``shape`` its stale entries are noted, too."""

    priority: str
    shape: bytes = b""
    dead: int | None = None


class RegistryRepair(NamedTuple):
    """The queue is to join the registry."""


Fix = JobRepair | KeyRepair | IndexRepair | LevelRepair | RegistryRepair


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that's wrong."""

    kind: str  #: such as ``job.nowhere``
    name: str  #: a job's key, or a key of Redis by what follows ``PREFIX:{queue}:``
    detail: str = ""
    fix: Fix | None = None  # None: nothing that a program should decide

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}{': ' if self.detail else ''}{self.detail}>"


class Kind(NamedTuple):
    meaning: str
    repair: str


KINDS = {
    # jobs
    "job.nowhere": Kind(
        "Jobs that are in no state: no worker will ever take them.",
        "They go back to where their outcome or their time says they were, else they wait, at the back.",
    ),
    "job.twice": Kind(
        "Jobs that are in two places: they may run once too often.",
        "One place is kept: where it's running, else where it's still to run, else where it ended.",
    ),
    "job.misplaced": Kind(
        "Jobs that wait in the list of another priority than theirs.",
        "They join the back of their own priority.",
    ),
    "job.unreadable": Kind(
        "Jobs whose stored record can't be read.",
        "They're quarantined: failed, with that as their error. The record stays as it is. A running one is "
        "left to its worker, which fails it.",
    ),
    "job.gone": Kind(
        "Keys of jobs that have no record: it was lost, or deleted by hand.",
        "They leave the places where they stand.",
    ),
    "lease.unwatched": Kind(
        "Jobs that are leased to a process whose death nobody would notice.",
        "The lease gets a time limit: if the process lives it goes on, else others take the jobs.",
    ),
    "lease.ghost": Kind(
        "Jobs that are active, and still counted as removed under the same lease.", "They're active."
    ),
    "mark.lost": Kind("Orders to stop for runs that are over.", "They're dropped."),
    "outcome.wrong": Kind(
        "Finished jobs whose outcome is missing, or isn't that of their state.",
        "They get an outcome without a result or an error. What stood there is put aside.",
    ),
    "outcome.early": Kind("Jobs that have an outcome and aren't finished.", "The outcome is put aside."),
    "progress.unreadable": Kind("Progress that can't be read.", "It's put aside."),
    "kept.wrong": Kind(
        "Finished jobs that aren't noted to go when their own time is over, or unfinished ones that are.",
        "It's noted, or not.",
    ),
    # indexes
    "failed.unlisted": Kind(
        "Failed jobs that aren't listed under their function.", "They're listed, and counted."
    ),
    "failed.mislisted": Kind(
        "Jobs that are listed as failed under a function, and aren't.", "They leave the list."
    ),
    "failed.miscounted": Kind("Functions whose failed jobs are miscounted.", "They're counted again."),
    "search.missing": Kind("Jobs that can't be found by one of their search keys.", "They can."),
    "side.missing": Kind(
        "Jobs that have search keys, or came by an outbox, and of which something would be left behind.",
        "What hangs on them goes with them.",
    ),
    "search.wrong": Kind("Search keys that lead to jobs that don't have them.", "The entries are dropped."),
    "unique.missing": Kind(
        "Jobs that should hold their unique key: a second one could be enqueued.",
        "They hold it, unless another does by now.",
    ),
    "unique.wrong": Kind(
        "Unique keys that are held by jobs whose they aren't: a job could be taken for a duplicate of them.",
        "They're let go.",
    ),
    # waiting lists
    "level.missing": Kind(
        "Priorities that no worker looks at, though jobs wait in their lists.", "Workers look at them."
    ),
    "level.wrong": Kind("Priorities that aren't one, or stand in the wrong order.", "They're put right."),
    "stale.miscounted": Kind(
        "Waiting lists whose stale entries are miscounted: the number of waiting jobs is wrong.",
        "They're counted again.",
    ),
    # keys
    "key.type": Kind(
        "Keys of another type than django-kue writes: calls that need them fail.",
        "They're put aside, under `bad:`, and what belongs there is made again from the rest.",
    ),
    "key.unknown": Kind(
        "Keys that this release doesn't know.",
        "None: a newer release may have written them. If you know that nobody needs them, delete them.",
    ),
    "key.forever": Kind("Keys that should expire, and don't.", "They expire."),
    "lists.lost": Kind(
        "Log lines and runs that nobody would clean up.",
        "Those of jobs that are gone are deleted; the others are noted to go with their job.",
    ),
    "value.wrong": Kind(
        "Values that aren't what belongs there: calls that need them may fail.", "They're put aside."
    ),
    "owner.forever": Kind(
        "Processes whose leases don't end: if they die, nobody takes back their jobs.",
        "Their leases end as any others, unless they're renewed.",
    ),
    "schedule.stopped": Kind(
        "Schedules that are on and have no next tick: they'd never run again.", "They run once, now."
    ),
    "schedule.gone": Kind(
        "Ticks of schedules that have no record: it was lost, or deleted by hand.",
        "They're dropped. What's declared comes back with the next worker that looks.",
    ),
    "queue.unregistered": Kind(
        "The queue isn't in the registry: once it isn't declared any more, its jobs would be hidden.",
        "It joins the registry.",
    ),
}  # fmt: skip
