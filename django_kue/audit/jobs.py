"""Judges a job: what's wrong with it, according to its dossier. No I/O."""

from __future__ import annotations

import json
import re
from binascii import Error
from collections.abc import Iterable, Iterator
from hashlib import sha1

from django_kue import ids, records
from django_kue.audit.faults import Fault
from django_kue.codecs import SEAL
from django_kue.store.audits import TEXT, Dossier, JobRepair, Spots

STATES = {
    "delayed": "d",
    "completed": "c",
    "failed": "f",
    "cancelled": "x",
}  # and the letters of their outcomes
OUTCOME = re.compile(rb"([cfx])\|\d+\|[^|]*\|\d*\|", re.DOTALL)
WHOLE = re.compile(r"-?\d{1,15}")


def text_of(name: bytes) -> str:
    """Any bytes as text, to show and to compare."""
    return name.decode(errors="backslashreplace")


def places_of(dossier: Dossier) -> list[str]:
    """The states that the key is in, apart from the waiting lists."""
    found = ["active"] if dossier.lease is not None else []
    return found + [state for state in STATES if getattr(dossier, state) is not None]


def came_there_ms(dossier: Dossier) -> int:
    """When an active or finished job got into its state; 0 for other jobs."""
    claimed = (dossier.lease or b"").split(b"|")[1:2]
    times = [*claimed, dossier.completed, dossier.failed, dossier.cancelled]
    return max(int(time) if time and time.isdigit() else 0 for time in times)


def priority_of(dossier: Dossier) -> int:
    """The priority as the scripts read it: anything that isn't a number counts as 0."""
    return int(_whole(_head_of(dossier).get("p", "")))


def seat_of(dossier: Dossier) -> str:
    return _head_of(dossier).get("s", "")


def _head_of(dossier: Dossier) -> dict[str, str]:
    """The record's head as the scripts read it; works for any text."""
    head, bar, _ = (dossier.record or b"").partition(b"|")
    tokens = head.decode(errors="backslashreplace").split(",") if bar else []
    found: dict[str, str] = {}
    for token in tokens:
        if token:
            found.setdefault(token[0], token[1:])
    return found


def _whole(text: str) -> int:
    return int(text) if WHOLE.fullmatch(text) else 0


# ── all of a job ──


def judge(dossier: Dossier, met: Iterable[int] = ()) -> Iterator[Fault]:
    """What's wrong with a job that's in exactly one state, or with a key that has no record.

    ``met``: the priorities of the lists in which the job was found.
    """
    if dossier.record is None:
        yield from _without_record(dossier)
        return
    [state] = places_of(dossier) or ["waiting"]
    yield from _unreadable(dossier, state, met)
    yield from _leased(dossier)
    yield from _ended(dossier, state)
    yield from _held(dossier, state)
    if dossier.lost_hashes:
        yield _fault("search.missing", dossier, f"by {text_of(dossier.lost_hashes)}")
    if not dossier.in_side and _head_of(dossier).keys() & {"k", "b"}:
        yield _fault("side.missing", dossier)


def judge_place(spots: Spots) -> Iterator[Fault]:
    """What's wrong with a job's place, now that its entries in the lists have been looked up."""
    dossier, counts = spots
    if dossier.record is None:
        return
    places, entries = places_of(dossier), sum(counts.values())
    own = priority_of(dossier)
    others = _joined(priority for priority in counts if priority != own)
    if not places and not entries:
        yield _fault("job.nowhere", dossier, "", "nowhere", seat_of(dossier))
    elif len(places) + entries > 1:
        where = [*places, *(f"waiting ({n}×, priority {p})" for p, n in counts.items() if n)]
        fault = ("places", seat_of(dossier), others) if entries else ()
        yield _fault("job.twice", dossier, " and ".join(where), *fault)
    elif not places and not counts.get(own):
        yield _fault("job.misplaced", dossier, f"its priority is {own}", "places", seat_of(dossier), others)


def _joined(priorities: Iterable[int]) -> str:
    return ",".join(map(str, priorities))


def _fault(kind: str, dossier: Dossier, detail: str = "", *fault: str) -> Fault:
    return Fault(kind, text_of(dossier.key), detail, JobRepair(dossier.key, created_ms(dossier.key), *fault))


def created_ms(key: bytes) -> int:
    """When a job's key was made; 0 for a key that django-kue didn't make."""
    try:
        return ids.created_ms(key.decode())
    except (ValueError, Error):
        return 0


