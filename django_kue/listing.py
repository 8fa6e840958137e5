"""Which jobs people look at, and in what order: lists, searches, and what bulk work goes through.

A state of one queue is exact and any page of it costs the same; so are failed jobs of one function.
Whatever else is asked looks at the newest 10,000 jobs, and says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Any, NamedTuple, TypeVar, cast

from django_kue import codecs, ids, records, registry
from django_kue.codecs import search_hash
from django_kue.conf import settings
from django_kue.errors import JobDoesNotExist
from django_kue.jobs import Job
from django_kue.redaction import is_secret
from django_kue.rows import FOREIGN, JobError
from django_kue.states import State
from django_kue.store import ask, reads, send

T = TypeVar("T")

LOOKED_AT = 10_000  # jobs, where there's no index
MOST_QUEUES = 500  # declared ones first
CHUNK = 1000  # keys a call
PATIENCE = 0.2  # seconds that a search for text may take; it says how far it got
TIMED = (State.DELAYED, State.COMPLETED, State.FAILED, State.CANCELLED)  # states that are sets by time


class Scope(NamedTuple):
    """How far a list has looked: at the newest ``looked`` of ``total`` jobs."""

    looked: int
    total: int
    is_exact: bool  # every page can be reached, and nothing was left out


class Entry(NamedTuple):
    """A job in a list, before it's read."""

    at_ms: int
    state: State
    queue: str
    key: bytes


