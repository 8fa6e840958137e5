"""Measurements for plots and tables: series over time, sums by function, sparklines.

Workers measure what they run, and add it up in Redis every 2 s, in buckets of fixed size: of 10 s for
5 minutes, of a minute for an hour, of 5 minutes for a day, of an hour for a week. A restart loses nothing;
a worker that is killed loses the last 2 s, which it hadn't reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from django_kue import measures
from django_kue.conf import settings
from django_kue.measures import Row, Tier
from django_kue.store import ask, reads, send

__all__ = [
    "OUTCOMES", "WINDOWS", "FunctionStats", "RunTotals", "Series", "Totals", "Window", "busy_share",
    "functions", "series", "sparklines", "totals",
]  # fmt: skip

T = TypeVar("T")

MOST_QUEUES = 200  # that are read if no queue is named


class Window(NamedTuple):
    """A span of time that ends now."""

    seconds: int
    tier: Tier  # of the series
    functions: Tier

    @property
    def buckets(self) -> int:
        """How many buckets there are: the complete ones, and the current one."""
        return self.seconds // self.tier.step + 1


_OF_QUEUES = {tier.name: tier for tier in measures.TIERS}
_OF_FUNCTIONS = {tier.name: tier for tier in measures.FUNCTION_TIERS}
WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "5m": Window(300, _OF_QUEUES["10s"], _OF_FUNCTIONS["5m"]),
        "1h": Window(3600, _OF_QUEUES["1m"], _OF_FUNCTIONS["1h"]),
        "24h": Window(86400, _OF_QUEUES["5m"], _OF_FUNCTIONS["24h"]),
        "7d": Window(7 * 86400, _OF_QUEUES["1h"], _OF_FUNCTIONS["7d"]),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Measurements by bucket of time; all lists are as long as ``times``.

    A run counts in the bucket in which its end was reported. Quantiles are right within a factor of √2,
    mostly within a few percent (see ``measures.py``).
    """

    step: int  #: seconds per bucket
    times: list[int]  #: Unix seconds at which buckets begin, by Redis's clock; the last one isn't complete
    completed: list[int]
    failed: list[int]  #: for good
    retried: list[int]  #: runs that failed, and are tried again
    wait_p50: list[float | None]  #: seconds from when a job could have run until it did; None: nothing ran
    wait_p95: list[float | None]
    run_p50: list[float | None]  #: seconds
    run_p95: list[float | None]
    depth: dict[str, list[int | None]]  #: queue → the most waiting jobs seen; None: nobody looked
    utilisation: list[float | None]  #: 0 to 1, of all workers' slots; None: there was no worker


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStats:
    """What one function did on one queue."""

    name: str  #: "(others)" holds the sums of functions beyond the first 500
    queue: str
    runs: int  #: that ended, in whatever way
    completed: int
    failed: int  #: for good
    retried: int
    mean: float  #: seconds per run
    p50: float | None  #: seconds
    p95: float | None
    total: float  #: seconds of work


def series(window: str, queue: str | None = None) -> Series:
    """What happened within a window (``"5m"``, ``"1h"``, ``"24h"`` or ``"7d"``) on a queue.

    ``queue=None``: on all queues together, at most 200; the declared ones first, then others by name.
    Reading also records how many jobs are waiting.

    >>> sum(series("1h", "email").failed)
    3

    Raises:
        ValueError: there's no such window.
        StoreUnavailable: Redis is away.
    """
    asked = _window(window)
    names = _names(queue)
    tier, count = asked.tier, asked.buckets
    load, *found = send(reads.series_load(tier, count), *[reads.series(name, tier, count) for name in names])
    last = max(load.last, *(one.last for one in found)) if found else load.last
    by_queue = {
        name: _aligned(one.rows, last - one.last, b"") for name, one in zip(names, found, strict=True)
    }
    rows = [Row().add(*filter(None, texts)) for texts in zip(*by_queue.values(), strict=True)] or [
        Row()
    ] * count
    waits = [_quantiles(row.waits) for row in rows]
    runs = [_quantiles(row.runs) for row in rows]
    return Series(
        step=tier.step,
        times=[bucket * tier.step for bucket in range(last - count + 1, last + 1)],
        completed=[row.completed for row in rows],
        failed=[row.failed for row in rows],
        retried=[row.retried for row in rows],
        wait_p50=[half for half, _ in waits],
        wait_p95=[most for _, most in waits],
        run_p50=[half for half, _ in runs],
        run_p95=[most for _, most in runs],
        depth={
            name: [measures.depth_of(text) if text else None for text in texts]
            for name, texts in by_queue.items()
        },
        utilisation=_aligned(load.shares, last - load.last, None),
    )


