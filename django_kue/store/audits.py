"""What an audit asks: slices of a queue's keys, each of one moment, and repairs, which check again first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django_kue.store.calls import Call, call
from django_kue.store.moves import lease_ms

TEXT = 16_384  # bytes of a record that a dossier shows, as in scripts/lib/dossier.lua
DONE = b"0"  # the cursor after the last slice
START = b"0"
PLACES = (
    "leases", "ghosts", "marks", "delayed", "completed", "failed", "cancelled",
    "kept_completed", "kept_failed", "kept_cancelled", "outcomes", "progress", "side",
)  # fmt: skip


class Dossier(NamedTuple):
    """All the places where a job's key is, read at one moment. Times are scores as Redis writes them."""

    key: bytes
    record: bytes | None  # its first TEXT bytes
    lease: bytes | None
    is_watched: int  # whether the death of the lease's owner would be noticed
    ghost: bytes | None
    is_ghost_watched: int
    mark: bytes | None
    delayed: bytes | None
    completed: bytes | None
    failed: bytes | None
    cancelled: bytes | None
    kept_completed: bytes | None
    kept_failed: bytes | None
    kept_cancelled: bytes | None
    outcome: bytes | None  # its beginning
    progress: bytes | None
    in_side: int
    listed: bytes | None  # its score among its function's failed jobs
    holder: bytes | None  # the job that holds its unique key
    lost_hashes: bytes  # search keys by which it can't be found, joined by +


class Slice(NamedTuple):
    """A part of something long, and where the next part begins; :data:`DONE` after the last."""

    cursor: bytes
    found: list[Any]


def _slice(reply: list[Any]) -> Slice:
    return Slice(reply[0], reply[1:])


def jobs(queue: str, cursor: bytes, most: int) -> Call[Slice]:
    """A slice of the jobs, as dossiers."""
    return call(
        "audit_jobs", queue, cursor, most,
        read=lambda reply: Slice(reply[0], [Dossier(*row) for row in reply[1:]]),
    )  # fmt: skip


def dossiers(queue: str, keys: Sequence[bytes]) -> Call[list[Dossier]]:
    """The dossiers of these keys, whether or not they have records."""
    return call("audit_jobs", queue, "", "", *keys, read=lambda reply: [Dossier(*row) for row in reply[1:]])


class Spots(NamedTuple):
    """A dossier, and how often the job's own entry is in the waiting lists, by priority."""

    dossier: Dossier
    counts: dict[int, int]


def spots(
    queue: str, suspects: Sequence[tuple[bytes, bool, Iterable[int]]], budget: int
) -> Call[list[Spots]]:
    """Where the entries of some jobs are: (key, whether to look for only one, lists besides its own).

    Replies at least for the first job; stops once ``budget`` entries were looked at.
    """
    words: list[bytes | str | int] = [budget]
    for key, is_once, priorities in suspects:
        words += (key, int(is_once), ",".join(map(str, priorities)))

    def read(reply: list[Any]) -> list[Spots]:
        return [
            Spots(Dossier(*row), {int(one): n for one, n in zip(flat[::2], flat[1::2], strict=True)})
            for row, flat in reply
        ]

    return call("audit_spots", queue, *words, read=read)


class Level(NamedTuple):
    """A slice of a priority's waiting lists."""

    shape: bytes  # changes when anything touches the lists
    is_level: bool
    noted: bytes  # stale entries; empty when none are noted
    has_front: bool
    passed: int  # entries in this slice; 0 after the last
    dead: int  # how many of them are stale
    keys: list[bytes]  # of the others


def level(queue: str, priority: str, first: int, most: int) -> Call[Level]:
    """A slice of a priority's waiting lists, by the distance from their end."""

    def read(reply: list[Any]) -> Level:
        shape, is_level, noted, has_front, passed, dead, *keys = reply
        return Level(shape, is_level == 1, noted, has_front == 1, passed, dead, keys)

    return call("audit_level", queue, priority, first, most, read=read)


def places(queue: str, place: str, cursor: bytes, most: int) -> Call[Slice]:
    """A slice of one of :data:`PLACES`: keys that need checking."""
    return call("audit_places", queue, place, cursor, most, read=_slice)


class Index(NamedTuple):
    cursor: bytes
    is_counted: bool
    wrong: list[bytes]


def index(queue: str, name: str, part: bytes, cursor: bytes, most: int) -> Call[Index]:
    """A slice of an index (``failed_by``, ``failing``, ``search``, ``unique``): its wrong entries."""
    return call(
        "audit_index", queue, name, part, cursor, most,
        read=lambda reply: Index(reply[0], reply[1] == 1, reply[2:]),
    )  # fmt: skip


class Key(NamedTuple):
    """A key of the queue; ``name`` is what follows the common prefix of its keys."""

    name: bytes
    type: str
    lives_ms: int  # -1: for ever
    is_clean: bool  # False: lists of a job or schedule that nothing would clean up


def keys(queue: str, cursor: bytes, most: int) -> Call[Slice]:
    """A slice of the server's keys: those that belong to this queue."""

    def read(reply: list[Any]) -> Slice:
        cursor, *flat = reply
        rows = zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
        return Slice(cursor, [Key(name, kind.decode(), ms, clean == b"1") for name, kind, ms, clean in rows])

    return call("audit_keys", queue, cursor, most, read=read)


def fields(queue: str, name: bytes, kind: str, cursor: bytes, most: int) -> Call[Slice]:
    """A slice of a hash's fields, or of a sorted set's members: pairs."""

    def read(reply: list[Any]) -> Slice:
        cursor, *flat = reply
        return Slice(cursor, list(zip(flat[::2], flat[1::2], strict=True)))

    return call("audit_fields", queue, name, kind, cursor, most, read=read)


# ── repairs ──


class JobRepair(NamedTuple):
    """A job to be put right, in the terms of ``scripts/repair_jobs.lua``."""

    key: bytes
    created_ms: int
    fault: str = ""
    seen: str = ""
    priorities: str = ""


def repair_jobs(queue: str, repairs: Sequence[JobRepair]) -> Call[list[bytes]]:
    """Put jobs right; replies the keys of those that were no longer as the audit saw them."""
    return call("repair_jobs", queue, lease_ms(), *[word for one in repairs for word in one])


def repair_index(queue: str, name: str, part: bytes, entries: Sequence[bytes]) -> Call[int]:
    """Drop wrong entries of an index."""
    return call("repair_index", queue, name, part, *entries)


def repair_level(queue: str, priority: str, shape: bytes, dead: int | None) -> Call[int]:
    """Put a priority among the levels, and note its stale entries unless its lists were touched."""
    return call("repair_level", queue, priority, shape, "" if dead is None else dead)


class KeyRepair(NamedTuple):
    """A key to be put right, in the terms of ``scripts/repair_keys.lua``."""

    what: str
    name: bytes
    extra: bytes = b""
    value: bytes = b""


def repair_keys(queue: str, repairs: Sequence[KeyRepair]) -> Call[int]:
    """Put keys right; replies how many still needed that."""
    return call("repair_keys", queue, *[word for one in repairs for word in one])
