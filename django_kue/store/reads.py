"""What reads: each function returns a :class:`Call` whose reply is made of plain Python values."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from typing import Any, NamedTuple

from django_kue import measures
from django_kue.ids import QUEUE_NAME
from django_kue.states import State
from django_kue.store.calls import Call, call

STATES = (State.DELAYED, State.WAITING, State.ACTIVE, State.COMPLETED, State.FAILED, State.CANCELLED)


LAST_MS = 253_402_128_000_000  # 9999-12-30, which a datetime can hold in any time zone


def _ms(score: bytes) -> int:
    """A time from Redis; one that somebody set outside a datetime's range is moved to its bounds."""
    return int(min(max(float(score), 0), LAST_MS))


class Row(NamedTuple):
    """A job as stored; texts are as the scripts wrote them."""

    key: str
    state: State
    record: bytes
    lease: bytes  # sequence|claimed ms|owner
    score: int | None  # due or finished, ms
    outcome: bytes  # letter|finished|worker|started|result or error
    progress: bytes  # JSON [percent, data]
    last_run: bytes  # as in the list of runs
    is_marked: bool  # asked to stop


def _row(reply: list[Any]) -> Row:
    key, state, record, lease, score, outcome, progress, last_run, marked = reply
    return Row(
        _text(key), State(state.decode()), record, lease,
        _ms(score) if score else None, outcome, progress, last_run, marked == 1,
    )  # fmt: skip


def _rows(reply: list[Any]) -> list[Row]:
    return [_row(row) for row in reply]


def rows(queue: str, keys: Sequence[str | bytes]) -> Call[list[Row]]:
    """The jobs with these keys; those that don't exist are left out."""
    return call("read", queue, *keys, read=_rows)


def page(queue: str, state: State, offset: int, limit: int, *, newest_first: bool) -> Call[list[Row]]:
    """A page of a state's jobs, as :meth:`django_kue.Queue.jobs` orders them."""
    return call("page", queue, state, offset, limit, int(newest_first), read=_rows)


def heads(
    queue: str, state: State, offset: int, most: int, *, newest_first: bool, since: str, until: str, part: str
) -> Call[list[tuple[bytes, int | None]]]:
    """Keys of a state, with their times (ms; ``None`` for waiting jobs), in the order of :func:`page`.

    ``since`` and ``until`` are scores as Redis writes them, for finished and delayed jobs; ``part`` is a
    function's name for failed jobs, a priority for waiting ones, or "".
    """

    def read(reply: list[Any]) -> list[tuple[bytes, int | None]]:
        pairs = zip(reply[0::2], reply[1::2], strict=True)
        return [(key, _ms(time) if time else None) for key, time in pairs]

    return call("heads", queue, state, offset, most, int(newest_first), since, until, part, read=read)


def spans(queue: str, *, since: str, until: str, name: str) -> Call[dict[State, int]]:
    """How many finished and delayed jobs are in a span of time, as in :func:`heads`."""
    states = (State.DELAYED, State.COMPLETED, State.FAILED, State.CANCELLED)
    return call("spans", queue, since, until, name, read=lambda reply: dict(zip(states, reply, strict=True)))


LIGHT = 4096  # bytes of a record, as in lights.lua


def lights(queue: str, keys: Sequence[str | bytes]) -> Call[list[tuple[bytes, bytes]]]:
    """The records of some jobs, cut after :data:`LIGHT` bytes, and for failed and cancelled ones the
    beginning of the outcome; empty for what isn't there."""
    return call("lights", queue, *keys, read=lambda reply: list(zip(*reply, strict=True)))


def levels(queue: str) -> Call[list[str]]:
    """The priorities that waiting jobs have."""
    return call("levels", queue, read=lambda reply: [*map(_text, reply)])


class Standing(NamedTuple):
    passed: int  # entries of the list in this slice; 0 at its beginning
    keys: list[bytes]


def standing(queue: str, priority: str, first: int, most: int, *, is_front: bool) -> Call[Standing]:
    """Waiting jobs of a priority, by their distance from the end of its list, or of its front list."""
    return call(
        "standing", queue, priority, int(is_front), first, most,
        read=lambda reply: Standing(reply[0], reply[1:]),
    )  # fmt: skip


def having(queue: str, hashes: Sequence[str], most: int) -> Call[list[bytes]]:
    """Keys of the jobs that have one of these search keys; for each, the newest ``most``."""
    return call("having", queue, most, *hashes)


def failing(queue: str) -> Call[dict[str, int]]:
    """Names of functions that have failed jobs, and how many; at most 500."""
    return call("failing", queue, read=_numbers)


def find(queue: str, hashes: Sequence[str], most: int) -> Call[list[Row]]:
    """The jobs that have all these search keys."""
    return call("find", queue, most, *hashes, read=_rows)


def keys_of(queue: str, state: State, first: int, most: int) -> Call[list[bytes]]:
    """Keys of a finished or delayed state, beginning with a rank."""
    return call("keys_of", queue, state, first, most)


def counts(queue: str) -> Call[dict[str, int]]:
    """How many jobs are in each state."""
    return call("counts", queue, read=lambda reply: dict(zip(map(str, STATES), reply, strict=True)))


def farewell(queue: str, key: str) -> Call[bytes]:
    """The outcome of a job that wasn't kept, for a few seconds after its end; otherwise empty."""
    return call("farewell", queue, key)


class Oldest(NamedTuple):
    now_ms: int
    waiting: list[tuple[str, bytes]]  # key and record of the first of each priority


def oldest(queue: str) -> Call[Oldest]:
    """For each priority, the job that's next to run."""

    def read(reply: list[Any]) -> Oldest:
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        return Oldest(reply[0], [(_text(key), record) for key, record in pairs])

    return call("oldest", queue, read=read)


