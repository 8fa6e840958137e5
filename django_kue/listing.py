"""Lists of jobs, filtered and ordered: for people to page through and search, and for bulk operations.

A list of one state of one queue is exact, and each of its pages costs the same; so is a list of the failed
jobs of one function. Any other list looks at the newest 10,000 jobs, and says so.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar, cast

from django_kue import ids
from django_kue.conf import settings
from django_kue.errors import JobDoesNotExist
from django_kue.jobs import Job
from django_kue.moments import milliseconds_up
from django_kue.searching import Matcher, readable, search_hashes, title_of
from django_kue.sources import CHUNK, Entry, Source, Span, entries_of, lights, merged, whole_records
from django_kue.states import State
from django_kue.store import ask, reads, send

T = TypeVar("T")

LOOKED_AT = 10_000  # jobs, if no index can answer
MOST_QUEUES = 500  # declared ones first
FEW = 50  # long records per call
PATIENCE = 0.2  # seconds that looking at jobs one by one may take; the scope says how far it got
TIMED = (State.DELAYED, State.COMPLETED, State.FAILED, State.CANCELLED)  # states kept as sets sorted by time


class Scope(NamedTuple):
    """How far a list has looked: at the newest ``looked`` of ``total`` jobs."""

    looked: int
    total: int
    is_exact: bool  # every page can be reached, and nothing was left out


class Found(NamedTuple):
    """What a pass over the newest jobs has found."""

    entries: list[Entry]
    names: list[str]  # of their functions, in the same order
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Some jobs, ordered by their time ``at``: when they finished, are due, were started, or else were
    enqueued (see :func:`at_of`). An object remembers what it has read; make a new one to look again.

    Attributes:
        state, queue: only jobs in this state, in this queue; ``None``: in any.
        name: only jobs of the function that's stored under this name.
        since, until: aware; ``since <= at < until``.
        text: only jobs with this text in their title, function or error, ignoring case. An id finds just that
            job; ``order_id=17``, or a bare value, also finds jobs with such a search key.
        ids: only jobs with these ids.
        is_patient: looking at jobs one by one may take longer than :data:`PATIENCE`. This says how to look,
            not what to look for, so it isn't part of :meth:`as_dict`.

    >>> Listing(state="failed", queue="email").count()
    3
    """

    state: State | None = None
    queue: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""
    ids: tuple[str, ...] | None = None
    newest_first: bool = True
    is_patient: bool = field(default=False, compare=False)
    _memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.state is not None:
            object.__setattr__(self, "state", State(self.state))

    def but(self, **changes: Any) -> Listing:
        """A copy with other conditions, which hasn't read anything yet."""
        return replace(self, **changes, _memo={})

    # ── reading ──

    def count(self) -> int:
        """How many jobs there are: exactly, or among those that were looked at (see :meth:`scope`)."""
        return len(self._found.entries) if self._is_looked_for else sum(self._counts.values())

    def jobs(self, offset: int = 0, limit: int = 25) -> list[Job]:
        """A page. Lists of several queues or states can be paged through only up to :data:`LOOKED_AT`."""
        if self._is_looked_for:
            return self._read(self._found.entries[offset : offset + limit])
        return self._read(self._slice(offset, limit))

    def scope(self) -> Scope:
        """How far the list has looked."""
        if self._is_looked_for:
            return self._found.scope
        total = self.count()
        return Scope(total, total, len(self._sources) <= 1 or total <= LOOKED_AT)

    def keys(self, batch: int = CHUNK) -> Iterator[list[str]]:
        """All ids in batches, newest first."""
        for part in self.parts():
            skip = 0
            while found := part.entries(skip, batch):
                yield [entry.id for entry in found]
                skip += len(found)

    # ── for bulk work ──

    def parts(self, states: Collection[State] = tuple(State)) -> list[Listing]:
        """Lists of one queue and one of these states each, newest first, including empty ones; or this list
        alone, if its jobs have to be searched for."""
        if self._is_looked_for:
            return [replace(self, _memo=self._memo)]
        wanted = [state for state in State if state in states and self.state in (None, state)]
        return [
            self.but(queue=name, state=state, newest_first=True) for name in self._names for state in wanted
        ]

    def by_state(self) -> Mapping[State, int]:
        """How many jobs are in each state; empty, if they have to be searched for."""
        sums: Counter[State] = Counter()
        for (_, state), count in ({} if self._is_looked_for else self._counts).items():
            sums[state] += count
        return sums

    def entries(self, skip: int, most: int) -> list[Entry]:
        """A slice of one of the :meth:`parts`."""
        if self._is_looked_for:
            return self._found.entries[skip : skip + most]
        if self.queue is None or self.state is None:
            raise ValueError("entries() is for one of the parts()")
        source = Source(self.queue, self.state)
        return entries_of(source, skip, most, self._span, newest_first=self.newest_first)

    @property
    def is_snapshot(self) -> bool:
        """True when :meth:`entries` returns what a search found, not what's there now."""
        return self._is_looked_for

    def as_dict(self) -> dict[str, Any]:
        """A dict from which :meth:`from_dict` makes the same list; it can be a job's argument."""
        fields = {name: getattr(self, name) for name, one in self.__dataclass_fields__.items() if one.compare}
        return fields | {
            "state": self.state and str(self.state),
            "ids": None if self.ids is None else list(self.ids),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Listing:
        some = data.get("ids")
        return cls(**{**data, "ids": None if some is None else tuple(some)})

    # ── where to look ──

    @property
    def _is_looked_for(self) -> bool:
        """True when no index can answer, so that jobs have to be looked at one by one."""
        is_dated = self.since is not None or self.until is not None
        return (
            self.ids is not None
            or bool(self.text)
            or (self.name is not None and self.state is not State.FAILED)
            or (is_dated and self.state not in TIMED)
        )

    @property
    def _names(self) -> list[str]:
        if self.queue is not None:
            return [self.queue]
        return self._once("queues", queue_names)

    @property
    def _counts(self) -> dict[tuple[str, State], int]:
        """How many jobs each queue has in each state that's asked for, leaving out zeros."""
        return self._once("counts", self._read_counts)

    def _read_counts(self) -> dict[tuple[str, State], int]:
        names = self._names
        calls: list[Any] = (
            [reads.spans(name, **self._span._asdict()) for name in names]
            if self.state in TIMED
            else [reads.counts(name) for name in names]
        )
        found = zip(names, send(*calls) if calls else [], strict=True)
        states = [self.state] if self.state else list(State)
        return {(name, state): counts[state] for name, counts in found for state in states if counts[state]}

    @property
    def _sources(self) -> list[Source]:
        return [Source(queue, state) for queue, state in self._counts]

    @property
    def _span(self) -> Span:
        return Span(
            "-inf" if self.since is None else str(milliseconds_up(self.since)),
            "+inf" if self.until is None else f"({milliseconds_up(self.until)}",
            self.name or "" if self.state is State.FAILED else "",
        )

    def _slice(self, offset: int, limit: int) -> list[Entry]:
        sources = self._sources
        if len(sources) == 1:
            return entries_of(sources[0], offset, limit, self._span, newest_first=self.newest_first)
        stop = min(offset + limit, LOOKED_AT)
        return list(islice(self._merged(stop), offset, None))

    def _merged(self, most: int = LOOKED_AT) -> Iterator[Entry]:
        """The first ``most`` of all; delayed jobs come last, since they'd hide the others."""
        later = [source for source in self._sources if source.state is State.DELAYED]
        others = [source for source in self._sources if source.state is not State.DELAYED]
        parts = (merged(part, most, self._span, newest_first=self.newest_first) for part in (others, later))
        return islice(chain.from_iterable(parts), most)

    # ── looking ──

    @property
    def _found(self) -> Found:
        return self._once("found", self._look)

    def _look(self) -> Found:
        if self.ids is not None:
            return self._look_among(self.ids)
        if (job_id := self._id_in_text()) is not None:
            return self._look_among([job_id])
        base = self.but(text="", name=None, since=None, until=None, newest_first=True)
        indexed = self._indexed() if self.text else []
        kept, looked = self._sifted(base._merged(), Matcher(self.text) if self.text else None)
        found = dict(kept) | dict(self._sifted(indexed)[0])
        total = base.count()
        scope = Scope(min(looked, total), total, looked >= total)
        return self._arranged(found, scope)

    def _look_among(self, some: Iterable[str]) -> Found:
        kept, _ = self._sifted([_entry_of(job) for job in _read_jobs(_split(some))])
        return self._arranged(dict(kept), Scope(len(kept), len(kept), is_exact=True))

    def _arranged(self, found: dict[Entry, str], scope: Scope) -> Found:
        entries = sorted(found, reverse=self.newest_first)
        entries.sort(key=lambda entry: entry.state is State.DELAYED)  # as in _merged
        return Found(entries, [found[entry] for entry in entries], scope)

    def _sifted(
        self, entries: Iterable[Entry], matches: Matcher | None = None
    ) -> tuple[list[tuple[Entry, str]], int]:
        """The entries that match, each with its function's name, and how many were looked at."""
        deadline = math.inf if self.is_patient else time.monotonic() + PATIENCE
        kept: list[tuple[Entry, str]] = []
        looked, rest = 0, iter(entries)
        while time.monotonic() < deadline and (chunk := list(islice(rest, CHUNK))):
            looked += len(chunk)
            within = [entry for entry in chunk if self._is_within(entry)]
            found = lights(within)
            if matches is not None:
                looked -= _lengthen(found, within, matches, deadline)
            for entry, (text, outcome) in zip(within, found, strict=True):
                record = readable(text)
                is_named = self.name is None or record.name == self.name
                if text and is_named and (matches is None or matches(record, outcome)):
                    kept.append((entry, record.name))
        return kept, looked

    def _is_within(self, entry: Entry) -> bool:
        return (
            (self.queue is None or entry.queue == self.queue)
            and (self.state is None or entry.state is self.state)
            and (self.since is None or entry.at_ms >= milliseconds_up(self.since))
            and (self.until is None or entry.at_ms < milliseconds_up(self.until))
        )

    def _id_in_text(self) -> str | None:
        try:
            ids.split(self.text)
        except JobDoesNotExist:
            return None
        return self.text

    def _indexed(self) -> list[Entry]:
        """The jobs that have the text as a search key, however old they are."""
        hashes = search_hashes(self.text)
        names = self._names if hashes else []
        pages = send(*[reads.having(name, hashes, CHUNK) for name in names]) if names else []
        keys = [(name, key) for name, page in zip(names, pages, strict=True) for key in page]
        return [_entry_of(job) for job in _read_jobs(keys)]

    def _read(self, entries: list[Entry]) -> list[Job]:
        """The jobs themselves, in the same order, without those that have since left the list."""
        found = {job.id: job for job in _read_jobs([(entry.queue, entry.key) for entry in entries])}
        jobs = (found.get(entry.id) for entry in entries)
        return [job for job in jobs if job is not None and self.state in (None, job.state)]

    def _once(self, what: str, find: Callable[[], T]) -> T:
        if what not in self._memo:
            self._memo[what] = find()
        return cast(T, self._memo[what])


def at_of(job: Job) -> datetime:
    """A job's time in lists: when it finished, is due, was started, or else was enqueued."""
    if job.is_finished:
        return job.finished_at or job.created_at
    if job.state is State.DELAYED:
        return job.run_at or job.created_at
    if job.state is State.ACTIVE:
        return job.started_at or job.created_at
    return job.created_at


def tally(listing: Listing, by: str) -> dict[str, int]:
    """How many jobs there are by ``"queue"``, ``"state"`` or ``"name"``: as exact as the list itself, but
    names are counted only among the jobs that are looked at, unless those are failed ones."""
    if by == "name":
        return _tally_of_names(listing)
    if listing._is_looked_for:
        return dict(Counter(str(getattr(entry, by)) for entry in listing._found.entries))
    sums: Counter[str] = Counter()
    for (queue, state), count in listing._counts.items():
        sums[queue if by == "queue" else str(state)] += count
    return dict(sums)


def _tally_of_names(listing: Listing) -> dict[str, int]:
    if listing._is_looked_for:
        return dict(Counter(listing._found.names))
    if listing.state is State.FAILED and not (listing.since or listing.until or listing.name):
        sums: Counter[str] = Counter()
        for counts in send(*[reads.failing(name) for name in listing._names]):
            sums.update(counts)
        return dict(sums)
    kept, _ = listing._sifted(listing._merged())
    return dict(Counter(name for _, name in kept))


def queue_names() -> list[str]:
    """The queues that are looked at: the declared ones, then others that ever had jobs; at most 500."""
    declared = list(settings.queues)
    others = sorted(set(ask(reads.registry()).queues) - set(declared))
    return [*declared, *others][:MOST_QUEUES]


# ── how ──


def _read_jobs(keys: list[tuple[str, bytes]]) -> list[Job]:
    by_queue: dict[str, list[bytes]] = {}
    for queue, key in keys:
        by_queue.setdefault(queue, []).append(key)
    chunks = [
        (queue, some[first : first + CHUNK])
        for queue, some in by_queue.items()
        for first in range(0, len(some), CHUNK)
    ]
    pages = send(*[reads.rows(queue, some) for queue, some in chunks]) if chunks else []
    return [Job.from_row(queue, row) for (queue, _), rows in zip(chunks, pages, strict=True) for row in rows]


def _lengthen(
    found: list[tuple[bytes, bytes]], entries: list[Entry], matches: Matcher, deadline: float
) -> int:
    """Replace records that came back cut by whole ones, where the title needs them; return for how many there
    was no time."""
    cut = [
        at
        for at, (text, _) in enumerate(found)
        if len(text) >= reads.LIGHT and matches.needs_arguments(readable(text))
    ]
    for first in range(0, len(cut), FEW):
        if time.monotonic() >= deadline:
            return len(cut) - first
        some = cut[first : first + FEW]
        for at, record in zip(some, whole_records([entries[at] for at in some]), strict=True):
            found[at] = (record, found[at][1])
    return 0


def _split(some: Iterable[str]) -> list[tuple[str, bytes]]:
    found = []
    for job_id in some:
        try:
            queue, key = ids.split(job_id)
        except JobDoesNotExist:
            continue  # not one of our ids, so there's no such job
        found.append((queue, key.encode()))
    return found


def _entry_of(job: Job) -> Entry:
    return Entry(milliseconds_up(at_of(job)), job.state, job.queue, job.key.encode())


__all__ = ["LOOKED_AT", "Listing", "Scope", "at_of", "queue_names", "tally", "title_of"]