def _without_record(dossier: Dossier) -> Iterator[Fault]:
    places = places_of(dossier)
    places += [name for name in ("kept_completed", "kept_failed", "kept_cancelled") if getattr(dossier, name)]
    places += [name for name in ("outcome", "progress") if getattr(dossier, name) is not None]
    if dossier.in_side:
        places.append("side")
    if places:
        yield _fault("job.gone", dossier, ", ".join(places))
    yield from _leased(dossier)


# ── parts of it ──


def _unreadable(dossier: Dossier, state: str, met: Iterable[int]) -> Iterator[Fault]:
    text = dossier.record or b""
    if state != "failed" and len(text) < TEXT and not _can_be_read(text):
        yield _fault("job.unreadable", dossier, repr(text[:60]), "unreadable", _digest(text), _joined(met))
    if dossier.progress is not None and len(dossier.progress) < TEXT and not _is_progress(dossier.progress):
        digest = _digest(dossier.progress)
        yield _fault("progress.unreadable", dossier, repr(dossier.progress[:60]), "progress", digest)


def _can_be_read(text: bytes) -> bool:
    try:
        record = records.decode(text)
        options = json.loads(record.options or b"{}")
        arguments = [] if record.arguments.startswith(SEAL) else json.loads(record.arguments or b"[]")
    except records.NewerRecord:
        return True  # a newer release can
    except (ValueError, RecursionError):
        return False
    numbers = [record.head.get(letter, "0") for letter in "pmcze"]
    return (
        isinstance(options, dict)
        and isinstance(arguments, list | dict)
        and all(WHOLE.fullmatch(number) for number in numbers)
    )


def _is_progress(text: bytes) -> bool:
    if text.startswith(SEAL):  # only a holder of the key can tell
        return True
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and len(value) == 2 and type(value[0]) in (int, float)


def _digest(text: bytes) -> str:
    return sha1(text, usedforsecurity=False).hexdigest()


def _leased(dossier: Dossier) -> Iterator[Fault]:
    lease, ghost = dossier.lease, dossier.ghost
    if ghost is not None and ghost == lease:
        yield _fault("lease.ghost", dossier)
    if lease is not None and dossier.record is not None and not dossier.is_watched:
        yield _fault("lease.unwatched", dossier, _owner(lease))
    if ghost is not None and not dossier.is_ghost_watched:
        yield _fault("lease.unwatched", dossier, f"{_owner(ghost)}, of a removed job")
    if dossier.mark is not None and dossier.mark not in (lease, ghost):
        yield _fault("mark.lost", dossier)


def _owner(lease: bytes) -> str:
    return f"to {text_of(lease.rpartition(b'|')[2]).strip()!r}"


def _ended(dossier: Dossier, state: str) -> Iterator[Fault]:
    letter = STATES.get(state, "")
    if letter in ("", "d"):
        if dossier.outcome is not None:
            yield _fault("outcome.early", dossier, f"it's {state}")
    elif not (match := OUTCOME.match(dossier.outcome or b"")) or match[1].decode() != letter:
        said = "it has none" if dossier.outcome is None else repr(dossier.outcome[:60])
        yield _fault("outcome.wrong", dossier, f"{state}, {said}")
    for other in ("completed", "failed", "cancelled"):
        if other != state and getattr(dossier, f"kept_{other}") is not None:
            yield _fault("kept.wrong", dossier, f"kept as {other}, it's {state}")
    keep = _head_of(dossier).get("q", "")
    # Not for a completed job: the keep that its run knew applies, which may be a different one.
    if letter in ("f", "x") and keep.isdigit() and getattr(dossier, f"kept_{state}") is None:
        yield _fault("kept.wrong", dossier, f"to be kept for {keep} ms")
    if state == "failed" and dossier.listed != dossier.failed:
        yield _fault("failed.unlisted", dossier)


def _held(dossier: Dossier, state: str) -> Iterator[Fault]:
    """Whether it holds its unique key. One that's released before the job finishes may go to another."""
    _, colon, mode = _head_of(dossier).get("u", "").partition(":")
    letter = STATES.get(state) or state[0]
    if colon and mode != "t" and {"w", "d", "a", letter} <= set(mode) and dossier.holder != dossier.key:
        yield _fault("unique.missing", dossier)
