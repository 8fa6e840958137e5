"""The dashboard: how everything is doing, and how it has been."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.forms import Script
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_kue import metrics
from django_kue.admin.failures import FailureGroup, newest_failures
from django_kue.admin.links import job_url, jobs_query, jobs_url_or_none, workers_url_or_none
from django_kue.admin.pages import KuePages
from django_kue.admin.queues import is_unserved
from django_kue.admin.server import server
from django_kue.conf import settings
from django_kue.measures import OTHERS
from django_kue.metrics import FunctionStats, Series
from django_kue.overview import Overview, overview
from django_kue.states import State
from django_kue.workers import WorkerState

WINDOWS = {
    "5m": gettext_lazy("5 minutes"),
    "1h": gettext_lazy("1 hour"),
    "24h": gettext_lazy("24 hours"),
    "7d": gettext_lazy("7 days"),
}
DEFAULT_WINDOW = "1h"
MOST_LINES = 8  # queues whose depth is drawn; the others share one line
MOST_FUNCTIONS = 10  # in a table
NOSNIFF = {"X-Content-Type-Options": "nosniff"}  # also where SecurityMiddleware is missing


@dataclass(frozen=True, slots=True)
class Tile:
    """A number, and where what it counts is listed; ``None`` if this person may not go there."""

    name: str  # for style
    label: str
    value: float
    url: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A function's numbers, and where its jobs are listed; also ``None`` for the sum of many functions."""

    stats: FunctionStats
    url: str | None


@dataclass(frozen=True, slots=True)
class FailureRow:
    """Failures that look like one bug, and where they and the newest are; ``None`` without such pages."""

    group: FailureGroup
    url: str | None
    newest_url: str | None


class BadQuestion(ValueError):
    """A window or a queue that doesn't exist; the message is for people."""


class DashboardAdminMixin(KuePages):
    """Turns a ``ModelAdmin`` (Django's, or a theme's) into the dashboard."""

    class Media:
        css = {
            "all": [
                "django_kue/kue.css",
                "django_kue/boards.css",
                "django_kue/uplot/uPlot.min.css",
                "django_kue/dashboard.css",
            ]
        }
        js = [
            Script(name, defer=True)
            for name in (
                "django_kue/live.js",
                "django_kue/uplot/uPlot.iife.min.js",
                "django_kue/dashboard.js",
            )
        ]

    def get_urls(self) -> list[URLPattern]:
        data = self._unless_away(self.admin_site.admin_view(self.data_view))
        return [path("data/", data, name="django_kue_dashboard_data"), *super().get_urls()]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """There's nothing to change on it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self.require(self.has_view_permission(request))  # type: ignore[attr-defined]
        seen = overview()
        try:
            window, queue = asked(request, seen)
        except BadQuestion:  # an old bookmark, or a queue that's gone
            window, queue = DEFAULT_WINDOW, None
        stats = metrics.functions(window, queue)
        jobs = jobs_url_or_none(request, self.admin_site)
        return self.page(
            request,
            "admin/django_kue/dashboard.html",
            _("Dashboard"),
            tiles=tiles_of(seen, queue, jobs, workers_url_or_none(request, self.admin_site)),
            unserved=[one for one in seen.queues if is_unserved(one)],
            window=window,
            windows=WINDOWS,
            queue=queue or "",
            queues=[one.name for one in seen.queues],
            slowest=[_row(one, jobs) for one in slowest(stats)],
            failing=[_row(one, jobs, state=str(State.FAILED)) for one in failing(stats)],
            **self._failures(request, seen, queue),
            server=server(),
            plots=self._plots(request, window, queue),
            **(extra_context or {}),
        )

    def data_view(self, request: HttpRequest) -> HttpResponse:
        """The plots' data: ``?window=5m|1h|24h|7d&queue=email``; without ``queue``, all of them together.

        400 with a message if the window or the queue doesn't exist.
        """
        self.require(self.has_view_permission(request))  # type: ignore[attr-defined]
        try:
            window, queue = asked(request, None)
        except BadQuestion as error:
            return JsonResponse({"error": str(error)}, status=400, headers=NOSNIFF)
        return JsonResponse(plots_of(metrics.series(window, queue), window), headers=NOSNIFF)

    def _plots(self, request: HttpRequest, window: str, queue: str | None) -> dict[str, Any] | None:
        """None if the page is only fetched for its regions: then the script asks for the data itself."""
        if "X-Kue-Live" in request.headers:
            return None
        return plots_of(metrics.series(window, queue), window)

    def _failures(self, request: HttpRequest, seen: Overview, queue: str | None) -> dict[str, Any]:
        """What failed, with its error: only for people who may see jobs."""
        if not request.user.has_perm("django_kue.view_job"):
            return {"failures": None}
        found = newest_failures([one for one in seen.queues if queue in (None, one.name)])
        site, jobs = self.admin_site.name, jobs_url_or_none(request, self.admin_site)
        return {
            "failures": found,
            "failure_groups": [_failure_row(group, site, jobs) for group in found.groups],
        }


def _row(stats: FunctionStats, jobs: str | None, **filters: str) -> FunctionRow:
    if jobs is None or stats.name == OTHERS:
        return FunctionRow(stats, None)
    return FunctionRow(stats, jobs + jobs_query(name=stats.name, queue=stats.queue, **filters))


def _failure_row(group: FailureGroup, site: str, jobs: str | None) -> FailureRow:
    if jobs is None:
        return FailureRow(group, None, None)
    query = jobs_query(state=str(State.FAILED), name=group.name, text=group.words)
    return FailureRow(group, jobs + query, job_url(site, group.newest.id))


def asked(request: HttpRequest, seen: Overview | None) -> tuple[str, str | None]:
    """Window and queue of a request, the queue ``None`` for all.

    Raises:
        BadQuestion: there's no such window or queue.
    """
    window = request.GET.get("window", DEFAULT_WINDOW)
    if window not in WINDOWS:
        raise BadQuestion(
            _("There’s no window %(window)s; the windows are %(known)s.")
            % {"window": repr(window[:40]), "known": ", ".join(WINDOWS)}
        )
    queue = request.GET.get("queue") or None
    if queue is None or queue in settings.queues:
        return window, queue
    if queue not in {one.name for one in (seen or overview([queue])).queues}:
        raise BadQuestion(_("There’s no queue %s.") % repr(queue[:40]))
    return window, queue


def tiles_of(seen: Overview, queue: str | None, jobs: str | None, workers: str | None) -> list[Tile]:
    """The numbers at the top, each a link to what it counts: ``jobs`` and ``workers`` are the lists' URLs."""
    queues = [one for one in seen.queues if queue in (None, one.name)]
    labels = {
        State.WAITING: _("Waiting"),
        State.DELAYED: _("Delayed"),
        State.ACTIVE: _("Active"),
        State.FAILED: _("Failed"),
    }
    tiles = [
        Tile(
            str(state),
            label,
            sum(one.counts[state] for one in queues),
            _listed(jobs, state, queue),
        )
        for state, label in labels.items()
    ]
    rate = sum(one.per_minute for one in queues)
    done = _listed(jobs, State.COMPLETED, queue)
    tiles.append(Tile("completed", _("Runs per minute"), round(rate), done))
    living = [worker for worker in seen.workers if worker.state is not WorkerState.LOST]
    serving = [worker for worker in living if queue is None or queue in worker.queues]
    busy, slots = (sum(getattr(worker, name) for worker in serving) for name in ("busy", "slots"))
    note = _("%(busy)d of %(slots)d busy") % {"busy": busy, "slots": slots} if slots else ""
    tiles.append(Tile("workers", _("Workers"), len(serving), workers, note))
    return tiles


