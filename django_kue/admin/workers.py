"""The workers: how they're doing, what they run now, and how to stop them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.forms import Script
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from django_kue import models
from django_kue.admin.links import leads_to, worker_url, workers_url
from django_kue.admin.pages import KuePages
from django_kue.errors import JobDoesNotExist
from django_kue.ids import split
from django_kue.jobs import Job
from django_kue.store import reads, send
from django_kue.workers import Worker, WorkerState, workers

MOST_RUNNING = 100  # running jobs that are listed


class WorkerAdminMixin(KuePages):
    """Turns a ``ModelAdmin`` (Django's, or a theme's) into the workers' pages."""

    class Media:
        css = {"all": ["django_kue/kue.css", "django_kue/boards.css"]}
        js = [Script("django_kue/live.js", defer=True)]

    def get_urls(self) -> list[URLPattern]:
        stop = self._unless_away(self.admin_site.admin_view(self.stop_view))
        return [path("<path:object_id>/stop/", stop, name="django_kue_worker_stop"), *super().get_urls()]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A worker that has stopped leaves the list by itself, a lost one after an hour."""
        return False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: Any = None
    ) -> models.Worker | None:
        """The worker's row; ``None`` when it's gone."""
        found = [worker for worker in workers() if worker.id == object_id]
        return _row(found[0]) if found else None

    # ── pages ──

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self.require(self.has_view_permission(request))  # type: ignore[attr-defined]
        found = workers()
        running = [job_id for worker in found for job_id in worker.jobs]
        return self.page(
            request,
            "admin/django_kue/workers.html",
            _("Workers"),
            workers=found,
            **_running(request, running),
            releases=releases_of(found),
            has_lost=any(worker.state is WorkerState.LOST for worker in found),
            **self._rights(request),
            **(extra_context or {}),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        worker_id = unquote(object_id)
        obj = self.get_object(request, worker_id)
        self.require(self.has_view_permission(request, obj))  # type: ignore[attr-defined]
        if obj is None:
            return self._gone(request, worker_id)
        return self.page(
            request,
            "admin/django_kue/worker.html",
            obj.worker.id,
            worker=obj.worker,
            object_id=object_id,
            **_running(request, obj.worker.jobs),
            **self._rights(request),
            **(extra_context or {}),
        )

    def stop_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask a worker to stop, as SIGTERM does."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        worker_id = unquote(object_id)
        obj = self.get_object(request, worker_id)
        self.require(self.has_change_permission(request, obj))  # type: ignore[attr-defined]
        if obj is None:
            return self._gone(request, worker_id)
        try:
            obj.worker.stop()
        except LookupError:
            return self._gone(request, worker_id)
        self.note(request, _("Asked to stop."), obj)
        messages.success(request, _said_of(obj.worker))
        site = self.admin_site.name
        is_list = request.POST.get("back") == "list"
        return HttpResponseRedirect(workers_url(site) if is_list else worker_url(site, worker_id))

    # ── how ──

    def _rights(self, request: HttpRequest) -> dict[str, bool]:
        return {
            "may_stop": self.has_change_permission(request),  # type: ignore[attr-defined]
            "sees_queues": leads_to(request, self.admin_site, models.Queue),
            "sees_jobs": leads_to(request, self.admin_site, models.Job),
        }

    def _gone(self, request: HttpRequest, id: str) -> HttpResponse:
        text = _("Worker %s isn’t in the list any more: it has stopped, or was lost more than an hour ago.")
        messages.warning(request, text % id)
        return HttpResponseRedirect(workers_url(self.admin_site.name))


def releases_of(found: Iterable[Worker]) -> list[str]:
    """The releases of django-kue that living workers run."""
    return sorted({worker.version for worker in found if worker.state is not WorkerState.LOST})


def jobs_by_id(ids: Iterable[str]) -> Mapping[str, Job]:
    """The jobs among these that exist, in one round trip."""
    keys: dict[str, list[str | bytes]] = defaultdict(list)
    for job_id in ids:
        try:
            queue, key = split(job_id)
        except JobDoesNotExist:  # no worker wrote this
            continue
        keys[queue].append(key)
    replies = send(*[reads.rows(queue, some) for queue, some in keys.items()]) if keys else []
    jobs = [Job.from_row(queue, row) for queue, rows in zip(keys, replies, strict=True) for row in rows]
    return {job.id: job for job in jobs}


def _running(request: HttpRequest, ids: Sequence[str]) -> dict[str, Any]:
    """What's running: the jobs, for people who may see jobs; only their number for others."""
    if not request.user.has_perm("django_kue.view_job"):
        return {"jobs": None, "running": len(ids)}
    return {"jobs": list(jobs_by_id(ids[:MOST_RUNNING]).values()), "more_jobs": len(ids[MOST_RUNNING:])}


def _row(worker: Worker) -> models.Worker:
    row = models.Worker(id=worker.id)
    row.worker = worker
    return row


def _said_of(worker: Worker) -> str:
    if worker.state is WorkerState.LOST:
        text = _("Worker %s is lost: it will stop if it comes back.")
    else:
        text = _(
            "Worker %s was asked to stop. Within two seconds it stops taking jobs; it ends when its running "
            "jobs have finished, or have been handed back after its shutdown timeout."
        )
    return text % worker.id
