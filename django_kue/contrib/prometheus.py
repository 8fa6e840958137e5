"""Prometheus: what Redis knows of queues, runs and workers, read when Prometheus asks. Needs
``django-kue[prometheus]``.

Nothing is counted in this process, so it doesn't matter which one answers, or how many there are: one
target is enough. A scrape takes a few round trips, however many queues there are; of more than 200 queues
the rest is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

try:
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector, CollectorRegistry
except ImportError as error:
    raise ImproperlyConfigured(
        'django_kue.contrib.prometheus needs prometheus-client: pip install "django-kue[prometheus]"'
    ) from error

import django_kue
from django_kue import measures, schedules
from django_kue.errors import StoreUnavailable
from django_kue.metrics import MOST_QUEUES, Totals, busy_share, totals
from django_kue.overview import Overview, QueueOverview, overview
from django_kue.schedules import Schedule
from django_kue.store import server_info
from django_kue.workers import WorkerState

__all__ = ["KueCollector", "metrics"]

MOST_SCHEDULES = 500  # that are told


# ── what there is ──


class Described(NamedTuple):
    """A metric, as it's documented."""

    name: str
    kind: str  # gauge, counter or histogram
    help: str
    labels: tuple[str, ...] = ()


METRICS = (
    Described("kue_up", "gauge", "1 if Redis answered this scrape. 0 if not: then this is the only metric."),
    Described("kue_scrape_seconds", "gauge", "How long Redis took to answer this scrape."),
    Described(
        "kue_build_info", "gauge", "Always 1. The label is the release of django-kue that answers.",
        ("version",),
    ),
    Described("kue_jobs", "gauge", "The exact number of jobs by queue and state.", ("queue", "state")),
    Described(
        "kue_oldest_waiting_seconds", "gauge",
        "How long the longest waiting job has been ready to run. 0 if none is waiting.", ("queue",),
    ),
    Described("kue_queue_paused", "gauge", "1 while the queue is paused.", ("queue",)),
    Described("kue_queue_workers", "gauge", "Running workers that serve the queue.", ("queue",)),
    Described("kue_queues_omitted", "gauge", "Queues beyond the first 200, for which there are no metrics."),
    Described(
        "kue_jobs_finished_total", "counter",
        "Jobs that ended for good, including those that were cancelled before they ran.", ("queue", "state"),
    ),
    Described(
        "kue_jobs_parked_total", "counter",
        "How often a worker put a job aside that it can't run: it doesn't know the function, or doesn't have "
        "the key to the arguments. Such a job is tried again at least every 30 seconds.", ("queue",),
    ),
    Described(
        "kue_runs_total", "counter",
        "Runs that ended: completed, failed for good, retried, or other (cancelled while they ran, or their "
        "process died).", ("queue", "outcome"),
    ),
    Described("kue_run_duration_seconds", "histogram", "How long runs took.", ("queue",)),
    Described(
        "kue_wait_duration_seconds", "histogram",
        "How long jobs waited, from when they could have run until they did. Without a sum.", ("queue",),
    ),
    Described(
        "kue_function_runs_total", "counter",
        "Like kue_runs_total, by function. A queue's functions beyond 500 are combined as (others).",
        ("queue", "function", "outcome"),
    ),
    Described(
        "kue_function_run_seconds_total", "counter", "How long runs of a function took, in total.",
        ("queue", "function"),
    ),
    Described(
        "kue_workers", "gauge",
        "Workers by state. A lost one fell silent within the last hour, without signing off.", ("state",),
    ),
    Described("kue_worker_processes", "gauge", "Processes of workers that aren't lost."),
    Described("kue_worker_memory_bytes", "gauge", "Resident memory of workers that aren't lost."),
    Described(
        "kue_workers_busy_ratio", "gauge",
        "How full all workers were in the last ten seconds, 0 to 1: for each process, the fuller of its "
        "threads and its coroutines counts. 0 if there's no worker.",
    ),
    Described("kue_jobs_running", "gauge", "Jobs that workers which aren't lost are running now."),
    Described(
        "kue_schedule_last_success_timestamp_seconds", "gauge",
        "When a job of the schedule last completed, as Unix time; 0 if never. For 500 schedules at most, "
        "the declared ones first.", ("schedule",),
    ),
    Described(
        "kue_schedule_next_run_timestamp_seconds", "gauge",
        "When the schedule's next tick is due, as Unix time; 0 while it's paused or off.", ("schedule",),
    ),
    Described("kue_redis_memory_bytes", "gauge", "Memory that Redis uses."),
    Described(
        "kue_redis_memory_max_bytes", "gauge", "Memory that Redis may use: maxmemory. 0 if there's no limit."
    ),
)  # fmt: skip
_BY_NAME = {one.name: one for one in METRICS}

