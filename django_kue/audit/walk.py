"""The audit's walk through a queue's keys, in slices that hold Redis for a few milliseconds each.

Each slice is read at one moment, so what it says of a job or an index entry is true of that moment, however
busy the queue is. Only the waiting lists are too long to be read at once: jobs that weren't found on the
walk through them are suspects, and are looked up once more, each in one step with everything else about it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import isfinite
from typing import Any, TypeVar

from django_kue.audit import jobs, keys
from django_kue.audit.faults import Fault, IndexRepair, LevelRepair, RegistryRepair
from django_kue.audit.jobs import text_of
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.store import ask, audits, reads, ticking
from django_kue.store.audits import DONE, START, Dossier, Key, KeyRepair
from django_kue.store.calls import Call
from django_kue.store.moves import lease_ms

T = TypeVar("T")
SPOTS = 25  # suspects a call
BUDGET = 200_000  # list entries that a call may search for them: some 15 ms
TRIES = 3  # at counting a list's stale entries while nobody touches it


class Pace:
    """How much to ask for at once: as much as Redis handles in about five milliseconds."""

    LEAST, MOST, GOAL = 20, 500, 0.005

    def __init__(self) -> None:
        self.most = 200

    def ask(self, call: Call[T]) -> T:
        started = time.perf_counter()
        reply = ask(call)
        took = time.perf_counter() - started
        if took < self.GOAL / 2:
            self.most = min(self.most * 2, self.MOST)
        elif took > self.GOAL * 2:
            self.most = max(self.most // 2, self.LEAST)
        return reply


class Auditor:
    """One audit of one queue.

    It costs some 40 µs a job, half of it in Redis, in slices of about 10 ms, and some 150 bytes of memory
    here for each waiting job. The search for lost keys has to pass other programs' keys in the same database.
    """

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.unchecked: list[str] = []  # what couldn't be looked at, and why
        self.jobs = 0  # how many were looked at
        self._began_ms = 0
        self._pace = Pace()
        self._said: set[tuple[str, str, str]] = set()
        self._seats: dict[bytes, int] = {}  # waiting jobs that were found, and the priority of their list
        self._again: dict[bytes, set[int]] = {}  # … all priorities, of jobs found more than once

    def faults(self) -> Iterator[Fault]:
        """What's wrong, one fault at a time, as they're found.

        Raises:
            StoreUnavailable: Redis is away.
        """
        self._began_ms = ask(reads.registry()).now_ms
        found = self._keys()
        for steps in (
            (fault for key in found for fault in keys.judge_key(key)),
            self._values(found),
            self._levels(found),
            self._jobs(),
            self._places(),
            self._indexes(found),
            self._schedules(found),
            self._registry(),
        ):
            for fault in steps:
                if (said := (fault.kind, fault.name, fault.detail)) not in self._said:
                    self._said.add(said)
                    yield fault

    def _each(self, call: Callable[[bytes, int], Call[Any]]) -> Iterator[Any]:
        """All slices that ``call(cursor, most)`` asks for, one after the other."""
        cursor = START
        while True:
            reply = self._pace.ask(call(cursor, self._pace.most))
            yield reply
            cursor = reply.cursor
            if cursor == DONE:
                return

    # ── keys ──

    def _keys(self) -> list[Key]:
        """The queue's keys; if they can't be searched for, only those with a fixed name."""
        found: dict[bytes, Key] = {}
        try:
            for part in self._each(partial(audits.keys, self.queue)):
                found.update({key.name: key for key in part.found})
        except StoreUnavailable:
            raise
        except StoreError as error:
            self.unchecked.append(f"Keys that nothing refers to: Redis refused to search for them ({error}).")
            names = [name for name in keys.TYPES if name not in keys.PREFIXES]
            return [Key(name.encode(), keys.TYPES[name], -2, True) for name in names]
        return list(found.values())

    def _values(self, found: Iterable[Key]) -> Iterator[Fault]:
        for key in found:
            suffix = keys.suffix_of(key.name)
            if suffix in keys.FIELDS and key.type == "hash":
                for field, value in self._fields(key):
                    yield from keys.judge_field(key.name, field, value)
            elif suffix in keys.MEMBERS and key.type == "zset":
                for member, score in self._fields(key):
                    yield from keys.judge_member(key.name, member, score, self._began_ms, lease_ms())

    def _fields(self, key: Key) -> Iterator[tuple[bytes, bytes]]:
        for part in self._each(partial(audits.fields, self.queue, key.name, key.type)):
            yield from part.found

    # ── waiting lists ──

    def _levels(self, found: Iterable[Key]) -> Iterator[Fault]:
        lists = [keys.LIST.fullmatch(key.name) for key in found if key.type == "list"]
        names = {text_of(match[1]) for match in lists if match}
        members = (member for member, _ in self._fields(Key(b"p", "zset", -1, True)))
        names |= {text_of(member) for member in members if keys.PRIORITY.fullmatch(member)}
        for name in sorted(names, key=int):
            yield from self._level(name)

    def _level(self, priority: str) -> Iterator[Fault]:
        for _ in range(TRIES):
            passed = dead = 0
            first = part = self._slice(priority, 0)
            while part.passed:
                self._meet(priority, part.keys)
                passed += part.passed
                dead += part.dead
                part = self._slice(priority, passed)
            if passed and not first.is_level:
                yield Fault("level.missing", priority, f"{passed:,} entries", LevelRepair(priority))
            if first.shape == part.shape:
                yield from self._stale(priority, part, dead)
                return
        self.unchecked.append(
            f"How many entries of priority {priority} are stale: the list was never at rest. Pause the queue "
            "to have them counted."
        )

    def _slice(self, priority: str, first: int) -> audits.Level:
        return self._pace.ask(audits.level(self.queue, priority, first, self._pace.most))

    def _meet(self, priority: str, found: Iterable[bytes]) -> None:
        for key in found:
            if key in self._seats:
                self._again.setdefault(key, {self._seats[key]}).add(int(priority))
            self._seats[key] = int(priority)

    @staticmethod
    def _stale(priority: str, part: audits.Level, dead: int) -> Iterator[Fault]:
        wanted = dead if dead or part.has_front else None
        if part.noted != (b"" if wanted is None else b"%d" % wanted):
            detail = f"{dead:,} are stale, but the count is {text_of(part.noted) or 'missing'}"
            yield Fault("stale.miscounted", priority, detail, LevelRepair(priority, part.shape, wanted))

    # ── jobs ──

    def _jobs(self) -> Iterator[Fault]:
        suspects: dict[bytes, Dossier] = {}
        for part in self._each(partial(audits.jobs, self.queue)):
            self.jobs += len(part.found)
            for dossier in part.found:
                if self._is_placed(dossier):
                    yield from jobs.judge(dossier, self._where(dossier.key))
                else:
                    suspects[dossier.key] = dossier
            if len(suspects) >= SPOTS:
                yield from self._confirmed(suspects)
                suspects = {}
        yield from self._confirmed(suspects)

    def _is_placed(self, dossier: Dossier) -> bool:
        """Whether the job is in exactly one place, as far as is known."""
        if dossier.key in self._again:
            return False
        met = self._seats.get(dossier.key)
        places = len(jobs.places_of(dossier))
        if met is None or jobs.came_there_ms(dossier) > self._began_ms:
            return places == 1
        return not places and met == jobs.priority_of(dossier)

    def _confirmed(self, suspects: dict[bytes, Dossier]) -> Iterator[Fault]:
        left = [(key, key not in self._seats, self._where(key)) for key in suspects]
        while left:
            found = ask(audits.spots(self.queue, left[:SPOTS], BUDGET))
            left = left[len(found) :]
            for spots in found:
                faults = list(jobs.judge_place(spots))
                if not faults and spots.dossier.record is not None:
                    faults = list(jobs.judge(spots.dossier, self._where(spots.dossier.key)))
                yield from faults

    def _where(self, key: bytes) -> set[int]:
        """The priorities of the lists where a job was found."""
        return self._again.get(key) or ({self._seats[key]} if key in self._seats else set())

    def _places(self) -> Iterator[Fault]:
        """Keys that are stored somewhere but have no record."""
        for place in audits.PLACES:
            for part in self._each(partial(audits.places, self.queue, place)):
                for dossier in self._dossiers(part.found):
                    if dossier.record is None or place in ("ghosts", "marks"):
                        yield from self._judged(dossier)

    def _dossiers(self, found: list[bytes]) -> list[Dossier]:
        return ask(audits.dossiers(self.queue, found)) if found else []

    def _judged(self, dossier: Dossier) -> Iterator[Fault]:
        if dossier.record is None or self._is_placed(dossier):
            yield from jobs.judge(dossier)

    # ── indexes ──

    def _indexes(self, found: Iterable[Key]) -> Iterator[Fault]:
        yield from self._index("unique", b"", "unique.wrong")
        yield from self._index("failing", b"", "failed.miscounted")
        for key in found:
            _, _, part = key.name.partition(b":")
            if keys.suffix_of(key.name) == "fn:":
                yield from self._index("failed_by", part, "failed.mislisted")
            elif keys.suffix_of(key.name) == "s:":
                yield from self._index("search", part, "search.wrong")

    def _index(self, name: str, part: bytes, kind: str) -> Iterator[Fault]:
        for reply in self._each(partial(audits.index, self.queue, name, part)):
            for entry in reply.wrong:
                detail = f"under {text_of(part)}" if part else ""
                yield Fault(kind, text_of(entry), detail, IndexRepair(name, part, entry))
            if not reply.is_counted:
                yield Fault("failed.miscounted", text_of(part), "", IndexRepair(name, part))

    # ── schedules ──

    def _schedules(self, found: Iterable[Key]) -> Iterator[Fault]:
        """What seems wrong is looked at once more: schedules come and go meanwhile."""
        kinds = {key.name: key.type for key in found}
        if kinds.get(b"sc", "hash") != "hash" or kinds.get(b"sz", "zset") != "zset":
            return  # their types are reported as faults, and repaired first
        ticks = self._ticks()
        names = {name for name, _ in self._fields(Key(b"sc", "hash", -1, True))}
        for name in ticks.keys() - names:
            if name in self._ticks() and not ask(ticking.schedules(self.queue, name)).schedules:
                yield Fault("schedule.gone", text_of(name), "", KeyRepair("member", b"sz", name))
        for name in names - {name for name, score in ticks.items() if isfinite(float(score))}:
            for stored in ask(ticking.schedules(self.queue, name)).schedules:
                if stored.next_ms is None and keys.is_on(stored.record):
                    yield Fault("schedule.stopped", text_of(name), "", KeyRepair("tick", b"sz", name))

    def _ticks(self) -> dict[bytes, bytes]:
        """The next tick of each schedule, as Redis writes scores."""
        return dict(self._fields(Key(b"sz", "zset", -1, True)))

    def _registry(self) -> Iterator[Fault]:
        if self.jobs and self.queue not in ask(reads.registry()).queues:
            yield Fault("queue.unregistered", self.queue, "", RegistryRepair())
