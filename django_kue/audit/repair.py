"""Repairs what was found: each repair is one step in Redis, which checks again before it acts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from django_kue.audit.faults import Fault, Fix, IndexRepair, LevelRepair, RegistryRepair
from django_kue.store import ask, audits, reads
from django_kue.store.audits import JobRepair, KeyRepair

T = TypeVar("T")
BATCH = 100  # repairs a call
SLOW = ("places", "unreadable")  # these search whole lists: one a call


def repair(queue: str, faults: Iterable[Fault]) -> None:
    """Put right what can be put right. No job is lost: no record is ever deleted.

    Keys of a wrong type come first: their content is put aside, so that the rest can be restored. Only
    another audit finds what follows from that, so audit again afterwards, until nothing is left.

    Raises:
        StoreUnavailable: Redis is away.
        StoreError: a key of a wrong type was in the way.
    """
    by_sort: dict[type, list[Fix]] = defaultdict(list)
    for fault in faults:
        if fault.fix is not None:
            by_sort[type(fault.fix)].append(fault.fix)
    for sort, mend in _BY_SORT.items():
        mend(queue, list(dict.fromkeys(by_sort[sort])))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, BATCH)):
        yield batch


def _keys(queue: str, repairs: Sequence[KeyRepair]) -> None:
    for batch in _batches(sorted(repairs, key=lambda one: one.what != "type")):
        ask(audits.repair_keys(queue, batch))


def _jobs(queue: str, repairs: Sequence[JobRepair]) -> None:
    slow = [one for one in repairs if one.fault in SLOW]
    for batch in (*([one] for one in slow), *_batches(one for one in repairs if one.fault not in SLOW)):
        ask(audits.repair_jobs(queue, batch))


def _indexes(queue: str, repairs: Sequence[IndexRepair]) -> None:
    by_index: dict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for one in repairs:
        entries = by_index[one.name, one.part]
        if one.entry is not None:
            entries.append(one.entry)
    for (name, part), entries in by_index.items():
        for batch in _batches(entries) if entries else [[]]:
            ask(audits.repair_index(queue, name, part, batch))


def _levels(queue: str, repairs: Sequence[LevelRepair]) -> None:
    for one in repairs:
        ask(audits.repair_level(queue, one.priority, one.shape, one.dead))


def _registry(queue: str, repairs: Sequence[RegistryRepair]) -> None:
    if repairs:
        ask(reads.registry(queue))


_BY_SORT: dict[type, Callable[[str, Sequence[Fix]], None]] = {
    KeyRepair: _keys,  # type: ignore[dict-item]
    LevelRepair: _levels,  # type: ignore[dict-item]
    JobRepair: _jobs,  # type: ignore[dict-item]
    IndexRepair: _indexes,  # type: ignore[dict-item]
    RegistryRepair: _registry,  # type: ignore[dict-item]
}