def functions(window: str, queue: str | None = None) -> list[FunctionStats]:
    """What each function did within a window, on a queue or on all (at most 200, as in :func:`series`).

    The functions that worked longest come first. Sums are kept in blocks of time, so they reach back up to
    a fifth further than the window.

    Raises:
        ValueError: there's no such window.
        StoreUnavailable: Redis is away.
    """
    asked = _window(window)
    names = _names(queue)
    tier = asked.functions
    calls = [reads.series_functions(name, tier, asked.seconds // tier.step + 1) for name in names]
    sums: dict[tuple[str, str], Row] = {}
    for name, found in zip(names, send(*calls) if calls else [], strict=True):
        for function, text in found:
            sums.setdefault((name, function), Row()).add(text)
    stats = [_stats(name, function, row) for (name, function), row in sums.items()]
    return sorted(stats, key=lambda one: (-one.total, one.name, one.queue))


def sparklines(names: Sequence[str], window: str = "1h", points: int = 30) -> dict[str, list[int]]:
    """How many runs ended on each of these queues, in ``points`` equal parts of a window, oldest first.

    A window with fewer buckets has as many points as buckets; if they don't divide evenly, the oldest are
    left out. These are the complete buckets; the current one is added to the last point.

    Raises:
        ValueError: there's no such window, or ``points`` is less than 1.
        StoreUnavailable: Redis is away.
    """
    asked = _window(window)
    if points < 1:
        raise ValueError(f"sparklines have at least 1 point, not {points}")
    buckets = asked.buckets - 1
    points = min(points, buckets)
    width = buckets // points
    calls = [reads.series(name, asked.tier, points * width + 1) for name in names]
    found = send(*calls) if calls else []
    return {name: _spark(one.rows, width) for name, one in zip(names, found, strict=True)}


OUTCOMES = ("completed", "failed", "retried", "other")  # other: cancelled, or the run killed its process


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotals:
    """All-time sums of runs: numbers that never decrease, unless somebody empties Redis."""

    outcomes: Mapping[str, int]  # each of :data:`OUTCOMES`
    work: float  # seconds that the runs took


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Runs of a queue, in total and by function. Histograms are counts by the cells of ``measures.py``."""

    runs: RunTotals
    functions: Mapping[str, RunTotals]  # at most 500; "(others)" holds the sums of those beyond
    waiting_times: Sequence[int]
    running_times: Sequence[int]


def totals(names: Sequence[str]) -> dict[str, Totals]:
    """All-time measurements of these queues' runs, in one round trip.

    >>> totals(["email"])["email"].runs.outcomes["failed"]
    3

    Raises:
        StoreUnavailable: Redis is away.
    """
    found = send(*map(reads.run_sums, names)) if names else []
    return {name: _totals(*sums) for name, sums in zip(names, found, strict=True)}


def busy_share() -> float | None:
    """How busy all workers were in the last complete 10 seconds, 0 to 1; ``None`` if there was no worker.

    Of each process, the fuller of its two pools counts: threads or coroutines.
    """
    return ask(reads.load_now())


def _totals(of_queue: Mapping[str, int], of_functions: Mapping[str, int]) -> Totals:
    names = dict.fromkeys(field.partition(":")[2] for field in of_functions)
    return Totals(
        runs=_run_totals(of_queue, ""),
        functions={name: _run_totals(of_functions, name) for name in names},
        waiting_times=[of_queue.get(f"wait:{cell}", 0) for cell in range(measures.CELLS)],
        running_times=[of_queue.get(f"run:{cell}", 0) for cell in range(measures.CELLS)],
    )


def _run_totals(sums: Mapping[str, int], name: str) -> RunTotals:
    outcomes = {outcome: sums.get(f"{outcome}:{name}", 0) for outcome in OUTCOMES}
    return RunTotals(outcomes=outcomes, work=sums.get(f"us:{name}", 0) / 1e6)


def _window(name: str) -> Window:
    if name not in WINDOWS:
        known = ", ".join(map(repr, WINDOWS))
        raise ValueError(f"There's no window {name!r}; the windows are {known}.")
    return WINDOWS[name]


def _names(queue: str | None) -> list[str]:
    if queue is not None:
        return [queue]
    known = ask(reads.registry()).queues
    return list(dict.fromkeys([*settings.queues, *sorted(known)]))[:MOST_QUEUES]


def _aligned(items: list[T], behind: int, nothing: T) -> list[T]:
    """Items of a reply, shifted because it was made ``behind`` buckets before the latest reply."""
    return [*items[behind:], *[nothing] * behind] if behind else items


def _quantiles(histogram: int) -> tuple[float | None, float | None]:
    half, most = measures.quantiles(histogram, (0.5, 0.95))
    return half, most


def _stats(queue: str, function: str, row: Row) -> FunctionStats:
    half, most = _quantiles(row.runs)
    return FunctionStats(
        name=function,
        queue=queue,
        runs=row.count,
        completed=row.completed,
        failed=row.failed,
        retried=row.retried,
        mean=row.work / row.count if row.count else 0.0,
        p50=half,
        p95=most,
        total=row.work,
    )


def _spark(rows: Sequence[bytes], width: int) -> list[int]:
    counts = [measures.count_of(row) if row else 0 for row in rows]
    counts[-2:] = [counts[-2] + counts[-1]]
    return [sum(counts[at : at + width]) for at in range(0, len(counts), width)]
