"""The page of one job, and what can be done with it there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_kue import bulk, models
from django_kue.admin.links import jobs_url, worker_url_or_none
from django_kue.admin.run_again import RunAgain
from django_kue.admin.seam import row_of
from django_kue.admin.story import MOST_LINES, Story
from django_kue.errors import IllegalTransition, JobDoesNotExist
from django_kue.jobs import Job
from django_kue.priorities import priority_number
from django_kue.states import FINISHED, MOVES, State
from django_kue.templatetags.kue import label

LIVE_LINES = 200  # log lines that a page which is already open asks for


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that a button of a job's page does with the job."""

    name: str  # its button's name, after an underscore
    do: Callable[[Job], object]
    states: frozenset[State]
    label: Promise
    done: Promise  # what the user is told …
    noted: Promise  # … and what the history says


VERBS = (
    Verb(
        "retry",
        Job.retry,
        MOVES["requeue"].sources,
        gettext_lazy("Retry"),
        gettext_lazy("The job will run again."),
        gettext_lazy("Retried."),
    ),
    Verb(
        "promote",
        Job.promote,
        MOVES["promote"].sources,
        gettext_lazy("Promote: run now"),
        gettext_lazy("The job was promoted: it runs as soon as a worker is free."),
        gettext_lazy("Promoted."),
    ),
    Verb(
        "cancel",
        Job.cancel,
        MOVES["cancel"].sources,
        gettext_lazy("Cancel"),
        gettext_lazy("The job was cancelled."),
        gettext_lazy("Cancelled."),
    ),
)


class JobPage(RunAgain):
    """The change view of a job: all that's known about it, and the actions that its state allows."""

    change_view_template = "admin/django_kue/job.html"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self.require(self.has_view_or_change_permission(request))
        is_live = "X-Kue-Live" in request.headers
        try:
            if request.method == "POST":
                return self._acted(request, Job.get(unquote(object_id)))
            story = Story.of(unquote(object_id), *([LIVE_LINES] if is_live else []))
        except JobDoesNotExist:
            return self.job_is_gone(request, object_id)
        return self._shown(request, story, is_live, extra_context or {})

    def _shown(
        self, request: HttpRequest, story: Story, is_live: bool, extra_context: dict[str, Any]
    ) -> HttpResponse:
        obj = row_of(story.job)
        can_change = self.has_change_permission(request, obj)
        context = self.frame_of(request, obj) | {
            "story": story,
            "job": story.job,
            "verbs": [
                verb for verb in VERBS if story.job.state in verb.states and self._may_do(request, obj, verb)
            ],
            "can_set_priority": can_change and story.job.state not in (FINISHED | {State.ACTIVE}),
            "can_remove": self.has_delete_permission(request, obj),
            "can_run_again": self.may_run_again(request, story.job),
            # A page that's already open keeps those that it has.
            "siblings": None if is_live else [self._sibling(job) for job in story.siblings()],
            "most_lines": MOST_LINES,
            "function_url": jobs_url(self.admin_site.name, name=story.job.name),
            "queue_url": jobs_url(self.admin_site.name, queue=story.job.queue),
            "worker_url": self._worker_url(request, story.job),
            "run_again_url": self.url_of(story.job.id, "run_again"),
            "history_url": self.url_of(story.job.id, "history"),
            "remove_url": self.url_of(story.job.id, "delete"),
        }
        return self.page(request, self.change_view_template, story.job.title, **context | extra_context)

    def _worker_url(self, request: HttpRequest, job: Job) -> str | None:
        """The page of the worker that runs the job, for people who may see workers."""
        running_on = job.worker.rpartition("/")[0] if job.state is State.ACTIVE else ""  # without its process
        return worker_url_or_none(request, self.admin_site, running_on)

    def _sibling(self, job: Job) -> dict[str, Any]:
        at = job.finished_at or job.started_at or job.created_at
        return {"job": job, "at": at, "url": self.url_of(job.id)}

    # ── actions ──

    def _acted(self, request: HttpRequest, job: Job) -> HttpResponse:
        """Do what the pressed button says, and go back to the page."""
        obj = row_of(job)
        self.require(self.has_change_permission(request, obj))
        here = HttpResponseRedirect(self.url_of(job.id))
        if "_set_priority" in request.POST:
            self._set_priority(request, obj)
            return here
        for verb in VERBS:
            if f"_{verb.name}" in request.POST:
                self.require(self._may_do(request, obj, verb))
                self._do(request, obj, verb)
        return here

    def _may_do(self, request: HttpRequest, obj: models.Job, verb: Verb) -> bool:
        """A bulk job can change, remove and enqueue jobs: retrying it takes the permissions for all that."""
        may = bool(self.has_change_permission(request, obj))
        if verb.name == "retry" and obj.job.name == bulk.bulk_job.name:
            return may and self.has_delete_permission(request, obj) and self.may_enqueue(request)
        return may

    def _do(self, request: HttpRequest, obj: models.Job, verb: Verb) -> None:
        job: Job = obj.job
        try:
            after = verb.do(job)
        except IllegalTransition:
            self._say_why_not(request, job, verb.states)
            return
        self.note(request, str(verb.noted), obj)
        if isinstance(after, Job) and verb.name == "cancel" and after.state is State.ACTIVE:
            message = _("The job is running: it was asked to stop, and is cancelled when its run has ended.")
        else:
            message = str(verb.done)
        self.message_user(request, message, messages.SUCCESS)

    def _set_priority(self, request: HttpRequest, obj: models.Job) -> None:
        job: Job = obj.job
        given = request.POST.get("priority", "").strip()
        try:
            priority = priority_number(_whole_or_name(given))
        except (ValueError, TypeError):
            message = _("“%(given)s” isn’t a priority: write a whole number from −100 to 100.")
            self.message_user(request, message % {"given": given[:20]}, messages.ERROR)
            return
        job.set_priority(priority)
        self.note(request, _("Changed priority to %(priority)d.") % {"priority": priority}, obj)
        message = _("The job’s priority is %(priority)d now.") % {"priority": priority}
        self.message_user(request, message, messages.SUCCESS)

    def _say_why_not(self, request: HttpRequest, job: Job, states: frozenset[State]) -> None:
        """Somebody else, or a worker, was faster."""
        now = job.refresh()
        if now.state in states:  # so it isn't the state that forbids it
            message = _("Nothing was changed: another job holds its unique key.")
        else:
            message = _("Nothing was changed: the job is %(state)s by now.") % {"state": label(now.state)}
        self.message_user(request, message, messages.WARNING)

    def delete_model(self, request: HttpRequest, obj: models.Job) -> None:
        try:
            obj.job.remove()
        except JobDoesNotExist:  # which is what was asked for
            return


def _whole_or_name(text: str) -> int | str:
    text = text.replace("−", "-")  # as the page writes it
    return int(text) if text.lstrip("+-").isdigit() else text
