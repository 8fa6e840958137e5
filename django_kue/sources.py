"""The sources of a list of jobs: each is one state of one queue, and several are merged by time.

A read asks for at most 1,000 keys, and no more is read from many sources than the merged list needs.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from django_kue.states import State
from django_kue.store import reads, send

CHUNK = 1000  # keys per call
LEAST = 50  # keys per call, for the first read of many sources


class Entry(NamedTuple):
    """A job in a list, before it's read. Entries sort by time."""

    at_ms: int
    state: State
    queue: str
    key: bytes

    @property
    def id(self) -> str:
        return f"{self.queue}.{self.key.decode(errors='backslashreplace')}"


_place = itemgetter(0, 1, 2)  # of an entry: time, state and queue


class Source(NamedTuple):
    """One state of one queue; for waiting jobs, optionally only those of one priority."""

    queue: str
    state: State
    priority: str = ""


class Span(NamedTuple):
    """The limits of a source that's a set sorted by time: scores as Redis writes them, and for failed jobs a
    function's name."""

    since: str = "-inf"
    until: str = "+inf"
    name: str = ""


ALL = Span()


def entries_of(
    source: Source, offset: int, limit: int, span: Span = ALL, *, newest_first: bool = True
) -> list[Entry]:
    """A slice of a source in its own order, which is that of :meth:`django_kue.Queue.jobs`."""
    starts = range(offset, offset + limit, CHUNK)
    calls = [_call(source, at, min(CHUNK, offset + limit - at), span, newest_first) for at in starts]
    pages = send(*calls) if calls else []
    return [entry for page in pages for entry in _entries(source, page)]


def merged(
    sources: Sequence[Source], most: int, span: Span = ALL, *, newest_first: bool = True
) -> Iterator[Entry]:
    """The first ``most`` jobs of all sources by time, read only as far as they're asked for.

    Waiting jobs are kept in the order in which they'll be claimed, priority by priority. Within a priority
    that's nearly by time, so each priority is a source. Jobs put at the front, or retried, come later.
    """
    sources = [part for source in _by_level(sources) for part in source]
    first = min(most, CHUNK, max(LEAST, 2 * most // max(1, len(sources))))
    heads = send(*[_call(source, 0, first, span, newest_first) for source in sources]) if sources else []
    runs = [
        _run(source, _entries(source, head), first, span, newest_first)
        for source, head in zip(sources, heads, strict=True)
    ]
    return islice(merge(*runs, key=_place, reverse=newest_first), most)


def all_waiting(queue: str) -> Iterator[Entry]:
    """Every waiting job of a queue, the last to be claimed first. One may come twice, if others join."""
    [levels] = send(reads.levels(queue))
    for priority in reversed(levels):
        for is_front in (False, True):
            passed, part = 0, None
            while part is None or part.passed:
                [part] = send(reads.standing(queue, priority, passed, CHUNK, is_front=is_front))
                passed += part.passed
                for key in part.keys:
                    yield Entry(_created(key), State.WAITING, queue, key)


def lights(entries: Sequence[Entry]) -> list[tuple[bytes, bytes]]:
    """Record and error of some jobs (at most :data:`CHUNK`), in their order; empty for jobs that are gone."""
    by_queue: dict[str, list[int]] = {}
    for at, entry in enumerate(entries):
        by_queue.setdefault(entry.queue, []).append(at)
    calls = [reads.lights(queue, [entries[at].key for at in places]) for queue, places in by_queue.items()]
    found: list[tuple[bytes, bytes]] = [(b"", b"")] * len(entries)
    for places, pairs in zip(by_queue.values(), send(*calls) if calls else [], strict=True):
        for at, pair in zip(places, pairs, strict=True):
            found[at] = pair
    return found


def whole_records(entries: Sequence[Entry]) -> list[bytes]:
    """Records of a few jobs, however long they are, in their order; empty for jobs that are gone."""
    by_queue: dict[str, list[bytes]] = {}
    for entry in entries:
        by_queue.setdefault(entry.queue, []).append(entry.key)
    pages = send(*[reads.rows(queue, keys) for queue, keys in by_queue.items()]) if by_queue else []
    found = {
        f"{queue}.{row.key}": row.record for queue, rows in zip(by_queue, pages, strict=True) for row in rows
    }
    return [found.get(entry.id, b"") for entry in entries]


def _by_level(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """The sources, those of waiting jobs split by priority."""
    waiting = [source for source in sources if source.state is State.WAITING]
    levels = send(*[reads.levels(source.queue) for source in waiting]) if waiting else []
    yield [source for source in sources if source.state is not State.WAITING]
    for source, priorities in zip(waiting, levels, strict=True):
        yield [source._replace(priority=priority) for priority in priorities]


def _run(source: Source, head: list[Entry], first: int, span: Span, newest_first: bool) -> Iterator[Entry]:
    """All entries of a source, read chunk by chunk as far as they're asked for."""
    at, size, chunk = len(head), first, head
    while chunk:
        # A chunk is nearly in that order already. Entries of the same time keep their order, so that pages,
        # whose chunks differ, agree about it.
        yield from sorted(chunk, key=_place, reverse=newest_first)
        if len(chunk) < size:
            break
        size = min(2 * size, CHUNK)
        chunk = entries_of(source, at, size, span, newest_first=newest_first)
        at += len(chunk)


def _call(source: Source, offset: int, limit: int, span: Span, newest_first: bool) -> Any:
    part = source.priority or span.name
    return reads.heads(
        source.queue, source.state, offset, limit,
        newest_first=newest_first, since=span.since, until=span.until, part=part,
    )  # fmt: skip


def _entries(source: Source, pairs: list[tuple[bytes, int | None]]) -> list[Entry]:
    queue, state = source.queue, source.state
    return [Entry(_created(key) if at is None else at, state, queue, key) for key, at in pairs]


_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _created(key: bytes) -> int:
    """Like :func:`ids.created_ms`, but fast: lists of waiting jobs call it for thousands of keys."""
    try:
        return int.from_bytes(a2b_base64(key[:8].translate(_URL_SAFE)))
    except ValueError:  # not a key of ours
        return 0


__all__ = ["CHUNK", "Entry", "Source", "Span", "entries_of", "lights", "merged", "whole_records"]
