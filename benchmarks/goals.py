"""What django-kue aims for: each goal compares medians of one run, most of them as a ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers import PYTHON
from benchmarks.results import Results

Measure = Callable[[Results], float | None]
PYTHON_PEERS = tuple(name for name in PYTHON if name != "kue")


@dataclass(frozen=True)
class Goal:
    """A goal. ``measure`` returns ``None`` if something that it compares wasn't measured."""

    row: str  # the workload and the metric
    text: str
    measure: Measure
    limit: float
    is_least: bool = True  # otherwise the limit is a maximum
    unit: str = "×"

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.is_least else value <= self.limit

    @property
    def asked(self) -> str:
        sign = "≥" if self.is_least else "≤"
        return f"{sign} {self.limit:g}{self.unit}"


def kue(workload: str, metric: str) -> Measure:
    return lambda results: results.median(workload, "kue", metric)


def against(workload: str, metric: str, *others: str, best: Callable[..., float] = max) -> Measure:
    """django-kue's median, divided by the best of the others'."""

    def measure(results: Results) -> float | None:
        mine = results.median(workload, "kue", metric)
        theirs = [value for other in others if (value := results.median(workload, other, metric)) is not None]
        return mine / best(theirs) if mine is not None and theirs else None

    return measure


def beside(workload: str, metric: str, other_workload: str, driver: str = "kue", other: str = "") -> Measure:
    """One median, divided by another workload's."""

    def measure(results: Results) -> float | None:
        one = results.median(workload, driver, metric)
        two = results.median(other_workload, "kue", other or metric)
        return one / two if one is not None and two else None

    return measure


def every_peer(results: Results) -> tuple[str, ...]:
    return tuple(name for name in results.about if name != "kue")


def against_all(workload: str, metric: str, best: Callable[..., float]) -> Measure:
    return lambda results: against(workload, metric, *every_peer(results), best=best)(results)


def speed_up(results: Results) -> float | None:
    """How much faster than the same loop in one plain process."""
    plain = results.median("plain", "plain", "seconds")
    mine = results.median("cpu", "kue", "seconds")
    return plain / mine if plain and mine else None


IDEAL = kue("io", "times_ideal")
LEANEST = against("idle", "pss", *PYTHON_PEERS, best=min)
ENQUEUE_FULL = beside("backlog", "enqueue_full", "backlog", other="enqueue_empty")
DRAIN_MANY = beside("backlog", "drain_many", "backlog", other="drain_few")
BYTES_MANY = beside("backlog", "bytes_many", "backlog", other="bytes_few")

GOALS = (
    Goal("drain rate", "the fastest Python peer", against("drain", "rate", *PYTHON_PEERS), 10),
    Goal("drain rate", "Bee-Queue", against("drain", "rate", "bee-queue"), 2.5),
    Goal("drain rate", "the bare loop of the same scripts", against("drain", "rate", "limit"), 0.5),
    Goal("drain cpu_rate", "Dramatiq", against("drain", "cpu_rate", "dramatiq"), 8),
    Goal("receivers rate", "the drain without receivers", beside("receivers", "rate", "drain"), 0.7),
    Goal("coroutines rate", "the drain of plain functions", beside("coroutines", "rate", "drain"), 0.6),
    Goal("fsync rate", "the drain without it", beside("fsync", "rate", "drain"), 0.4),
    Goal("queues rate", "the drain of one queue", beside("queues", "rate", "drain"), 0.9),
    Goal("enqueue rate", "Huey", against("enqueue", "rate", "huey"), 1.3),
    Goal("bulk rate", "Bee-Queue's saveAll", against("bulk", "rate", "bee-queue"), 1.5),
    Goal("bytes bytes", "", kue("bytes", "bytes"), 150, is_least=False, unit=" bytes"),
    Goal("latency p50", "", kue("latency", "p50"), 0.8, is_least=False, unit=" ms"),
    Goal("latency p50", "the best peer", against_all("latency", "p50", min), 1, is_least=False),
    Goal("latency p99", "", kue("latency", "p99"), 3, is_least=False, unit=" ms"),
    Goal("latency p99", "the best peer", against_all("latency", "p99", min), 1, is_least=False),
    Goal("io seconds", "the best peer", against_all("io", "seconds", min), 1, is_least=False),
    Goal("io times_ideal", "the time of 100 slots that never wait", IDEAL, 1.3, is_least=False),
    Goal("cpu rate", "one plain process", speed_up, 1.9),
    Goal("idle sent", "", kue("idle", "sent"), 3, is_least=False, unit=" a second"),
    Goal("idle pss", "the leanest peer with Django", LEANEST, 1, is_least=False),
    Goal("late p50", "", kue("late", "p50"), 5, is_least=False, unit=" ms"),
    Goal("late p99", "", kue("late", "p99"), 25, is_least=False, unit=" ms"),
    Goal("late early", "", kue("late", "early"), 0, is_least=False, unit=" early"),
    Goal("backlog enqueue_full", "enqueueing into an empty queue", ENQUEUE_FULL, 0.85),
    Goal("backlog drain_many", "the same with 100,000 waiting", DRAIN_MANY, 0.85),
    Goal("backlog bytes_many", "bytes per job with 100,000", BYTES_MANY, 1.15, is_least=False),
)  # fmt: skip
