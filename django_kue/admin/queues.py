"""The queues: what's in them, which workers serve them, and actions on a queue as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.forms import Script
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_kue import bulk, metrics, models
from django_kue.admin.links import (
    job_url,
    jobs_query,
    jobs_url_or_none,
    leads_to,
    queue_url,
    queues_url,
)
from django_kue.admin.pages import KuePages
from django_kue.conf import settings
from django_kue.errors import EnqueueError
from django_kue.jobs import Job
from django_kue.kinds import DAY, HOUR, Rate
from django_kue.listing import Listing, queue_names
from django_kue.models import STATES
from django_kue.overview import QueueOverview, overview
from django_kue.queue import Queue
from django_kue.states import FINISHED, State

SHOWN = (State.WAITING, State.DELAYED, State.ACTIVE, State.FAILED, State.COMPLETED, State.CANCELLED)


# ── what the pages show ──


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue with everything that a page shows about it."""

    overview: QueueOverview
    cells: tuple[tuple[str, int, str | None], ...]  # state, how many, where they're listed
    spark: str  # the points of a line, in a box of 100 × 24
    peak: int  # runs in the busiest part of the last hour
    concurrency: int | None
    rate: str

    @property
    def name(self) -> str:
        return self.overview.name

    @property
    def is_unserved(self) -> bool:
        """Whether jobs could run, but no worker listens. A paused queue is another matter."""
        return is_unserved(self.overview)


def is_unserved(queue: QueueOverview) -> bool:
    """Whether jobs wait on a queue that isn't paused and that no worker listens to."""
    counts = queue.counts
    return not queue.workers and queue.paused_since is None and bool(counts["waiting"] + counts["delayed"])


def views_of(queues: Sequence[QueueOverview], jobs: str | None) -> list[QueueView]:
    """What the pages show about these queues; ``jobs`` is the URL of the list of jobs, if it's linked to."""
    sparks = metrics.sparklines([queue.name for queue in queues])
    return [_view(queue, sparks[queue.name], jobs) for queue in queues]


def _view(queue: QueueOverview, counts: Sequence[int], jobs: str | None) -> QueueView:
    options = settings.queue_or_default(queue.name)
    return QueueView(
        overview=queue,
        cells=tuple(
            (
                str(state),
                queue.counts[state],
                None if jobs is None else jobs + jobs_query(state=str(state), queue=queue.name),
            )
            for state in SHOWN
        ),
        spark=points_of(counts),
        peak=max(counts, default=0),
        concurrency=options.concurrency,
        rate=_rate(options.rate),
    )


def points_of(counts: Sequence[int], width: float = 100, height: float = 22) -> str:
    """The points of an SVG polyline; empty if nothing happened.

    >>> points_of([0, 4, 2])
    '0,23 50,1 100,12'
    """
    peak = max(counts, default=0)
    if not peak or len(counts) < 2:
        return ""
    step = width / (len(counts) - 1)
    return " ".join(
        f"{index * step:.4g},{1 + height * (1 - count / peak):.4g}" for index, count in enumerate(counts)
    )


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return ""
    unit = {1000: _("second"), 60_000: _("minute"), 3_600_000: _("hour")}[rate.period_ms]
    return _("%(count)s per %(unit)s") % {"count": rate.count, "unit": unit}


# ── forms ──


class CleanForm(forms.Form):
    """Which finished jobs to remove."""

    state = forms.ChoiceField(
        label=gettext_lazy("State"), choices=[row for row in STATES if State(row[0]) in FINISHED]
    )
    amount = forms.IntegerField(label=gettext_lazy("Older than"), min_value=0, max_value=100_000, initial=7)
    unit = forms.TypedChoiceField(
        label=gettext_lazy("Unit"),
        coerce=int,
        choices=[(60, gettext_lazy("minutes")), (HOUR, gettext_lazy("hours")), (DAY, gettext_lazy("days"))],
        initial=DAY,
    )

    @property
    def seconds(self) -> int:
        """The age in seconds, if the form is valid."""
        return int(self.cleaned_data["amount"] * self.cleaned_data["unit"])


