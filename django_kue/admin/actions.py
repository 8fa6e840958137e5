"""Actions on many jobs at once: on those ticked, or on all that match, across all pages.

Each action first shows a page that counts what it would do. That page posts what was ticked, or
``select_across``; the filters stay in the URL. Then :mod:`django_kue.bulk` performs the action: here, or in a
job if there are many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.formats import localize
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_kue import bulk, models
from django_kue.admin.changelist import searched
from django_kue.admin.filters import chosen_state
from django_kue.admin.queues import left_alone
from django_kue.admin.seam import JobQuerySet, row_of
from django_kue.errors import EnqueueError
from django_kue.jobs import Job
from django_kue.listing import Listing, tally
from django_kue.moments import milliseconds, moment
from django_kue.priorities import HIGHEST, LOWEST, PRIORITIES, priority_number
from django_kue.states import State

LOGGED_EACH = 100  # jobs; if there are more, one entry in the history sums up
PINNED = "kue_until"  # when the list was shown, in Unix milliseconds


@dataclass(frozen=True, slots=True)
class BulkAction:
    """One of the list's actions. ``question`` and ``done`` take a count, to choose its plural form."""

    name: str  # of its method
    verb: str  # of bulk.py
    permission: str
    question: Callable[[int], str]
    warning: Promise | str
    done: Callable[[int], str]
    flag: int
    button: Promise

    @property
    def states(self) -> frozenset[State]:
        """The states it's offered for: just those that the verb changes, so that page and effect agree."""
        return bulk.legal_in(self.verb)


ACTIONS = {
    action.name: action
    for action in (
        BulkAction(
            "retry_selected", "retry", "change",
            lambda n: ngettext("Run %(number)s job again?", "Run %(number)s jobs again?", n),
            gettext_lazy("They start over, with fresh attempts, and keep their ids."),
            lambda n: ngettext("%(number)s job will run again.", "%(number)s jobs will run again.", n),
            CHANGE, gettext_lazy("Retry"),
        ),
        BulkAction(
            "promote_selected", "promote", "change",
            lambda n: ngettext("Run %(number)s delayed job now?", "Run %(number)s delayed jobs now?", n),
            gettext_lazy("They don’t wait for their time any more."),
            lambda n: ngettext("%(number)s job was promoted.", "%(number)s jobs were promoted.", n),
            CHANGE, gettext_lazy("Promote"),
        ),
        BulkAction(
            "cancel_selected", "cancel", "change",
            lambda n: ngettext("Cancel %(number)s job?", "Cancel %(number)s jobs?", n),
            gettext_lazy("Running ones are asked to stop, and are cancelled when their run ends."),
            lambda n: ngettext("%(number)s job was cancelled.", "%(number)s jobs were cancelled.", n),
            CHANGE, gettext_lazy("Cancel the jobs"),
        ),
        BulkAction(
            "set_priority_selected", "set_priority", "change",
            lambda n: ngettext(
                "Change the priority of %(number)s job?", "Change the priority of %(number)s jobs?", n
            ),
            gettext_lazy("A waiting job joins the back of its new priority. Higher ones run sooner."),
            lambda n: ngettext(
                "The priority of %(number)s job was changed.",
                "The priority of %(number)s jobs was changed.",
                n,
            ),
            CHANGE, gettext_lazy("Change priority"),
        ),
        BulkAction(
            "run_again_selected", "run_again", "enqueue",
            lambda n: ngettext("Enqueue a copy of %(number)s job?", "Enqueue copies of %(number)s jobs?", n),
            gettext_lazy("New jobs with the same arguments; these stay as they are."),
            lambda n: ngettext("%(number)s job was enqueued.", "%(number)s jobs were enqueued.", n),
            ADDITION, gettext_lazy("Enqueue copies"),
        ),
        BulkAction(
            # Django's own action has this name; one of the class takes precedence over the site's.
            "delete_selected", "remove", "delete",
            lambda n: ngettext("Remove %(number)s job?", "Remove %(number)s jobs?", n),
            gettext_lazy("They’re forgotten, with their results and logs. This can’t be undone."),
            lambda n: ngettext("%(number)s job was removed.", "%(number)s jobs were removed.", n),
            DELETION, gettext_lazy("Remove the jobs"),
        ),
    )
}  # fmt: skip


