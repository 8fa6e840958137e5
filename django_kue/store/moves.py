"""What changes jobs: one function per move or order, each of which returns a :class:`Call`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from django_kue import measures
from django_kue.conf import QueueSettings, settings
from django_kue.records import Alike, NewJob
from django_kue.scripts import load
from django_kue.states import MOVES, State
from django_kue.store.calls import BETWEEN, Call, call, packed_beginning

BULK = 1000  # jobs per call: a script's arguments must fit on Lua's stack
RESCUED = 1000  # jobs per sweep: MOST in scripts/lib/rescue.lua


@cache
def retention(queue: QueueSettings) -> bytes:
    """A queue's retention, in the format of ``scripts/lib/finish.lua``: ``state=count:ms``."""
    parts = []
    for state in ("completed", "failed", "cancelled"):
        count, age = getattr(queue, f"keep_{state}"), getattr(queue, f"keep_{state}_for")
        parts.append(f"{state}={count}:{int(age * 1000)}")
    return " ".join(parts).encode()


def enqueue(
    queue: str, jobs: Sequence[NewJob], *, sender: bytes, number: int, is_forwarded: bool = False
) -> Call[list[bytes]]:
    """Store new jobs, at most :data:`BULK`. Replies their keys in order, for a duplicate the first job's.
    Only plain jobs that are :class:`~django_kue.records.Alike` take the fast path; the other takes any.

    ``sender`` and ``number`` identify this send: repeated, it changes nothing. ``is_forwarded``: somebody
    already has the keys, so a duplicate's must lead to the first job's.
    """
    if isinstance(jobs, Alike) and jobs.template.is_plain:
        encoded = [sender, b"%d" % number, b"%d" % jobs.template.priority]
        encoded += chain.from_iterable(zip(jobs.keys, jobs.encode(), strict=True))
        return Call(load("enqueue"), queue, encoded, lambda reply: jobs.keys)
    arguments: list[bytes | str | int] = [sender, number]
    for job in jobs:
        arguments += [
            job.key,
            job.encode(),
            job.priority,
            job.delay or 0,
            "" if job.run_at is None else job.run_at,
            job.expires or "",
            job.unique_for,
            int(is_forwarded),
        ]
    return call("enqueue_special", queue, *arguments)


def enqueue_one(
    queue: str, key: bytes, record: bytes, priority: bytes, sender: bytes, number: int
) -> Call[None]:
    """:func:`enqueue` for one plain job."""
    return Call(load("enqueue"), queue, (sender, b"%d" % number, priority, key, record), lambda reply: None)


def enqueue_one_packed(
    queue: str, key: bytes, record: bytes, priority: bytes, sender: bytes, number: int
) -> bytes:
    """:func:`enqueue_one`, already :meth:`~Call.packed`, in a third of the time."""
    counted = b"%d" % number
    return b"".join(
        (
            packed_beginning(settings.PREFIX, queue, "enqueue", 5),
            BETWEEN[len(sender)], sender,
            BETWEEN[len(counted)], counted,
            BETWEEN[len(priority)], priority,
            BETWEEN[len(key)], key,
            BETWEEN[len(record)], record,
            b"\r\n",
        )
    )  # fmt: skip


class Owner(NamedTuple):
    """The holder of leases, a child process of a worker. ``text`` is padded, see :func:`owner`."""

    name: str
    text: bytes


def owner(name: str) -> Owner:
    """Make an owner. Its text makes every lease longer than 64 bytes: Redis would keep shorter ones in a
    packed list, which is slow with many active jobs."""
    return Owner(name, name.ljust(60).encode())


class Turn(NamedTuple):
    """The reply to :func:`turn`."""

    wait: int  # ms until the next delayed job or free rate; PAUSED, FULL, EMPTY; 0: there may be more
    refused: list[bytes]
    cancelled: list[bytes]
    lease: bytes
    keys: list[bytes]
    records: list[bytes]
    expired: list[bytes]
    promoted: list[bytes]


PAUSED, FULL, EMPTY = -1, -2, -3

Batches = Mapping[bytes, Sequence[tuple[bytes, bytes]]]  # lease → (key, outcome)
PLAIN = ord("c")  # completed, with nothing else to do