class Found(NamedTuple):
    """What a pass over the newest jobs has found."""

    entries: list[Entry]
    names: list[str]  # of their functions, in the same order
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Some jobs, in the order of their time ``at``: when they finished, are due, were started, or else were
    enqueued (see :func:`at_of`). One object remembers what it has looked at; make a new one to look again.

    Attributes:
        state, queue: only of this state, of this queue; ``None``: of all.
        name: only of the function that's stored under this name.
        since, until: aware; ``since <= at < until``.
        text: only what it's found in, in any case: title, function or error. An id finds just that job;
            ``order_id=17``, or a bare value, what has such a search key.
        ids: only among these.

    >>> Listing(state="failed", queue="email").count()  # doctest: +SKIP
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
    _memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.state is not None:
            object.__setattr__(self, "state", State(self.state))

    # ── reading ──

    def count(self) -> int:
        """How many there are: exactly, or of those that were looked at (see :meth:`scope`)."""
        return len(self._found.entries) if self._is_looked_for else sum(self._counts.values())

    def jobs(self, offset: int = 0, limit: int = 25) -> list[Job]:
        """A page. Lists of several queues or states can be paged through as far as :data:`LOOKED_AT`."""
        if self._is_looked_for:
            return self._read(self._found.entries[offset : offset + limit])
        return self._read(self._slice(offset, limit))

    def scope(self) -> Scope:
        """How far it looked."""
        if self._is_looked_for:
            return self._found.scope
        total = self.count()
        return Scope(total, total, len(self._sources) <= 1 or total <= LOOKED_AT)

    def keys(self, batch: int = CHUNK) -> Iterator[list[str]]:
        """All ids in batches, the newest first."""
        for part in self.parts():
            skip = 0
            while found := part.batch(skip, batch):
                yield found
                skip += len(found)

    # ── for bulk work ──

    def parts(self) -> list[Listing]:
        """Lists of one queue and state each, or this one, if it has been looked for."""
        if self._is_looked_for:
            return [replace(self, _memo=self._memo)]
        return [replace(self, queue=q, state=s, newest_first=True, _memo={}) for q, s in self._sources]

    def batch(self, skip: int, most: int) -> list[str]:
        """Ids from a rank on, the newest first, of one of the :meth:`parts`."""
        if self._is_looked_for:
            entries = self._found.entries[skip : skip + most]
        else:
            if self.queue is None or self.state is None:
                raise ValueError("batch() is for one of the parts()")
            entries = self._heads([(self.queue, self.state)], skip, most)[0]
        return [f"{entry.queue}.{entry.key.decode(errors='backslashreplace')}" for entry in entries]

    @property
    def is_snapshot(self) -> bool:
        """True when :meth:`batch` tells of what was found, not of what's there now."""
        return self._is_looked_for

    def as_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict` makes the same list of; it can be a job's argument."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "_memo"}
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
        """True when no index answers, so that jobs have to be looked at one by one."""
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
        """How many jobs each queue has in each state that's asked for, without those that have none."""
        return self._once("counts", self._read_counts)

    def _read_counts(self) -> dict[tuple[str, State], int]:
        names = self._names
        calls: list[Any] = (
            [reads.spans(name, **self._span) for name in names]
            if self.state in TIMED
            else [reads.counts(name) for name in names]
        )
        found = zip(names, send(*calls) if calls else [], strict=True)
        states = [self.state] if self.state else list(State)
        return {(name, state): counts[state] for name, counts in found for state in states if counts[state]}

    @property
    def _sources(self) -> list[tuple[str, State]]:
        return list(self._counts)

    @property
    def _span(self) -> dict[str, str]:
        return {
            "since": "-inf" if self.since is None else str(_ms(self.since)),
            "until": "+inf" if self.until is None else f"({_ms(self.until)}",
            "name": self.name or "" if self.state is State.FAILED else "",
        }

    def _heads(self, sources: list[tuple[str, State]], offset: int, most: int) -> list[list[Entry]]:
        calls = [
            reads.heads(queue, state, offset, most, newest_first=self.newest_first, **self._span)
            for queue, state in sources
        ]
        return [
            [Entry(_created(key) if at is None else at, state, queue, key) for key, at in pairs]
            for (queue, state), pairs in zip(sources, send(*calls) if calls else [], strict=True)
        ]

    def _slice(self, offset: int, limit: int) -> list[Entry]:
        sources = self._sources
        if len(sources) == 1:
            return self._heads(sources, offset, limit)[0]
        stop = min(offset + limit, LOOKED_AT)
        return self._merged(stop)[offset:stop]

    def _merged(self, most: int) -> list[Entry]:
        """The first ``most`` of all queues and states."""
        heads = self._heads(self._sources, 0, most)
        # Each is nearly in the order of its times; waiting jobs come by priority.
        ordered = [sorted(head, key=_by_time, reverse=self.newest_first) for head in heads]
        return list(merge(*ordered, key=_by_time, reverse=self.newest_first))[:most]

    # ── looking ──

    @property
    def _found(self) -> Found:
        return self._once("found", self._look)

    def _look(self) -> Found:
        if self.ids is not None:
            return self._look_among(self.ids)
        if (job_id := self._id_in_text()) is not None:
            return self._look_among([job_id])
        base = replace(self, text="", name=None, since=None, until=None, newest_first=True, _memo={})
        candidates = base._slice(0, LOOKED_AT)
        indexed = self._indexed() if self.text else []
        rest = self._not_among(candidates, indexed)
        matching, looked = self._sifted(rest, self._matches_text if self.text else _anything)
        entries = sorted(
            [*self._sifted(indexed, _anything)[0], *matching], key=_first, reverse=self.newest_first
        )
        total = base.count()
        scope = Scope(min(looked + len(candidates) - len(rest), total), total, looked >= total)
        return Found([entry for entry, _ in entries], [name for _, name in entries], scope)

    def _look_among(self, some: Iterable[str]) -> Found:
        entries = [entry for entry in self._entries_of(some) if self._is_within(entry)]
        sifted, _ = self._sifted(entries, _anything)
        ordered = sorted(sifted, key=_first, reverse=self.newest_first)
        scope = Scope(len(ordered), len(ordered), is_exact=True)
        return Found([entry for entry, _ in ordered], [name for _, name in ordered], scope)

    def _sifted(
        self, entries: list[Entry], matches: Callable[[records.Record, bytes], bool]
    ) -> tuple[list[tuple[Entry, str]], int]:
        """Those that match, each with its function's name, and how many were looked at."""
        deadline = time.monotonic() + PATIENCE
        kept: list[tuple[Entry, str]] = []
        for first in range(0, len(entries), CHUNK):
            if time.monotonic() > deadline:
                return kept, first
            chunk = entries[first : first + CHUNK]
            for entry, (text, outcome) in zip(chunk, _lights(chunk), strict=True):
                record = _record(text)
                if text and self._is_within(entry) and self._is_named(record) and matches(record, outcome):
                    kept.append((entry, record.name))
        return kept, len(entries)

    def _is_within(self, entry: Entry) -> bool:
        return (
            (self.queue is None or entry.queue == self.queue)
            and (self.state is None or entry.state is self.state)
            and (self.since is None or entry.at_ms >= _ms(self.since))
            and (self.until is None or entry.at_ms < _ms(self.until))
        )

    def _is_named(self, record: records.Record) -> bool:
        return self.name is None or record.name == self.name

    def _matches_text(self, record: records.Record, outcome: bytes) -> bool:
        wanted = self.text.casefold()
        return (
            wanted in record.name.casefold()
            or wanted in title_of(record).casefold()
            or (outcome[:1] in (b"f", b"x") and wanted in _error_text(outcome).casefold())
        )

    def _id_in_text(self) -> str | None:
        try:
            ids.split(self.text)
        except JobDoesNotExist:
            return None
        return self.text

    def _indexed(self) -> list[Entry]:
        """The jobs that have what's searched for as a search key: all of them, not just new ones."""
        hashes = _search_hashes(self.text)
        calls = [reads.find(name, [one], CHUNK) for name in self._names for one in hashes]
        pages = send(*calls) if calls else []
        queues = [name for name in self._names for _ in hashes]
        jobs = {
            job.id: job
            for queue, rows in zip(queues, pages, strict=True)
            for job in (Job.from_row(queue, row) for row in rows)
        }
        return [entry for entry in map(_entry_of, jobs.values()) if self._is_within(entry)]

    @staticmethod
    def _not_among(entries: list[Entry], others: list[Entry]) -> list[Entry]:
        known = {(entry.queue, entry.key) for entry in others}
        return [entry for entry in entries if (entry.queue, entry.key) not in known] if known else entries

    def _entries_of(self, some: Iterable[str]) -> list[Entry]:
        return [_entry_of(job) for job in _read_jobs(_split(some))]

    def _read(self, entries: list[Entry]) -> list[Job]:
        """The jobs themselves, in the same order, without those that have left the list meanwhile."""
        found = {job.id: job for job in _read_jobs([(entry.queue, entry.key) for entry in entries])}
        jobs = (
            found.get(f"{entry.queue}.{entry.key.decode(errors='backslashreplace')}") for entry in entries
        )
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
    """How many of the jobs there are by ``"queue"``, ``"state"`` or ``"name"``: exactly, as far as the list
    itself is; names only among those that are looked at, unless the jobs are failed ones."""
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
    sifted, _ = listing._sifted(listing._slice(0, LOOKED_AT), _anything)
    return dict(Counter(name for _, name in sifted))


def queue_names() -> list[str]:
    """The queues that are looked at: the declared ones, then others that ever had jobs; at most 500."""
    declared = list(settings.queues)
    others = sorted(set(ask(reads.registry()).queues) - set(declared))
    return [*declared, *others][:MOST_QUEUES]


def title_of(record: records.Record) -> str:
    """The title of a job whose record was read, as :attr:`Job.title` has it."""
    if record.options and (title := _options(record).get("title")):
        return str(title)
    definition = registry.get(record.name)
    if definition is None:
        return record.name
    try:
        return definition.title_for(*records.decode_arguments(record.arguments, fetch=False))
    except (ValueError, TypeError, LookupError):  # written for another signature
        return record.name


# ── how ──


def _options(record: records.Record) -> Mapping[str, Any]:
    try:
        found = codecs.loads(record.options)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _anything(record: records.Record, outcome: bytes) -> bool:
    return True


def _record(text: bytes) -> records.Record:
    try:
        return records.decode(text)
    except FOREIGN:
        return records.Record({}, "(unreadable)", b"", b"")


def _error_text(outcome: bytes) -> str:
    text = outcome.split(b"|", 4)[-1]
    error = JobError.from_text(text) if text.endswith(b"}") else None
    # The beginning of a long error is no JSON; words are found in it all the same.
    return error.summary if error else text.decode(errors="replace")


def _search_hashes(text: str) -> list[str]:
    """The hashes of the search keys that a text may mean."""
    name, is_named, value = text.partition("=")
    known = {key for function in registry.functions() for key in function.options.search_keys}
    names = {name.strip()} if is_named else known
    values: list[Any] = [(value if is_named else text).strip()]
    if values[0].lstrip("-").isdecimal():
        values.append(int(values[0]))
    return [search_hash(key, one) for key in sorted(names & known) if not is_secret(key) for one in values]


def _lights(entries: list[Entry]) -> list[tuple[bytes, bytes]]:
    """Records and outcomes of some entries, in their order."""
    by_queue: dict[str, list[int]] = {}
    for at, entry in enumerate(entries):
        by_queue.setdefault(entry.queue, []).append(at)
    calls = [reads.lights(queue, [entries[at].key for at in places]) for queue, places in by_queue.items()]
    lights: list[tuple[bytes, bytes]] = [(b"", b"")] * len(entries)
    for places, pairs in zip(by_queue.values(), send(*calls) if calls else [], strict=True):
        for at, pair in zip(places, pairs, strict=True):
            lights[at] = pair
    return lights


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


def _split(some: Iterable[str]) -> list[tuple[str, bytes]]:
    found = []
    for job_id in some:
        try:
            queue, key = ids.split(job_id)
        except JobDoesNotExist:
            continue  # no id of ours: no such job
        found.append((queue, key.encode()))
    return found


def _entry_of(job: Job) -> Entry:
    return Entry(_ms(at_of(job)), job.state, job.queue, job.key.encode())


def _by_time(entry: Entry) -> tuple[int, bytes]:
    return entry.at_ms, entry.key


def _first(pair: tuple[Entry, str]) -> tuple[int, bytes]:
    return _by_time(pair[0])


def _created(key: bytes) -> int:
    try:
        return ids.created_ms(key.decode())
    except ValueError:  # not a key of ours
        return 0


def _ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


__all__ = ["LOOKED_AT", "Listing", "Scope", "at_of", "queue_names", "tally", "title_of"]
