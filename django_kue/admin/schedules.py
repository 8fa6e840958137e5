"""The schedules: when each runs, how its last runs went, orders to it, and adding and editing schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.contrib.admin.utils import unquote
from django.core.paginator import Paginator
from django.forms import Script
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_kue import declared, get_queue, models, schedules
from django_kue.admin import index
from django_kue.admin.links import leads_to, schedule_url, schedules_url
from django_kue.admin.pages import KuePages
from django_kue.admin.schedule_forms import AddForm, EditForm, RuleForm, WhenForm, form_of, zones
from django_kue.admin.schedule_views import STATES, chosen, coming, view_of
from django_kue.admin.workers import jobs_by_id
from django_kue.conf import settings
from django_kue.display import shown_arguments_of
from django_kue.errors import ScheduleDoesNotExist, ScheduleError
from django_kue.moments import TICK
from django_kue.redaction import MASK
from django_kue.schedules import Schedule
from django_kue.schedules.schedule import next_runs
from django_kue.templatetags.kue import date_there, full_date
from django_kue.ticks import Every

PER_PAGE = 50
SELECTED = "_selected"  # names of the schedules that are ticked in the list
MOST_ERRORS = 10  # that are shown, of an order to many


# ── orders ──


@dataclass(frozen=True, slots=True)
class Order:
    """What a button asks of a schedule. ``deed`` returns what to say about it, also in the history."""

    permission: str
    deed: Callable[[str], str]
    done: Callable[[int], str]  # a count's plural form
    is_needless: Callable[[Schedule], bool] = lambda schedule: False
    flag: int = CHANGE


def _run(name: str) -> str:
    began = datetime.now(UTC) - TICK  # ids only have whole milliseconds
    job = schedules.run_now(name)
    if job.created_at < began:
        return _("Another job holds the unique key: %s. Nothing was enqueued.") % job.id
    return _("Run now, as job %s.") % job.id


def _pause(name: str) -> str:
    schedules.pause(name)
    return _("Paused: its ticks are skipped until it’s resumed, and won’t be caught up.")


def _resume(name: str) -> str:
    schedules.resume(name)
    return _("Resumed: it will run at its next time.")


def _reset(name: str) -> str:
    schedules.reset(name)
    return _("Back to what’s declared.")


def _delete(name: str) -> str:
    schedules.delete(name)
    return _("Deleted. Its jobs stay.")


ORDERS = {
    "run": Order(
        "run", _run,
        lambda n: ngettext("%(count)s schedule runs now.", "%(count)s schedules run now.", n),
    ),
    "pause": Order(
        "change", _pause,
        lambda n: ngettext("%(count)s schedule paused.", "%(count)s schedules paused.", n),
        lambda schedule: schedule.is_paused,
    ),
    "resume": Order(
        "change", _resume,
        lambda n: ngettext("%(count)s schedule resumed.", "%(count)s schedules resumed.", n),
        lambda schedule: not schedule.is_paused,
    ),
    "reset": Order(
        "change", _reset,
        lambda n: ngettext("%(count)s schedule reset.", "%(count)s schedules reset.", n),
        lambda schedule: not schedule.overrides,
    ),
    "delete": Order(
        "delete", _delete,
        lambda n: ngettext("%(count)s schedule deleted.", "%(count)s schedules deleted.", n),
        flag=DELETION,
    ),
}  # fmt: skip


# ── pages ──


class ScheduleAdminMixin(KuePages):
    """Turns a ``ModelAdmin`` (Django's, or a theme's) into the schedules' pages.

    Pausing, resuming and editing schedules take the permission to change them; running one now takes a
    permission of its own; adding and deleting take Django's permissions for that.
    """

    class Media:
        css = {"all": ["django_kue/kue.css", "django_kue/boards.css", "django_kue/schedules.css"]}
        js = [Script("django_kue/live.js", defer=True), Script("django_kue/schedules.js", defer=True)]

    has_view_permission: Any
    has_change_permission: Any
    has_delete_permission: Any

    def get_urls(self) -> list[URLPattern]:
        views: dict[str, Callable[..., HttpResponse]] = {
            "run": self.run_view,
            "pause": self.pause_view,
            "resume": self.resume_view,
            "reset": self.reset_view,
            "edit": self.edit_view,
        }
        ours = [
            path(f"<path:object_id>/{verb}/", self._guarded(view), name=f"django_kue_schedule_{verb}")
            for verb, view in views.items()
        ]
        preview = path("preview/", self._guarded(self.preview_view), name="django_kue_schedule_preview")
        return [preview, *ours, *super().get_urls()]

    def _guarded(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        return self._unless_away(self.admin_site.admin_view(view))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_kue.add_schedule")

    def has_run_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Running one leads to its page, so it also takes the permission to see it."""
        return request.user.has_perm("django_kue.run_schedule") and bool(self.has_view_permission(request))

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """The index and the sidebar list the page only if there are schedules, or this person may add one."""
        perms: dict[str, bool] = super().get_model_perms(request)  # type: ignore[misc]
        is_shown = perms["add"] or (perms["view"] and index.has_schedules() is not False)
        return perms if is_shown else {}

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: Any = None
    ) -> models.Schedule | None:
        """The schedule's row; ``None`` when there's none with this name."""
        try:
            return _row(schedules.get(object_id))
        except ScheduleDoesNotExist:
            return None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if request.method == "POST":
            return self._order_many(request)
        self.require(self.has_view_permission(request))
        every = schedules.all()
        wanted = {name: request.GET.get(name, "") for name in ("q", "state", "queue")}
        found = chosen(every, wanted["q"].strip(), wanted["state"], wanted["queue"])
        page = Paginator(found, PER_PAGE).get_page(request.GET.get("p"))
        return self.page(
            request,
            "admin/django_kue/schedules.html",
            _("Schedules"),
            page=page,
            views=[view_of(schedule) for schedule in page],
            every=len(every),
            untaken=declared.untaken({schedule.name for schedule in every}),
            wanted=wanted,
            states=[(name, text) for name, (text, _holds) in STATES.items()],
            queues=sorted({schedule.queue for schedule in every}),
            selected=SELECTED,
            **self._rights(request),
            **(extra_context or {}),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        obj = self.get_object(request, unquote(object_id))
        self.require(self.has_view_permission(request, obj))
        if obj is None:
            return self._unknown(request, unquote(object_id))
        rights = self._rights(request)
        schedule = obj.schedule
        ids = [tick.job_id for tick in schedule.last_runs if tick.job_id]
        return self.page(
            request,
            "admin/django_kue/schedule.html",
            schedule.name,
            view=view_of(schedule, jobs_by_id(ids) if rights["sees_jobs"] else None),
            coming=coming(schedule),
            is_held_up=schedule.queue in settings.queues and get_queue(schedule.queue).is_paused,
            arguments=shown_arguments_of(schedule.function, schedule._arguments),
            place=declared.place_of(schedule.name),
            **rights,
            **(extra_context or {}),
        )

    # ── adding and editing ──

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        self.require(self.has_add_permission(request))
        form = AddForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            name, function = form.cleaned_data["name"], form.cleaned_data["function"]
            if self._saved(form, lambda: schedules.create(name, function, **form.wish)):
                text = _("Added.")
                return self._to_its_page(request, name, text, ADDITION)
        return self._form_page(request, _("Add schedule"), form)

    def edit_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        obj = self._allowed(request, object_id, "change")
        if obj is None:
            return self._unknown(request, unquote(object_id))
        form = form_of(obj.schedule, request.POST if request.method == "POST" else None)
        if form.is_valid() and self._saved(form, lambda: schedules.update(obj.pk, **form.wish)):
            labels = [str(form.fields[name].label) for name in form.changed_data]
            text = _("Changed: %s.") % (", ".join(labels) or _("nothing"))
            return self._to_its_page(request, obj.pk, text)
        return self._form_page(request, _("Edit schedule %s") % obj.pk, form, schedule=obj.schedule)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """What a rule means while it's being typed, for the forms' script."""
        self.require(self.has_add_permission(request) or self.has_change_permission(request))
        form = RuleForm(request.GET)
        if not form.is_valid():
            return JsonResponse({"words": "", "next": ""})
        rule = form.cleaned_data["rule"]
        runs = next_runs(rule, 1)
        say = full_date if isinstance(rule, Every) else date_there  # an interval has no time zone
        coming_next = _("Next: %s") % say(runs[0]) if runs else ""
        return JsonResponse({"words": rule.words, "next": coming_next})

    def _saved(self, form: WhenForm, save: Callable[[], Any]) -> bool:
        try:
            save()
        except (ScheduleDoesNotExist, ScheduleError) as error:
            form.add_error(None, str(error))
            return False
        return True

    def _form_page(
        self, request: HttpRequest, title: str, form: WhenForm, schedule: Schedule | None = None
    ) -> HttpResponse:
        return self.page(
            request,
            "admin/django_kue/schedule_form.html",
            title,
            form=form,
            schedule=schedule,
            place=schedule and declared.place_of(schedule.name),
            zones=zones(),
            mask=MASK,
            has_masks=isinstance(form, EditForm) and MASK in form.initial["arguments"],
        )

    def _to_its_page(self, request: HttpRequest, name: str, text: str, flag: int = CHANGE) -> HttpResponse:
        self._tell(request, name, text, flag)
        is_seen = self.has_view_permission(request)
        site = self.admin_site
        to = schedule_url(site.name, name) if is_seen else f"{schedules_url(site.name)}add/"
        return HttpResponseRedirect(to)

    # ── orders ──

    def run_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._order_one(request, object_id, ORDERS["run"])

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._order_one(request, object_id, ORDERS["pause"])

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._order_one(request, object_id, ORDERS["resume"])

    def reset_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._order_one(request, object_id, ORDERS["reset"])

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        obj = self._allowed(request, object_id, "delete")
        if obj is None:
            return self._unknown(request, unquote(object_id))
        if request.method != "POST":
            return self._delete_page(request, [obj.schedule])
        is_gone = self._obeyed(request, obj.schedule, ORDERS["delete"])
        site = self.admin_site.name
        return HttpResponseRedirect(schedules_url(site) if is_gone else schedule_url(site, obj.pk))

    def _order_one(self, request: HttpRequest, object_id: str, order: Order) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        obj = self._allowed(request, object_id, order.permission)
        if obj is None:
            return self._unknown(request, unquote(object_id))
        self._obeyed(request, obj.schedule, order)
        return HttpResponseRedirect(schedule_url(self.admin_site.name, obj.pk))

    def _order_many(self, request: HttpRequest) -> HttpResponse:
        order = ORDERS.get(request.POST.get("action", ""))
        self.require(order is not None and self._may(request, order.permission))
        assert order is not None  # it's required
        names = set(request.POST.getlist(SELECTED)[:PER_PAGE])
        found = [schedule for schedule in schedules.all() if schedule.name in names]
        if not found:
            messages.warning(request, _("No schedule was chosen."))
        elif order.flag == DELETION and "post" not in request.POST:
            return self._delete_page(request, found)
        else:
            self._all_obeyed(request, found, order)
        return HttpResponseRedirect(request.get_full_path())

    def _obeyed(self, request: HttpRequest, schedule: Schedule, order: Order) -> bool:
        """Carry out an order, and tell the user the outcome."""
        if order.is_needless(schedule):
            messages.info(
                request, _("Schedule %s is already like that: nothing was changed.") % schedule.name
            )
            return False
        try:
            text = order.deed(schedule.name)
        except (ScheduleDoesNotExist, ScheduleError) as error:
            messages.error(request, str(error))
            return False
        self._tell(request, schedule.name, text, order.flag)
        return True

    def _all_obeyed(self, request: HttpRequest, found: Sequence[Schedule], order: Order) -> None:
        done, errors = 0, []
        for schedule in found:
            if order.is_needless(schedule):
                continue
            try:
                text = order.deed(schedule.name)
            except (ScheduleDoesNotExist, ScheduleError) as error:
                errors.append(str(error))
            else:
                done += 1
                self.note(request, text, models.Schedule(name=schedule.name), order.flag)
        said = order.done(done) % {"count": localize(done)}
        messages.add_message(request, messages.SUCCESS if done else messages.INFO, said)
        for reason in errors[:MOST_ERRORS]:
            messages.error(request, reason)

    def _delete_page(self, request: HttpRequest, found: Sequence[Schedule]) -> HttpResponse:
        views = [view_of(schedule) for schedule in found]
        return self.page(
            request,
            "admin/django_kue/schedule_delete.html",
            _("Delete schedules?"),
            going=[view for view in views if view.may_be_deleted],
            staying=[view for view in views if not view.may_be_deleted],
            selected=SELECTED,
        )

    # ── how ──

    def _may(self, request: HttpRequest, permission: str) -> bool:
        return bool(getattr(self, f"has_{permission}_permission")(request))

    def _rights(self, request: HttpRequest) -> dict[str, bool]:
        rights = {f"may_{right}": self._may(request, right) for right in ("add", "run", "change", "delete")}
        return rights | {
            "sees_jobs": leads_to(request, self.admin_site, models.Job),
            "sees_queues": leads_to(request, self.admin_site, models.Queue),
        }

    def _allowed(self, request: HttpRequest, object_id: str, permission: str) -> models.Schedule | None:
        """The schedule, when this person may do that with it; ``None`` when there's none with this name."""
        self.require(self._may(request, permission))
        return self.get_object(request, unquote(object_id))

    def _tell(self, request: HttpRequest, name: str, text: str, flag: int) -> None:
        self.note(request, text, models.Schedule(name=name), flag)
        messages.success(request, _("Schedule %(name)s: %(text)s") % {"name": name, "text": text})

    def _unknown(self, request: HttpRequest, name: str) -> HttpResponse:
        messages.warning(request, _("There’s no schedule %s (any more).") % name)
        return HttpResponseRedirect(schedules_url(self.admin_site.name))


def _row(schedule: Schedule) -> models.Schedule:
    row = models.Schedule(name=schedule.name)
    row.schedule = schedule
    return row