def turn(
    queue: str,
    owner: Owner,
    *,
    want: int,
    sequence: int,
    batches: Batches,
    switches: str = "",
    work_ms: int = 0,
) -> Call[Turn]:
    """A worker's turn: settle ``batches``, promote what's due, claim up to ``want``."""
    limits = settings.queue_or_default(queue)
    rate = limits.rate
    arguments: tuple[bytes | str | int, ...] = (
        want,
        owner.text,
        lease_ms(),
        sequence,
        switches,
        retention(limits),
        settings.MAX_RUNS,
        limits.max_crashes,
        limits.concurrency or "",
        f"{rate.count}:{rate.period_ms}" if rate else "",
        work_ms,
    )
    told: list[bytes] = []
    # Released jobs join the front, batch by batch: what was claimed first has to go there last.
    for lease, outcomes in sorted(batches.items(), key=_claim_number, reverse=True):
        parts: Sequence[tuple[bytes, Sequence[tuple[bytes, bytes]]]] = [(b"c", outcomes)]
        if not all(text[0] == PLAIN for _, text in outcomes):
            parts = [
                (b"c", [pair for pair in outcomes if pair[1][0] == PLAIN]),
                (b"", [pair for pair in outcomes if pair[1][0] != PLAIN]),
            ]
        for kind, pairs in parts:
            if pairs:
                keys, texts = zip(*pairs, strict=True)
                told += [lease, b"%d" % len(pairs), kind, *keys]
                told += [text[1:] for text in texts] if kind else texts
    return call("turn", queue, *arguments, rest=told, read=_read_turn)


def _claim_number(batch: tuple[bytes, Any]) -> int:
    number = batch[0].partition(b"|")[0]
    return int(number) if number.isdigit() else 0


def _read_turn(reply: Any) -> Turn:
    return Turn(*reply)


def standby(queue: str, owner: Owner, *, sequence: int) -> Call[Turn | None]:
    """A turn of an idle worker, on a queue without limits: claim one plain job.

    Replies ``None`` when it claimed nothing; if something is waiting then, that needs a :func:`turn`.
    """
    return call("standby", queue, owner.text, lease_ms(), sequence, read=_read_standby)


def _read_standby(reply: Any) -> Turn | None:
    if reply is None:
        return None
    wait, lease, key, record = reply
    return Turn(wait, [], [], lease, [key], [record], [], [])


def lease_ms() -> int:
    return int(settings.LEASE * 1000)


class Rescue(NamedTuple):
    """Keys of the jobs that were taken back from the dead."""

    taken: list[bytes]
    failed: list[bytes]  # those of them that failed, because they crashed too often
    is_first: int  # 1: Redis knows of no earlier sweep


def rescue(queue: str) -> Call[Rescue]:
    """A sweep: jobs of dead owners go back, and jobs past their retention are removed.

    At most :data:`RESCUED` jobs go back in one sweep; if that many did, the next may follow at once.
    """
    limits = settings.queue_or_default(queue)
    arguments = lease_ms(), retention(limits), settings.MAX_RUNS, limits.max_crashes
    return call("rescue", queue, *arguments, read=lambda reply: Rescue(*reply))


class Beat(NamedTuple):
    is_alive: bool
    to_stop: list[bytes]  # keys of jobs that were cancelled or removed while running


def beat(queue: str, owner: Owner) -> Call[Beat]:
    """Renew an owner's lease; an owner that was declared dead is told so."""
    return call(
        "beat", queue, owner.text, lease_ms(), read=lambda reply: Beat(reply[0] == 1, list(reply[1:]))
    )


def sync(queue: str, owner: Owner, leases: Iterable[bytes]) -> Call[list[bytes]]:
    """Give back what was claimed by calls whose reply was lost: leases that this owner doesn't know of."""
    return call("sync", queue, owner.text, retention(settings.queue_or_default(queue)), *leases)


class Burial(NamedTuple):
    """Keys of a dead owner's jobs."""

    given_back: list[bytes]
    settled: list[bytes]
    failed: list[bytes]  # those of all these that failed …
    cancelled: list[bytes]  # … or were cancelled, because somebody had asked them to stop