def _listed(jobs: str | None, state: State, queue: str | None) -> str | None:
    return None if jobs is None else jobs + jobs_query(state=str(state), queue=queue or "")


def slowest(stats: Iterable[FunctionStats]) -> list[FunctionStats]:
    """Functions by how long their runs take, the slowest first."""
    return sorted((one for one in stats if one.runs), key=lambda one: -(one.p95 or 0))[:MOST_FUNCTIONS]


def failing(stats: Iterable[FunctionStats]) -> list[FunctionStats]:
    """Functions by how many of their runs failed, including those that were tried again."""
    found = [one for one in stats if one.failed + one.retried]
    return sorted(found, key=lambda one: (-one.failed, -one.retried))[:MOST_FUNCTIONS]


def plots_of(series: Series, window: str) -> dict[str, Any]:
    """What ``dashboard.js`` draws. The last bucket is still running; the script computes its throughput over
    the part of it that has passed."""
    return {
        "window": window,
        "step": series.step,
        "times": series.times,
        "completed": series.completed,
        "failed": series.failed,
        "retried": series.retried,
        "wait_p50": series.wait_p50,
        "wait_p95": series.wait_p95,
        "run_p50": series.run_p50,
        "run_p95": series.run_p95,
        "depth": _deepest(series.depth),
        "utilisation": series.utilisation,
    }


def _deepest(depth: dict[str, list[int | None]]) -> list[dict[str, Any]]:
    """The deepest queues, and the others added up."""
    ranked = sorted(depth, key=lambda name: -max((count or 0 for count in depth[name]), default=0))
    lines: list[dict[str, Any]] = [{"queue": name, "values": depth[name]} for name in ranked[:MOST_LINES]]
    if rest := [depth[name] for name in ranked[MOST_LINES:]]:
        lines.append({"queue": None, "values": [_added(values) for values in zip(*rest, strict=True)]})
    return lines


def _added(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