class Lists(NamedTuple):
    key: str
    logs: list[bytes]  # ms|text
    runs: list[bytes]  # attempt|outcome|started|finished|delay|worker|error


def lists(queue: str, key: str, most: int = 1000) -> Call[Lists]:
    """A job's log lines and its runs that didn't complete. A dropped duplicate's key leads to the first."""
    return call("lists", queue, key, most, read=lambda reply: Lists(_text(reply[0]), *reply[1:]))


class Facts(NamedTuple):
    paused_since_ms: int | None
    totals: dict[str, int]
    minutes: dict[str, int]  # two letters of the state, then the minute since 1970
    now_ms: int


def facts(queue: str, hours: int = 0) -> Call[Facts]:
    """What's known about a queue besides its jobs; with minute counters of the last ``hours``."""

    def read(reply: list[Any]) -> Facts:
        paused, totals, buckets, now = reply
        minutes: dict[str, int] = {}
        for bucket in buckets:
            minutes |= _numbers(bucket)
        since = int(paused) if paused.isdigit() else now  # whatever is there, it's paused
        return Facts(since if paused else None, _numbers(totals), minutes, now)

    return call("facts", queue, hours, read=read)


class Holder(NamedTuple):
    owner: str  # worker/number of its process
    active: int  # jobs whose leases it holds
    deadline_ms: int | None  # when its leases lapse; None: nobody would notice its death


class Holders(NamedTuple):
    now_ms: int
    holders: list[Holder]


def holders(queue: str) -> Call[Holders]:
    """Who holds the leases of a queue's active jobs."""

    def read(reply: list[Any]) -> Holders:
        *flat, now = reply
        triples = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
        return Holders(
            now,
            [
                Holder(_text(owner).strip(), active, int(float(deadline)) if deadline else None)
                for owner, active, deadline in triples
            ],
        )

    return call("holders", queue, read=read)


class Registry(NamedTuple):
    queues: list[str]
    workers: dict[str, bytes]  # worker → JSON
    pulses: dict[str, int]  # worker → last heartbeat, ms
    now_ms: int


def registry(queue: str = "", *, order_to: str = "", order: str = "") -> Call[Registry]:
    """The queues that ever had a job, and the workers. ``queue`` joins the queues; ``order_to`` is a worker
    that gets an order.

    Foreign names that no queue can have are left out.
    """

    def read(reply: list[Any]) -> Registry:
        names, workers, pulses, now = reply
        queues = [name for name in map(_text, names) if QUEUE_NAME.fullmatch(name)]
        texts = {_text(worker): text for worker, text in zip(workers[::2], workers[1::2], strict=True)}
        return Registry(queues, texts, _numbers(pulses), now)

    return call("registry", None, queue, order_to, order, read=read)


def _text(name: bytes) -> str:
    """A name or key of ours, or a foreign one, which has to be shown all the same."""
    return name.decode(errors="backslashreplace")


def _numbers(flat: list[bytes]) -> dict[str, int]:
    """Names and whole numbers; what isn't a number is left out."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    numbers = {_text(name): _number(text) for name, text in pairs}
    return {name: int(number) for name, number in numbers.items() if isfinite(number)}


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return nan


class Series(NamedTuple):
    last: int  # number of the current bucket
    rows: list[bytes]  # as in measures.py, the current bucket's last; b"" where nothing was measured


def series(queue: str, tier: measures.Tier, count: int) -> Call[Series]:
    """The measurements of a queue in the last ``count`` buckets of a tier."""

    def read(reply: list[Any]) -> Series:
        return Series(reply[0], [row if measures.is_row(row) else b"" for row in reply[1:]])

    return call("series", queue, measures.in_words(measures.TIERS), str(tier), count, read=read)


def series_functions(queue: str, tier: measures.Tier, count: int) -> Call[list[tuple[str, bytes]]]:
    """The measurements of a queue's functions: a name comes once for each block of time."""

    def read(reply: list[list[bytes]]) -> list[tuple[str, bytes]]:
        return [
            (_text(name), row)
            for block in reply
            for name, row in zip(block[::2], block[1::2], strict=True)
            if measures.is_row(row)
        ]

    return call("series_functions", queue, str(tier), count, read=read)


class RunSums(NamedTuple):
    queue: dict[str, int]  # completed:, failed:, retried:, other: and us: (work); wait:<cell>, run:<cell>
    functions: dict[str, int]  # the first five for each function: completed:<name>


def run_sums(queue: str) -> Call[RunSums]:
    """The all-time sums of a queue's runs."""
    return call("run_sums", queue, read=lambda reply: RunSums(_numbers(reply[0]), _numbers(reply[1])))


class Load(NamedTuple):
    last: int  # number of the current bucket
    shares: list[float | None]  # of the workers' slots that were in use; None: there was no worker


def series_load(tier: measures.Tier, count: int) -> Call[Load]:
    """How busy all workers were in the last ``count`` buckets of a tier."""

    return call("series_load", None, str(tier), count, read=lambda reply: Load(reply[0], _shares(reply[1:])))


def load_now() -> Call[float | None]:
    """How busy all workers were in the last full 10 seconds; if that's not known, in the current ones."""

    def read(reply: list[Any]) -> float | None:
        before, running = _shares(reply[1:])
        return running if before is None else before

    return call("series_load", None, str(measures.TIERS[0]), 2, read=read)


def _shares(flat: list[bytes]) -> list[float | None]:
    pairs = zip(map(_number, flat[0::2]), map(_number, flat[1::2]), strict=True)
    return [busy / slots if isfinite(busy) and isfinite(slots) and slots else None for busy, slots in pairs]
