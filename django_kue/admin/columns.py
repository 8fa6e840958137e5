"""The columns of the list of jobs: each state has those that are of interest for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_kue import models
from django_kue.admin.filters import chosen_state
from django_kue.admin.links import worker_url_or_none
from django_kue.states import State
from django_kue.templatetags import kue

# On a phone, the first ones are what's visible without scrolling.
COLUMNS: dict[State | None, list[str]] = {
    None: ["job_title", "state_badge", "when", "function"],
    State.DELAYED: ["job_title", "due", "attempts", "function"],
    State.WAITING: ["job_title", "place", "waiting_since", "priority", "function"],
    State.ACTIVE: ["job_title", "progress", "started", "worker", "function"],
    State.COMPLETED: ["job_title", "finished", "took", "function"],
    State.FAILED: ["job_title", "error_line", "failed", "attempts", "function"],
    State.CANCELLED: ["job_title", "cancelled", "error_line", "function"],
}
ERROR_LENGTH = 160  # characters of an error's text that a list shows


class JobColumns:
    """Mixed into the jobs' ``ModelAdmin``. What changes is in regions that ``live.js`` swaps."""

    admin_site: Any

    def get_list_display(self, request: HttpRequest) -> list[str | Callable[[models.Job], SafeString]]:
        columns = COLUMNS[chosen_state(request)]
        return [self._worker(request) if column == "worker" else column for column in columns]

    @admin.display(description=gettext_lazy("job"))
    def job_title(self, row: models.Job) -> SafeString:
        return format_html('<span data-kue-id="{}">{}</span>', row.id, kue.breakable(row.title or row.id))

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: models.Job) -> SafeString:
        return self._live(row, "state", kue.badge(row.state))

    @admin.display(description=gettext_lazy("function"))
    def function(self, row: models.Job) -> SafeString:
        return format_html(
            '<span class="kue-function">{}</span> <span class="kue-quiet kue-queue">{}</span>',
            kue.breakable(row.name),
            row.queue,
        )

    @admin.display(description=gettext_lazy("priority"))
    def priority(self, row: models.Job) -> SafeString:
        return format_html('<span class="kue-number">{}</span>', localize(row.job.priority))

    @admin.display(description=gettext_lazy("attempts"))
    def attempts(self, row: models.Job) -> SafeString:
        made, most = localize(row.job.attempts_made), localize(row.job.attempts)
        words = _("%(made)s of %(most)s") % {"made": made, "most": most}
        return self._live(row, "attempts", format_html('<span class="kue-number">{}</span>', words))

    @admin.display(description=gettext_lazy("place"))
    def place(self, row: models.Job) -> SafeString:
        """Its place in the queue, from 1; known only if a single queue is listed, without other filters."""
        place = getattr(row, "place", None)
        return self._live(
            row,
            "place",
            format_html('<span class="kue-number">{}</span>', kue.NONE if place is None else localize(place)),
        )

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, row: models.Job) -> SafeString:
        percent = round(row.job.progress)
        bar = format_html(
            '<progress class="kue-progress" max="100" value="{}" aria-label="{}"></progress>'
            ' <span class="kue-number">{}</span>',
            percent,
            _("Progress"),
            _("%(percent)s %%") % {"percent": localize(percent)},
        )
        return self._live(row, "progress", bar)

    def _worker(self, request: HttpRequest) -> Callable[[models.Job], SafeString]:
        """The column of workers as this person sees it: not everybody may follow its links."""

        @admin.display(description=gettext_lazy("worker"))
        def worker(row: models.Job) -> SafeString:
            name = row.job.worker.rpartition("/")[0] or row.job.worker
            url = worker_url_or_none(request, self.admin_site, name)
            return (
                format_html('<a href="{}">{}</a>', url, name) if url else format_html("{}", name or kue.NONE)
            )

        return worker

    @admin.display(description=gettext_lazy("error"))
    def error_line(self, row: models.Job) -> SafeString:
        error = row.job.error
        if error is None:
            return format_html("{}", kue.NONE)
        line = " ".join(error.summary.split())
        shown = line if len(line) <= ERROR_LENGTH else line[: ERROR_LENGTH - 1] + "…"
        return format_html('<span class="kue-error" title="{}">{}</span>', line[:1000], shown)

    @admin.display(description=gettext_lazy("took"))
    def took(self, row: models.Job) -> SafeString:
        job = row.job
        if job.started_at is None or job.finished_at is None:
            return format_html("{}", kue.NONE)
        seconds = max(0.0, (job.finished_at - job.started_at).total_seconds())
        return format_html('<span class="kue-number">{}</span>', kue.duration(seconds))

    # ── the date: one column, whose heading says what it's the date of ──

    @admin.display(description=gettext_lazy("date"), ordering="at")
    def when(self, row: models.Job) -> SafeString:
        return self._due(row, row.at)

    @admin.display(description=gettext_lazy("due"), ordering="at")
    def due(self, row: models.Job) -> SafeString:
        return self._due(row, row.job.run_at or row.at)

    @admin.display(description=gettext_lazy("waiting since"), ordering="at")
    def waiting_since(self, row: models.Job) -> SafeString:
        return self._ago(row, row.at)

    @admin.display(description=gettext_lazy("running for"), ordering="at")
    def started(self, row: models.Job) -> SafeString:
        since = row.job.started_at or row.at
        seconds = max(0.0, (datetime.now(UTC) - since).total_seconds())
        words = format_html(
            '<time class="kue-number" datetime="{}" title="{}">{}</time>',
            since.isoformat(),
            kue.full_date(since),
            kue.duration(seconds),
        )
        return self._live(row, "at", words)

    @admin.display(description=gettext_lazy("finished"), ordering="at")
    def finished(self, row: models.Job) -> SafeString:
        return self._ago(row, row.at)

    @admin.display(description=gettext_lazy("failed"), ordering="at")
    def failed(self, row: models.Job) -> SafeString:
        return self._ago(row, row.at)

    @admin.display(description=gettext_lazy("cancelled"), ordering="at")
    def cancelled(self, row: models.Job) -> SafeString:
        return self._ago(row, row.at)

    def _due(self, row: models.Job, moment: datetime) -> SafeString:
        """A job that no worker could run is due again every few seconds; saying that would tell nothing."""
        if not row.job.is_parked:
            return self._ago(row, moment)
        return self._live(
            row, "at", format_html('<span class="kue-error">{}</span>', _("no worker could run it"))
        )

    def _ago(self, row: models.Job, moment: datetime) -> SafeString:
        return self._live(row, "at", kue.ago(moment))

    def _live(self, row: models.Job, column: str, content: SafeString) -> SafeString:
        return format_html('<span data-kue="{}:{}">{}</span>', row.id, column, content)