class EmptyForm(forms.Form):
    """The queue's name, typed by hand."""

    name = forms.CharField(
        label=gettext_lazy("Name of the queue"),
        widget=forms.TextInput({"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )

    def __init__(self, queue: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = queue

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        if name != self.queue:
            raise forms.ValidationError(_("That isn’t this queue’s name. Nothing was removed."))
        return name


# ── pages ──


class QueueAdminMixin(KuePages):
    """Turns a ``ModelAdmin`` (Django's, or a theme's) into the queues' pages.

    Pausing, resuming, retrying and promoting take the permission to change queues; emptying and cleaning take
    the permission to delete them.
    """

    class Media:
        css = {"all": ["django_kue/kue.css", "django_kue/boards.css"]}
        js = [Script("django_kue/live.js", defer=True)]

    def get_urls(self) -> list[URLPattern]:
        views: dict[str, Callable[..., HttpResponse]] = {
            "pause": self.pause_view,
            "resume": self.resume_view,
            "retry": self.retry_view,
            "promote": self.promote_view,
            "clean": self.clean_view,
            "empty": self.empty_view,
        }
        ours = [
            path(
                f"<path:object_id>/{verb}/",
                self._unless_away(self.admin_site.admin_view(view)),
                name=f"django_kue_queue_{verb}",
            )
            for verb, view in views.items()
        ]
        return [*ours, *super().get_urls()]

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> models.Queue | None:
        """The queue's row; ``None`` when it isn't declared and never had jobs."""
        found = overview([object_id]).queues
        return _row(found[0]) if found else None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self.require(self.has_view_permission(request))  # type: ignore[attr-defined]
        seen = overview(queue_names())
        return self.page(
            request,
            "admin/django_kue/queues.html",
            _("Queues"),
            queues=views_of(seen.queues, jobs_url_or_none(request, self.admin_site)),
            more_queues=seen.others,
            states=[str(state) for state in SHOWN],
            **self._rights(request),
            **(extra_context or {}),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        name = unquote(object_id)
        obj = self.get_object(request, name)
        self.require(self.has_view_permission(request, obj))  # type: ignore[attr-defined]
        if obj is None:
            return self._unknown(request, name)
        return self._queue_page(request, obj, CleanForm(), **(extra_context or {}))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Queues are declared in the settings: only their jobs can be removed here."""
        return HttpResponseRedirect(queue_url(self.admin_site.name, unquote(object_id)))

    # ── steering ──

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._steer(request, object_id, "change", self._pause)

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._steer(request, object_id, "change", self._resume)

    def retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._steer(request, object_id, "change", self._retry)

    def promote_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._steer(request, object_id, "change", self._promote)

    def clean_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._steer(request, object_id, "delete", self._clean)

    def empty_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the queue's name, then remove its waiting and delayed jobs."""
        obj = self._allowed(request, object_id, "delete")
        if obj is None:
            return self._unknown(request, unquote(object_id))
        form = EmptyForm(obj.pk, request.POST if request.method == "POST" else None)
        if form.is_valid():
            gone = Queue(obj.pk).empty()
            self._tell(request, obj, _removed(gone))
            return HttpResponseRedirect(queue_url(self.admin_site.name, obj.pk))
        return self.page(
            request,
            "admin/django_kue/queue_empty.html",
            _("Empty queue %s?") % obj.pk,
            queue=obj.overview,
            form=form,
        )

    def _steer(
        self,
        request: HttpRequest,
        object_id: str,
        permission: str,
        deed: Callable[[HttpRequest, models.Queue], HttpResponse | None],
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = self._allowed(request, object_id, permission)
        if obj is None:
            return self._unknown(request, unquote(object_id))
        return deed(request, obj) or self._back(request, obj.pk)

    def _pause(self, request: HttpRequest, obj: models.Queue) -> None:
        if Queue(obj.pk).pause():
            self._tell(request, obj, _("Paused: no worker takes its jobs; running ones finish."))
        else:
            messages.info(request, _("Queue %s was paused already.") % obj)

    def _resume(self, request: HttpRequest, obj: models.Queue) -> None:
        if Queue(obj.pk).resume():
            self._tell(request, obj, _("Resumed: workers take its jobs again."))
        else:
            messages.info(request, _("Queue %s wasn’t paused.") % obj)

    def _retry(self, request: HttpRequest, obj: models.Queue) -> HttpResponse | None:
        return self._in_bulk(request, obj, State.FAILED, "retry", _retried)

    def _promote(self, request: HttpRequest, obj: models.Queue) -> HttpResponse | None:
        return self._in_bulk(request, obj, State.DELAYED, "promote", _promoted)

    def _clean(self, request: HttpRequest, obj: models.Queue) -> HttpResponse | None:
        form = CleanForm(request.POST)
        if not form.is_valid():
            return self._queue_page(request, obj, form)
        self._tell(request, obj, _removed(Queue(obj.pk).clean(form.cleaned_data["state"], form.seconds)))
        return None

    def _in_bulk(
        self, request: HttpRequest, obj: models.Queue, state: State, verb: str, said: Callable[[int], str]
    ) -> HttpResponse | None:
        """Do it here, or have a job do it if there are too many; then go to that job's page."""
        try:
            done = bulk.start(Listing(state=state, queue=obj.pk), verb)
        except EnqueueError as error:
            messages.error(
                request,
                _("There are too many to do this at once, and no job could be enqueued for it: %s") % error,
            )
            return None
        if isinstance(done, Job):
            text = _("There are many, so a job does it: %s.") % done.id
            self._tell(request, obj, text)
            sees_it = leads_to(request, self.admin_site, models.Job)
            return HttpResponseRedirect(job_url(self.admin_site.name, done.id)) if sees_it else None
        self._tell(request, obj, said(done.done))
        if done.skipped:
            messages.warning(request, left_alone(done.skipped))
        return None

    # ── how ──

    def _queue_page(
        self, request: HttpRequest, obj: models.Queue, form: CleanForm, **context: Any
    ) -> HttpResponse:
        (view,) = views_of([obj.overview], jobs_url_or_none(request, self.admin_site))
        return self.page(
            request,
            "admin/django_kue/queue.html",
            obj.pk,
            queue=view,
            form=form,
            **self._rights(request),
            **context,
        )

    def _rights(self, request: HttpRequest) -> dict[str, bool]:
        return {
            "may_change": self.has_change_permission(request),  # type: ignore[attr-defined]
            "may_delete": self.has_delete_permission(request),  # type: ignore[attr-defined]
            "sees_workers": leads_to(request, self.admin_site, models.Worker),
        }

    def _allowed(self, request: HttpRequest, object_id: str, permission: str) -> models.Queue | None:
        """The queue, when this person may do that with it; ``None`` when there's no such queue."""
        obj = self.get_object(request, unquote(object_id))
        self.require(getattr(self, f"has_{permission}_permission")(request, obj))
        return obj

    def _tell(self, request: HttpRequest, obj: models.Queue, text: str) -> None:
        self.note(request, text, obj)
        messages.success(request, _("Queue %(queue)s: %(text)s") % {"queue": obj, "text": text})

    def _unknown(self, request: HttpRequest, name: str) -> HttpResponse:
        messages.warning(request, _("There’s no queue %s: it isn’t declared, and never had jobs.") % name)
        return HttpResponseRedirect(queues_url(self.admin_site.name))

    def _back(self, request: HttpRequest, name: str) -> HttpResponse:
        site = self.admin_site.name
        is_list = request.POST.get("back") == "list"
        return HttpResponseRedirect(queues_url(site) if is_list else queue_url(site, name))


def _row(queue: QueueOverview) -> models.Queue:
    row = models.Queue(name=queue.name)
    row.overview = queue
    return row


def _retried(count: int) -> str:
    return ngettext("%d failed job runs again.", "%d failed jobs run again.", count) % count


def _promoted(count: int) -> str:
    return ngettext("%d delayed job runs now.", "%d delayed jobs run now.", count) % count


def left_alone(count: int) -> str:
    return (
        ngettext(
            "%d job was left alone: it had changed meanwhile, or another one holds its unique key.",
            "%d jobs were left alone: they had changed meanwhile, or others hold their unique keys.",
            count,
        )
        % count
    )


def _removed(count: int) -> str:
    return ngettext("%d job removed.", "%d jobs removed.", count) % count