class PriorityForm(forms.Form):
    """Asks for the new priority."""

    priority = forms.CharField(label=gettext_lazy("Priority"), initial="0")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = ", ".join(f"{name} ({number})" for name, number in PRIORITIES.items())
        advice = _("A whole number from %(lowest)s to %(highest)s, or: %(names)s.")
        self.fields["priority"].help_text = advice % {"lowest": LOWEST, "highest": HIGHEST, "names": names}

    def clean_priority(self) -> int:
        text = self.cleaned_data["priority"].strip()
        try:
            return priority_number(text if text in PRIORITIES else int(text))
        except ValueError:
            raise forms.ValidationError(self.fields["priority"].help_text) from None


def _action(name: str, description: Any) -> Callable[..., Any]:
    """The method of an action. Django asks ``has_<permission>_permission`` whether to offer it."""

    def perform(model_admin: Any, request: HttpRequest, queryset: JobQuerySet) -> HttpResponse | None:
        return model_admin._confirmed(request, queryset, ACTIONS[name])  # type: ignore[no-any-return]

    perform.__name__ = name
    return admin.action(perform, description=description, permissions=[name])


def _offered(name: str) -> Callable[..., bool]:
    def has_permission(model_admin: Any, request: HttpRequest) -> bool:
        action, state = ACTIONS[name], chosen_state(request)
        return model_admin.may(request, action.permission) and (state is None or state in action.states)

    return has_permission


