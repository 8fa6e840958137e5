"""The rows of the report: what each metric is called, how it's written, and whether more is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import Results


def number(value: float) -> str:
    """Three significant digits, which is more than the spread warrants."""
    if value == 0 or abs(value) >= 100:
        digits = len(str(int(abs(value))))
        return f"{round(value, 3 - digits) if digits > 3 else round(value):,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.2f}"


def mebibytes(value: float) -> str:
    return f"{value / 2**20:.1f}"


@dataclass(frozen=True)
class Row:
    workload: str
    metric: str
    label: str
    write: Callable[[float], str] = number

    @property
    def key(self) -> str:
        return f"{self.workload} {self.metric}"

    def cell(self, results: Results, driver: str) -> str:
        value = results.median(self.workload, driver, self.metric)
        return "" if value is None else self.write(value)

    def spread(self, results: Results, driver: str) -> str:
        values = results.of(self.workload, driver, self.metric)
        return f"{self.write(min(values))} – {self.write(max(values))}" if len(values) > 1 else ""


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    rows: tuple[Row, ...]


SECTIONS = (
    Section(
        "Running no-op jobs",
        "20,000 jobs with three small arguments are waiting when the worker is released; for Taskiq and Kue "
        "10,000, for Celery 5,000, for RQ 2,000. The bare loop is django-kue's own scripts, called by "
        "two processes that do nothing else. CPU-seconds are the worker's and Redis's together.",
        (
            Row("drain", "rate", "jobs a second"),
            Row("drain", "cpu_rate", "jobs per CPU-second"),
            Row("receivers", "rate", "… with a receiver on every signal, jobs a second"),
            Row("coroutines", "rate", "… with coroutine functions, jobs a second"),
            Row("fsync", "rate", "… with appendfsync always, jobs a second"),
            Row("queues", "rate", "… with 30 queues, one of them busy, jobs a second"),
        ),
    ),
    Section(
        "Enqueueing",
        "No worker is running. One at a time: each call waits for Redis's reply. In bulk: with the call for "
        "many jobs.",
        (
            Row("enqueue", "rate", "one at a time, jobs a second"),
            Row("bulk", "rate", "in bulk, jobs a second"),
            Row("bytes", "bytes", "bytes in Redis per waiting job"),
        ),
    ),
    Section(
        "From the enqueue call to the job's first line",
        "600 jobs, each of which finds the worker idle.",
        (Row("latency", "p50", "median, ms"), Row("latency", "p99", "99th percentile, ms")),
    ),
    Section(
        "Jobs that wait or compute",
        "2,000 jobs that wait 10 ms, 100 at a time: 0.2 s at best. 400 jobs that compute for about 5 ms; "
        "the Node peers run a different loop, so only the Python peers can be compared with each other.",
        (
            Row("io", "seconds", "2,000 × 10 ms of waiting, s"),
            Row("io", "times_ideal", "… times the ideal, ×"),
            Row("cpu", "seconds", "400 × 5 ms of computing, s"),
            Row("cpu", "rate", "… jobs a second"),
            Row("plain", "seconds", "… the loops in one plain process, s"),
            Row("plain", "seconds_two", "… in two plain processes, s"),
        ),
    ),
    Section(
        "A worker that has nothing to do",
        "Memory is the proportional set size of all the worker's processes. Commands are those sent to "
        "Redis; the next column adds those that scripts run there.",
        (
            Row("idle", "pss", "MiB, after 200 jobs", mebibytes),
            Row("drain", "pss", "MiB, after the drain", mebibytes),
            Row("idle", "sent", "commands a second"),
            Row("idle", "commands", "… with those in scripts"),
            Row("idle", "cpu_percent", "% of a core"),
        ),
    ),
    Section(
        "How late delayed jobs start",
        "Jobs that become due evenly over four seconds: 20,000 with django-kue, and 2,000 with each peer.",
        (
            Row("late", "p50", "20,000: median, ms"),
            Row("late", "p99", "20,000: 99th percentile, ms"),
            Row("late", "early", "20,000: too early"),
            Row("late-few", "p50", "2,000: median, ms"),
            Row("late-few", "p99", "2,000: 99th percentile, ms"),
            Row("late-few", "early", "2,000: too early"),
        ),
    ),
    Section(
        "A backlog of a million",
        "The same work with 100,000 jobs in the queue and with 1,000,000.",
        (
            Row("backlog", "enqueue_empty", "enqueued in bulk into an empty queue, jobs a second"),
            Row("backlog", "enqueue_full", "… enqueued on top of 900,000"),
            Row("backlog", "drain_few", "run with 100,000 waiting, jobs a second"),
            Row("backlog", "drain_many", "… run with 1,000,000 waiting"),
            Row("backlog", "drain_all", "… run, averaged over all 1,000,000"),
            Row("backlog", "bytes_few", "bytes per job with 100,000"),
            Row("backlog", "bytes_many", "… bytes per job with 1,000,000"),
        ),
    ),
)  # fmt: skip