# The limits of a histogram's buckets: every second of the cells in which runs are measured, so a factor of 2
# apart, from 0.13 ms to 1.2 hours.
BUCKET_CELLS = range(14, 66, 2)
BUCKETS = [measures.limits_of(cell)[1] for cell in BUCKET_CELLS]


# ── collecting ──


class KueCollector(Collector):
    """Reads Redis at each scrape. Register it with a registry of your own, or use :func:`metrics`.

    Args:
        by_function: report runs by function, too: up to 500 functions per queue.

    >>> from prometheus_client import REGISTRY
    >>> REGISTRY.register(KueCollector())
    """

    def __init__(self, *, by_function: bool = True) -> None:
        self._by_function = by_function

    def describe(self) -> Iterator[Metric]:
        """What there may be; a registry asks when this is registered, and Redis isn't."""
        return map(_family, METRICS)

    def collect(self) -> Iterator[Metric]:
        """All metrics; while Redis is away, ``kue_up`` alone."""
        began = time.perf_counter()
        try:
            seen = overview(most=MOST_QUEUES)
            sums = totals([queue.name for queue in seen.queues])
            share, info, plan = busy_share(), server_info(), schedules.all()
        except StoreUnavailable:
            yield _gauge("kue_up", 0)
            return
        yield _gauge("kue_up", 1)
        yield _gauge("kue_scrape_seconds", time.perf_counter() - began)
        yield _family(_BY_NAME["kue_build_info"], [((django_kue.__version__,), 1)])
        yield from _of_queues(seen)
        yield from _of_runs(sums)
        if self._by_function:
            yield from _of_functions(sums)
        yield from _of_workers(seen)
        yield _gauge("kue_workers_busy_ratio", share or 0.0)
        yield from _of_schedules(plan)
        yield _gauge("kue_redis_memory_bytes", float(info.get("used_memory", 0)))
        yield _gauge("kue_redis_memory_max_bytes", float(info.get("maxmemory", 0)))


Samples = Iterable[tuple[tuple[str, ...], float]]


def _of_queues(seen: Overview) -> Iterator[Metric]:
    def each(name: str, value: Callable[[QueueOverview], float]) -> Metric:
        return _family(_BY_NAME[name], [((queue.name,), value(queue)) for queue in seen.queues])

    yield _family(
        _BY_NAME["kue_jobs"],
        [((queue.name, state), count) for queue in seen.queues for state, count in queue.counts.items()],
    )
    yield each("kue_oldest_waiting_seconds", lambda queue: queue.oldest_waiting or 0.0)
    yield each("kue_queue_paused", lambda queue: queue.paused_since is not None)
    yield each("kue_queue_workers", lambda queue: len(queue.workers))
    yield _gauge("kue_queues_omitted", seen.others)
    yield _family(
        _BY_NAME["kue_jobs_finished_total"],
        [
            ((queue.name, state), queue.totals.get(state, 0))
            for queue in seen.queues
            for state in ("completed", "failed", "cancelled")
        ],
    )
    yield each("kue_jobs_parked_total", lambda queue: queue.totals.get("parked", 0))


def _of_runs(sums: Mapping[str, Totals]) -> Iterator[Metric]:
    yield _family(
        _BY_NAME["kue_runs_total"],
        [((name, outcome), n) for name, one in sums.items() for outcome, n in one.runs.outcomes.items()],
    )
    runs, waits = (
        HistogramMetricFamily(name, _BY_NAME[name].help, labels=_BY_NAME[name].labels)
        for name in ("kue_run_duration_seconds", "kue_wait_duration_seconds")
    )
    for name, one in sums.items():
        runs.add_metric([name], _buckets(one.running_times), one.runs.work)
        waits.add_metric([name], _buckets(one.waiting_times), None)
    yield from (runs, waits)


