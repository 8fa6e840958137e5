"""Running a job's function again, with arguments that were edited on a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from math import isfinite
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_kue import bulk, codecs, registry
from django_kue.admin.one_job import OneJob
from django_kue.admin.seam import row_of
from django_kue.codecs import CodecError
from django_kue.conf import settings
from django_kue.decorators import JobFunction
from django_kue.errors import EnqueueError, IllegalTransition, JobDoesNotExist
from django_kue.jobs import Job
from django_kue.priorities import HIGHEST, LOWEST
from django_kue.redaction import MASK, redacted

Definition = JobFunction[Any, Any]
_NOTHING = object()  # where nothing is stored, not even None
LONGEST_DELAY = 10 * 365 * 24 * 3600  # seconds


class HiddenValueMoved(ValueError):
    """A mask stands where nothing was masked, so that nobody can tell what's meant."""


class RunAgainForm(forms.Form):
    """Arguments as JSON by name, and where and when to run."""

    arguments = forms.CharField(
        label=gettext_lazy("Arguments"),
        strip=False,
        widget=AdminTextareaWidget(
            attrs={"rows": 12, "spellcheck": "false", "class": "vLargeTextField kue-code"}
        ),
    )
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
        # A template calls what can be called: it would run the job. It can't reach what begins with a line.
        self._definition = definition
        self.stored = stored_arguments(job, definition)
        queue = self.fields["queue"]
        assert isinstance(queue, forms.ChoiceField)
        queue.choices = [(name, name) for name in settings.queues]
        self.initial = {
            "arguments": as_text({name: redacted(name, value) for name, value in self.stored.items()}),
            "queue": job.queue if job.queue in settings.queues else definition.options.queue,
            "priority": job.priority,
        }

    def clean_arguments(self) -> Mapping[str, Any]:
        """The arguments by name, as values."""
        edited = read_object(self.cleaned_data["arguments"])
        values, errors = {}, []
        for name, value in edited.items():
            try:
                values[name] = _value_of(name, value, self.stored)
            except (CodecError, HiddenValueMoved) as error:
                errors.append(ValidationError(_at(name, error)))
        if errors:
            raise ValidationError(errors)
        return values

    def clean(self) -> dict[str, Any]:
        """Also checks that the function can be called so: ``call`` are its args and kwargs."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "arguments" in cleaned:
            try:
                cleaned["call"] = call_of(self._definition, cleaned["arguments"])
            except TypeError as error:
                message = _("%(error)s. The function takes %(signature)s.")
                known = {"error": _sentence(error), "signature": self._definition.signature}
                self.add_error("arguments", message % known)
        return cleaned

    @property
    def where_and_when(self) -> dict[str, Any]:
        """What ``.using()`` is given beside the options that the job was enqueued with."""
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
        """Nobody edits the arguments of a bulk job: they say what it does to which jobs, and whoever starts
        one from the list needs that verb's permission."""
        return self.may_enqueue(request) and job.name != bulk.bulk_job.name

    def run_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A form on GET; on POST a new job, and its page."""
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
            is_complete=form is not None and is_complete(job, form._definition),
            has_masks=bool(form and MASK in form.initial["arguments"]),
            job_url=self.url_of(job.id),
        )

    def _enqueued(self, request: HttpRequest, job: Job, form: RunAgainForm) -> Job | None:
        """The new job; ``None`` when it couldn't be enqueued, which the form then says."""
        args, kwargs = form.cleaned_data["call"]
        began = timezone.now() - timedelta(milliseconds=1)  # ids tell whole milliseconds
        try:
            # At once, even if the request is a transaction: what comes of it is said on this page.
            new = bulk.copy_of(job, args=args, kwargs=kwargs, **form.where_and_when)
        except IllegalTransition as error:  # they're corrupt, or of another release
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
        self.note(request, _("Enqueued, as %(id)s was.") % {"id": job.id}, row_of(new))
        message = _("This is the new job. The one before stays as it was.")
        self.message_user(request, message, messages.SUCCESS)
        return new


# ── arguments ──


def stored_arguments(job: Job, definition: Definition) -> dict[str, Any]:
    """A job's arguments by name, in their stored form: JSON with tags.

    Those that have no name in the function as it is now are left out, see :func:`is_complete`.
    """
    args, kwargs = _raw_arguments(job)
    try:
        named = definition.signature.given(tuple(args), kwargs)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}
    except TypeError:  # it was enqueued for another signature
        return dict(kwargs)


def is_complete(job: Job, definition: Definition) -> bool:
    """True when all of a job's arguments can be read, and fit the function as it is now."""
    try:
        args, kwargs = _raw(job)
        definition.signature.given(tuple(args), kwargs)
    except (TypeError, ValueError):
        return False
    return True


def _raw_arguments(job: Job) -> tuple[list[Any], dict[str, Any]]:
    try:
        return _raw(job)
    except ValueError:
        return [], {}