class JobActions:
    """Mixed into the jobs' ``ModelAdmin``: actions that fit the tab's state and the user's permissions."""

    actions = list(ACTIONS)

    retry_selected = _action("retry_selected", gettext_lazy("Retry"))
    promote_selected = _action("promote_selected", gettext_lazy("Promote: run now"))
    cancel_selected = _action("cancel_selected", gettext_lazy("Cancel"))
    set_priority_selected = _action("set_priority_selected", gettext_lazy("Change priority"))
    run_again_selected = _action("run_again_selected", gettext_lazy("Run again: enqueue copies"))
    delete_selected = _action("delete_selected", gettext_lazy("Remove"))

    has_retry_selected_permission = _offered("retry_selected")
    has_promote_selected_permission = _offered("promote_selected")
    has_cancel_selected_permission = _offered("cancel_selected")
    has_set_priority_selected_permission = _offered("set_priority_selected")
    has_run_again_selected_permission = _offered("run_again_selected")
    has_delete_selected_permission = _offered("delete_selected")

    admin_site: Any
    page: Any
    note: Any
    message_user: Any
    require: Any
    url_of: Any

    def may(self, request: HttpRequest, permission: str) -> bool:
        """Whether the user has one of the permissions view, change, delete and enqueue."""
        if permission == "enqueue":
            return request.user.has_perm("django_kue.enqueue_job")
        return bool(getattr(self, f"has_{permission}_permission")(request))

    def _refuse_forged_action(self, request: HttpRequest) -> None:
        """Refuse what isn't offered: it's no choice of the form, so Django would say that none was chosen."""
        for name in request.POST.getlist("action"):
            if name in ACTIONS:
                self.require(self.may(request, ACTIONS[name].permission))

    def _confirmed(
        self, request: HttpRequest, queryset: JobQuerySet, action: BulkAction
    ) -> HttpResponse | None:
        listing = queryset.listing
        if listing is None:
            return None
        is_answer = "post" in request.POST
        form = PriorityForm(request.POST if is_answer else None) if action.verb == "set_priority" else None
        if not is_answer or (form is not None and not form.is_valid()):
            return self._confirmation(request, listing, action, form)
        argument = form.cleaned_data["priority"] if form is not None else None
        return self._perform(request, listing, action, argument)

    # ── asking ──

    def _confirmation(
        self, request: HttpRequest, listing: Listing, action: BulkAction, form: PriorityForm | None
    ) -> HttpResponse:
        until = _until(request)
        scope = listing.scope()
        counts = tally(listing, "state")
        rows = [
            {"state": state, "count": counts[state], "is_skipped": state not in action.states}
            for state, _label in models.STATES
            if counts.get(state)
        ]
        count = sum(counts.get(state, 0) for state in action.states)
        return self.page(  # type: ignore[no-any-return]
            request,
            "admin/django_kue/job/confirm_action.html",
            _counted(action.question, count),
            action=action,
            count=count,
            rows=rows,
            listing=listing,
            form=form,
            is_across=_is_across(request),
            # Django wants one to be ticked even when all are chosen.
            selected=request.POST.getlist(ACTION_CHECKBOX_NAME)[: 1 if _is_across(request) else None],
            checkbox_name=ACTION_CHECKBOX_NAME,
            until=milliseconds(until),
            sample=[row_of(job) for job in listing.jobs(0, 10)],
            is_danger=action.flag == DELETION,
            is_in_background=sum(counts.values()) > bulk.INLINE,
            note="" if scope.looked >= scope.total else searched(scope),
        )

    # ── doing ──

    def _perform(
        self, request: HttpRequest, listing: Listing, action: BulkAction, argument: Any
    ) -> HttpResponse:
        until = _until(request)
        rows = [row_of(job) for job in listing.jobs(0, LOGGED_EACH)]  # removed ones can't be read afterwards
        try:
            done = bulk.start(listing, action.verb, argument, until)
        except EnqueueError as error:
            text = _("There are too many to do this at once, and no job could be enqueued for it: %s") % error
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        if isinstance(done, Job):
            return self._goes_on(request, action, done)
        self._tell(request, action, done)
        self._log(request, action, done, {row.pk: row for row in rows}, argument)
        return HttpResponseRedirect(request.get_full_path())

    def _goes_on(self, request: HttpRequest, action: BulkAction, job: Job) -> HttpResponse:
        self.note(request, _("%(action)s, by the job %(id)s.") % {"action": action.button, "id": job.id})
        text = _("That’s a lot of jobs, so a job of its own does it. This page shows how far it has got.")
        self.message_user(request, text, messages.INFO)
        return HttpResponseRedirect(self.url_of(job.id))

    def _tell(self, request: HttpRequest, action: BulkAction, done: bulk.Tally) -> None:
        self.message_user(
            request, _counted(action.done, done.done), messages.SUCCESS if done.done else messages.WARNING
        )
        if done.skipped:
            self.message_user(request, left_alone(done.skipped), messages.WARNING)

    def _log(
        self,
        request: HttpRequest,
        action: BulkAction,
        done: bulk.Tally,
        rows: Mapping[str, Any],
        argument: Any,
    ) -> None:
        """Add an entry to the history of each job that was changed, or one for all if there are very many."""
        text = str(action.button) if argument is None else f"{action.button}: {argument}"
        if done.done > LOGGED_EACH:
            self.note(request, f"{text}. {_counted(action.done, done.done)}", flag=action.flag)
            return
        for job_id in done.changed:
            self.note(request, text, rows.get(job_id) or models.Job(id=job_id), action.flag)


def _counted(form_for: Callable[[int], str], count: int) -> str:
    return form_for(count) % {"number": localize(count)}


def _is_across(request: HttpRequest) -> bool:
    return request.POST.get("select_across", "0").strip() not in ("", "0")


def _until(request: HttpRequest) -> datetime:
    """When the list was shown: what came later wasn't chosen by “all”."""
    try:
        return moment(request.POST.get(PINNED, ""))
    except (ValueError, OverflowError):
        return bulk.now()