def bury(queue: str, owner: Owner, ends: Mapping[bytes, bytes]) -> Call[Burial]:
    """Bury a dead owner: settle what it was running (key → outcome), and give back the rest."""
    limits = settings.queue_or_default(queue)
    pairs = [part for pair in ends.items() for part in pair]
    arguments = owner.text, retention(limits), settings.MAX_RUNS, limits.max_crashes
    return call("bury", queue, *arguments, *pairs, read=lambda reply: Burial(*reply))


class Report(NamedTuple):
    """What a running job reports: kind p (progress), l (a log line), y (a suspect started)."""

    lease: bytes
    key: bytes
    kind: bytes
    text: bytes


def report(queue: str, reports: Sequence[Report]) -> Call[list[bytes]]:
    """Write reports; replies the keys whose reports were refused because the lease is no longer theirs."""
    return call("report", queue, settings.MAX_LOG_LINES, *[part for report in reports for part in report])


class Answer(NamedTuple):
    """What a verb did to one job."""

    before: State | None  # None: there's no such job
    is_done: bool
    is_held: bool = False  # another job holds its unique key
    at_ms: int = 0  # when it was done


# verb → the states it's legal in; the verbs that aren't moves change no state
LEGAL = {name: MOVES[name].sources for name in ("promote", "cancel", "requeue", "remove")}
LEGAL["set_priority"] = frozenset(State)


def verb(name: str, queue: str, keys: Sequence[str | bytes], argument: int | str = "") -> Call[list[Answer]]:
    """Apply what people ask for: promote, cancel, requeue, remove, set_priority."""
    legal = ",".join(sorted(LEGAL[name]))
    return call(
        "verbs", queue, name, argument, retention(settings.queue_or_default(queue)), legal, *keys,
        read=lambda reply: [_answer(text.decode()) for text in reply],
    )  # fmt: skip


def _answer(text: str) -> Answer:
    if text == "":
        return Answer(None, False)
    if text == "held":
        return Answer(None, False, is_held=True)
    if text.startswith("ok:"):
        _, before, at_ms = text.split(":")
        return Answer(State(before), True, at_ms=int(at_ms))
    return Answer(State(text), False)


def empty(queue: str, most: int = BULK) -> Call[tuple[int, int]]:
    """Remove up to ``most`` waiting and delayed jobs; replies how many were removed, and how many stale
    entries were passed."""
    return call("empty", queue, most, read=tuple)


def clean(queue: str, state: State, before_ms: int, most: int = BULK) -> Call[int]:
    """Remove up to ``most`` jobs that finished before ``before_ms``; replies how many."""
    return call("clean", queue, state, before_ms, most)


def pause(queue: str, *, paused: bool) -> Call[bool]:
    """Pause or resume a queue for all workers at once; replies whether that changed anything."""
    return call("pause", queue, int(paused), read=bool)


def listen(queue: str, ms: int) -> Call[int]:
    """Ask for this queue's events for the next ``ms`` milliseconds."""
    return call("listen", queue, ms)


def announce(
    worker: str, text: bytes, *, is_leaving: bool = False, busy: int = 0, slots: int = 0
) -> Call[str]:
    """Announce a worker and how it is; replies an order ("stop") or "".

    ``busy`` of ``slots`` were in use, each added up over the samples since the last time.
    """
    tiers = measures.in_words(measures.TIERS)
    return call("workers", None, worker, text, int(is_leaving), tiers, busy, slots, read=bytes.decode)


def measure(queue: str, row: measures.Row | None, functions: Mapping[str, measures.Row]) -> Call[Any]:
    """Add measurements to a queue's current buckets, and note how many jobs are waiting."""
    pairs = [part for name, one in functions.items() for part in (name, one.encode())]
    return call(
        "measure", queue, measures.in_words(measures.TIERS), measures.in_words(measures.FUNCTION_TIERS),
        measures.MOST_FUNCTIONS, measures.OTHERS, b"" if row is None else row.encode(), *pairs,
    )  # fmt: skip