def _raw(job: Job) -> tuple[list[Any], dict[str, Any]]:
    value = json.loads(job._arguments) if job._arguments else []
    if isinstance(value, list):
        return value, {}
    if (
        isinstance(value, dict)
        and isinstance(value.get("a", []), list)
        and isinstance(value.get("k", {}), dict)
    ):
        return value.get("a", []), value.get("k", {})
    raise ValueError("not a job's arguments")


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def read_object(text: str) -> dict[str, Any]:
    """A JSON object that somebody typed.

    Raises:
        ValidationError: it isn't one; the message says where.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        message = _("This isn’t JSON: %(error)s, in line %(line)d, column %(column)d.")
        where = {"error": error.msg, "line": error.lineno, "column": error.colno}
        raise ValidationError(message % where) from error
    except (ValueError, RecursionError) as error:
        raise ValidationError(_("This isn’t JSON: %(error)s.") % {"error": error}) from error
    if not isinstance(value, dict):
        raise ValidationError(_("Write an object: the arguments by name, in braces."))
    return value


def _refuse(name: str) -> Any:
    raise ValueError(_("%(name)s isn’t a number in JSON") % {"name": name})


def _whole(text: str) -> Any:
    """As it's stored: beyond 64 bits with a tag, since not every JSON library reads such numbers exactly."""
    return json.loads(codecs.dumps(int(text)))


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValidationError(_("%(number)s is too large a number to be stored.") % {"number": text[:20]})
    return number


def _value_of(name: str, edited: Any, stored: Mapping[str, Any]) -> Any:
    """The value that an edited argument stands for: hidden values filled in, tags read, rows fetched."""
    codecs.dumps(edited)  # refuses what can't be stored, before anything walks through it
    whole = unmasked(name, edited, stored.get(name, _NOTHING))
    return codecs.loads(json.dumps(whole).encode())


def unmasked(name: str, edited: Any, stored: Any = _NOTHING) -> Any:
    """An edited value with what was hidden put back where it stood.

    Inside a list, hidden values stay only in items that weren't changed: after a change of their order nobody
    could tell whose they are.

    Raises:
        HiddenValueMoved: a mask stands where nothing was hidden.

    >>> unmasked("login", {"user": "eve", "password": "•••"}, {"user": "bob", "password": "x"})
    {'user': 'eve', 'password': 'x'}
    """
    if stored is not _NOTHING and _is_same(edited, redacted(name, stored)):
        return stored
    if edited == MASK:
        raise HiddenValueMoved
    if isinstance(edited, dict):
        inner = stored if isinstance(stored, dict) else {}
        return {key: unmasked(key, value, inner.get(key, _NOTHING)) for key, value in edited.items()}
    if isinstance(edited, list):
        items = stored if isinstance(stored, list) else []
        return [
            items[at] if at < len(items) and _is_same(item, redacted("", items[at])) else unmasked("", item)
            for at, item in enumerate(edited)
        ]
    return edited


def _is_same(one: Any, other: Any) -> bool:
    """Equal as JSON, where 1 and true aren't."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def call_of(definition: Definition, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments for arguments by name; ``*args`` and ``**kwargs`` by their own.

    Raises:
        TypeError: the function can't be called so; the message names the argument.
    """
    signature = definition.signature._signature
    for name in values:
        if name not in signature.parameters:
            raise TypeError(_("there’s no argument %(name)r") % {"name": name})
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    missing = ""
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = _rest(name, values.get(name, []), list)
            if rest and missing:
                raise TypeError(_("argument %(name)r is needed before the rest") % {"name": missing})
            args += rest
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= _rest(name, values.get(name, {}), dict)
        elif name not in values:
            missing = missing or name  # what comes after it can only be given by name
        elif parameter.kind is parameter.KEYWORD_ONLY or missing:
            kwargs[name] = values[name]
        else:
            args.append(values[name])
    definition.signature.given(tuple(args), kwargs)
    return tuple(args), kwargs


def _rest(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        wanted = _("a list") if kind is list else _("an object")
        raise TypeError(_("argument %(name)r: write %(wanted)s") % {"name": name, "wanted": wanted})
    return value


# ── what was wrong ──


def _at(name: str, error: Exception) -> str:
    if isinstance(error.__cause__, UnicodeEncodeError):
        half = f"\\u{ord(error.__cause__.object[error.__cause__.start]):04x}"
        reason = _("half of a character, %(half)s, can’t be stored") % {"half": half}
    elif isinstance(error, CodecError):
        reason = error.reason + (f" ({codecs.render_path(error.path)})" if error.path else "")
    else:
        reason = _("%(mask)s stands for no value here. Write it anew.") % {"mask": MASK}
    return _("Argument %(name)r: %(reason)s") % {"name": name, "reason": reason}


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
