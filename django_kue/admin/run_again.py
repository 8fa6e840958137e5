"""Running a job's function again, with arguments edited on a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_kue import bulk, registry
from django_kue.admin.arguments import (
    Definition,
    arguments_field,
    called_with,
    is_complete,
    read_object,
    shown,
    stored_arguments,
    values_of,
)
from django_kue.admin.one_job import OneJob
from django_kue.admin.seam import row_of
from django_kue.conf import settings
from django_kue.errors import EnqueueError, IllegalTransition, JobDoesNotExist
from django_kue.jobs import Job
from django_kue.moments import TICK
from django_kue.priorities import HIGHEST, LOWEST
from django_kue.redaction import MASK

LONGEST_DELAY = 10 * 365 * 24 * 3600  # seconds


class RunAgainForm(forms.Form):
    """Arguments as JSON by name, and where and when to run."""

    arguments = arguments_field()
    queue = forms.ChoiceField(label=gettext_lazy("Queue"))
    priority = forms.IntegerField(
        label=gettext_lazy("Priority"),
        min_value=LOWEST,
        max_value=HIGHEST,
        help_text=gettext_lazy("A higher one runs sooner."),
    )
    delay = forms.FloatField(
        label=gettext_lazy("Delay"),
        min_value=0,
        max_value=LONGEST_DELAY,
        initial=0,
        help_text=gettext_lazy("Seconds from now; 0 runs it as soon as a worker is free."),
    )

    def __init__(self, job: Job, definition: Definition, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Templates call what's callable, which would run the job. They can't reach names that begin with "_".
        self._definition = definition
        self.stored = stored_arguments(job._arguments, definition)
        queue = self.fields["queue"]
        assert isinstance(queue, forms.ChoiceField)
        queue.choices = [(name, name) for name in settings.queues]
        self.initial = {
            "arguments": shown(self.stored),
            "queue": job.queue if job.queue in settings.queues else definition.options.queue,
            "priority": job.priority,
        }

    def clean_arguments(self) -> Mapping[str, Any]:
        """The arguments by name, as values."""
        return values_of(read_object(self.cleaned_data["arguments"]), self.stored)

    def clean(self) -> dict[str, Any]:
        """Also check that the function can be called that way: ``call`` holds its args and kwargs."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "arguments" in cleaned:
            try:
                cleaned["call"] = called_with(self._definition, cleaned["arguments"])
            except ValidationError as error:
                self.add_error("arguments", error)
        return cleaned

    @property
    def where_and_when(self) -> dict[str, Any]:
        """The options for ``.using()``, besides those that the job was enqueued with."""
        names = ["queue", "priority", *(["delay"] if self.cleaned_data["delay"] else [])]
        return {name: self.cleaned_data[name] for name in names}


class RunAgain(OneJob):
    """The page “Run again”, and its permission."""

    run_again_template = "admin/django_kue/run_again.html"

    def get_urls(self) -> list[Any]:
        view = self._unless_away(self.admin_site.admin_view(self.run_again_view))
        name = f"{self.opts.app_label}_{self.opts.model_name}_run_again"
        return [path("<path:object_id>/run-again/", view, name=name), *super().get_urls()]

    def may_enqueue(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.enqueue_job")

    def may_run_again(self, request: HttpRequest, job: Job) -> bool:
        """Nobody may edit the arguments of a bulk job: they say what it does to which jobs, and starting one
        from the list takes that verb's permission."""
        return self.may_enqueue(request) and job.name != bulk.bulk_job.name

    def run_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form on GET; on POST enqueue a new job, and go to its page."""
        self.require(self.may_enqueue(request) and self.has_view_permission(request))
        try:
            job = Job.get(unquote(object_id))
        except JobDoesNotExist:
            return self.job_is_gone(request, object_id)
        self.require(self.may_run_again(request, job))
        definition = registry.get(job.name)
        if definition is None:
            return self._form_page(request, job, None)
        form = RunAgainForm(job, definition, request.POST if request.method == "POST" else None)
        if form.is_valid() and (new := self._enqueued(request, job, form)) is not None:
            return HttpResponseRedirect(self.url_of(new.id))
        return self._form_page(request, job, form)

    def _form_page(self, request: HttpRequest, job: Job, form: RunAgainForm | None) -> HttpResponse:
        return self.page(
            request,
            self.run_again_template,
            _("Run again: %(title)s") % {"title": job.title},
            **self.frame_of(request, row_of(job)),
            job=job,
            form=form,
            errors=form.errors if form else None,
            mask=MASK,
            signature=str(form._definition.signature) if form else "",
            is_complete=form is not None and is_complete(job._arguments, form._definition),
            has_masks=bool(form and MASK in form.initial["arguments"]),
            job_url=self.url_of(job.id),
        )

    def _enqueued(self, request: HttpRequest, job: Job, form: RunAgainForm) -> Job | None:
        """The new job; ``None`` if it couldn't be enqueued: then the form says so."""
        args, kwargs = form.cleaned_data["call"]
        began = datetime.now(UTC) - TICK  # ids only have whole milliseconds
        try:
            # At once, even if the request runs in a transaction: the page tells the user the outcome.
            new = bulk.copy_of(job, args=args, kwargs=kwargs, **form.where_and_when)
        except IllegalTransition as error:  # they're corrupt, or from another release
            message = _("The options that the job was enqueued with can’t be read: %(error)s")
            form.add_error(None, message % {"error": error.__cause__ or error})
            return None
        except EnqueueError as error:
            form.add_error(None, str(error))
            if error.may_be_stored:
                form.add_error(None, _("It may have been enqueued all the same: look before you try again."))
            return None
        if new.created_at < began:
            message = _("Another job holds the unique key: this is it. Nothing was enqueued.")
            self.message_user(request, message, messages.WARNING)
            return new
        self.note(request, _("Ran again as %(id)s.") % {"id": new.id}, row_of(job))
        self.note(request, _("Enqueued by running %(id)s again.") % {"id": job.id}, row_of(new))
        message = _("This is the new job. The original stays as it was.")
        self.message_user(request, message, messages.SUCCESS)
        return new