def _of_functions(sums: Mapping[str, Totals]) -> Iterator[Metric]:
    each = [(name, function, one) for name in sums for function, one in sums[name].functions.items()]
    yield _family(
        _BY_NAME["kue_function_runs_total"],
        [
            ((name, function, outcome), n)
            for name, function, one in each
            for outcome, n in one.outcomes.items()
        ],
    )
    yield _family(
        _BY_NAME["kue_function_run_seconds_total"],
        [((name, function), one.work) for name, function, one in each],
    )


def _of_workers(seen: Overview) -> Iterator[Metric]:
    states = [worker.state for worker in seen.workers]
    yield _family(_BY_NAME["kue_workers"], [((state,), states.count(state)) for state in WorkerState])
    alive = [worker for worker in seen.workers if worker.state is not WorkerState.LOST]
    yield _gauge("kue_worker_processes", sum(len(worker.processes) for worker in alive))
    yield _gauge("kue_worker_memory_bytes", sum(worker.memory or 0 for worker in alive))
    yield _gauge("kue_jobs_running", sum(worker.busy for worker in alive))


def _of_schedules(plan: Sequence[Schedule]) -> Iterator[Metric]:
    told = sorted(plan, key=lambda schedule: not schedule.is_declared)[:MOST_SCHEDULES]
    yield _family(
        _BY_NAME["kue_schedule_last_success_timestamp_seconds"],
        [((schedule.name,), _unix(schedule.last_success)) for schedule in told],
    )
    yield _family(
        _BY_NAME["kue_schedule_next_run_timestamp_seconds"],
        [((schedule.name,), _unix(schedule.next_run)) for schedule in told],
    )


def _unix(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


def _buckets(cells: Sequence[int]) -> list[tuple[str, float]]:
    """A histogram of cells as Prometheus has it: how many were at most so long."""
    sums = list(accumulate(cells))
    limits = zip(BUCKETS, BUCKET_CELLS, strict=True)
    return [*((repr(limit), sums[cell]) for limit, cell in limits), ("+Inf", sums[-1])]


_FAMILIES: Mapping[str, Callable[..., Any]] = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _gauge(name: str, value: float) -> Metric:
    return _family(_BY_NAME[name], [((), value)])


def _family(one: Described, samples: Samples = ()) -> Metric:
    family: Metric = _FAMILIES[one.kind](one.name, one.help, labels=one.labels)
    for labels, value in samples:
        family.add_sample(one.name, dict(zip(one.labels, labels, strict=True)), float(value))
    return family


# ── the page ──


def metrics(
    *, token: str | None, registry: CollectorRegistry | None = None
) -> Callable[[HttpRequest], HttpResponse]:
    """A page for Prometheus to scrape: in its text format, or as OpenMetrics when it asks for that.

    It shows the names of queues and functions, so it's closed unless you say otherwise.

    Args:
        token: what Prometheus has to send as ``Authorization: Bearer …``. ``None`` opens the page to
            everybody who can reach it: for networks on which only Prometheus can.
        registry: what's shown. By default what Redis knows, and nothing about this process.

    Raises:
        ImproperlyConfigured: the token is empty. A variable that isn't set shouldn't open a page.

    >>> urlpatterns = [path("metrics", metrics(token=os.environ["METRICS_TOKEN"]))]
    """
    if token is not None and not token.strip():
        raise ImproperlyConfigured(
            "metrics(token=…): the token is empty. Give it a long random text, or None to open the page."
        )
    shown = registry or _own_registry()

    @never_cache
    @require_safe
    def page(request: HttpRequest) -> HttpResponse:
        if token is not None and not _knows(request, token):
            return HttpResponse(
                "Send the token: Authorization: Bearer …\n",
                "text/plain",
                401,
                headers={"WWW-Authenticate": "Bearer"},
            )
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(encode(shown), content_type)

    return page


def _own_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(KueCollector())
    return registry


def _knows(request: HttpRequest, token: str) -> bool:
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and constant_time_compare(sent.strip(), token)
