"""The outbox: jobs on their way from a database to Redis, how long they've been there, and what's wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, Error, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_kue import outbox
from django_kue.admin.columns import ERROR_LENGTH
from django_kue.admin.pages import KuePages
from django_kue.errors import EnqueueError
from django_kue.jobs import Job
from django_kue.models import Outbox
from django_kue.records import UnreadableRecord
from django_kue.templatetags import kue

logger = logging.getLogger("django_kue.admin")

DATABASE = "database"


class DatabaseFilter(admin.SimpleListFilter):
    """Which database's outbox is shown, if several have one. The list's ``get_queryset`` applies it."""

    title = gettext_lazy("database")
    parameter_name = DATABASE

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        aliases = sorted(outbox.possible() - {DEFAULT_DB_ALIAS})
        return [(alias, alias) for alias in aliases]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset


class ErrorFilter(admin.SimpleListFilter):
    title = gettext_lazy("error")
    parameter_name = "refused"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        return [("yes", gettext_lazy("can’t be sent"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.exclude(error="") if self.value() == "yes" else queryset


class OutboxAdminMixin(KuePages):
    """Turns a ``ModelAdmin`` (Django's, or a theme's) into the outbox's page. Its rows have a real table."""

    list_display = ("job", "enqueued", "attempts", "function")
    list_display_links = None
    list_filter = ("queue", ErrorFilter, DatabaseFilter)
    list_per_page = 100
    ordering = ("id",)
    actions = ("send_now",)
    fields = ("key", "queue", "attempts", "error")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return outbox.aged(_alias(request))

    def _unless_away(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        """Every view first checks whether the table can be read."""

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not self.has_view_permission(request):  # type: ignore[attr-defined]
                return view(request, *args, **kwargs)  # which refuses it
            try:
                _try_to_read(_alias(request))
            except (Error, ImproperlyConfigured) as error:  # also InterfaceError, and a missing driver
                return self._unreadable(request, error)
            return view(request, *args, **kwargs)

        return super()._unless_away(guarded)

    def _unreadable(self, request: HttpRequest, error: Exception) -> HttpResponse:
        alias = _alias(request)
        logger.warning("The outbox of %s can't be read: %s", alias, error)
        title = capfirst(self.opts.verbose_name_plural)
        template = "admin/django_kue/outbox_unreadable.html"
        return self.page(request, template, title, status=503, error=str(error), alias=alias)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        title = {"title": capfirst(self.opts.verbose_name_plural)}
        view: HttpResponse = super().changelist_view(request, title | (extra_context or {}))  # type: ignore[misc]
        return view

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """The index and the sidebar list the page only if the settings, or a function, use an outbox."""
        perms: dict[str, bool] = super().get_model_perms(request)  # type: ignore[misc]
        return perms if outbox.declared() else {}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits a row; whoever has Django's permission to change it may send it."""
        return False

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_kue.change_outbox")

    @admin.action(description=gettext_lazy("Send now"), permissions=["send"])
    def send_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Send the chosen rows, however recent, and whatever went wrong with them before."""
        pks = list(queryset.order_by("pk").values_list("pk", flat=True))
        sent, errors = 0, dict[int, str]()
        try:
            for first in range(0, len(pks), outbox.BATCH):
                relayed = outbox.relay(queryset.db, only=pks[first : first + outbox.BATCH])
                sent += relayed.sent
                errors |= relayed.errors
        except (EnqueueError, Error) as error:  # also InterfaceError: the server has closed the connection
            messages.error(request, _("The rest wasn’t sent: %s") % error)
        if sent:
            said = ngettext("%(number)s job was sent.", "%(number)s jobs were sent.", sent)
            said %= {"number": localize(sent)}
            self.note(request, said)
            messages.success(request, said)
        for reason in sorted(set(errors.values())):
            messages.error(request, _("Can’t be sent: %s") % reason)

    # ── columns ──

    @admin.display(description=gettext_lazy("job"))
    def job(self, row: Any) -> SafeString:
        return format_html(
            '<strong data-kue-id="{}">{}</strong> <span class="kue-quiet">{}</span>{}',
            row, _title(row), row, _error(row) if row.error else "",
        )  # fmt: skip

    @admin.display(description=gettext_lazy("function"))
    def function(self, row: Any) -> SafeString:
        return format_html('<span class="kue-function">{}</span>', outbox.name_in(row))

    @admin.display(description=gettext_lazy("enqueued"), ordering="created_at")
    def enqueued(self, row: Any) -> SafeString:
        """By the database's clock: its own time zone needn't be Django's."""
        return kue.ago(datetime.now(UTC) - row.age)


def _alias(request: HttpRequest) -> str:
    """The database whose outbox is asked for."""
    alias = request.GET.get(DATABASE, DEFAULT_DB_ALIAS)
    return alias if alias in outbox.possible() else DEFAULT_DB_ALIAS


def _try_to_read(alias: str) -> None:
    """Within a savepoint, so that the request's own transaction, if any, survives a failure."""
    with transaction.atomic(using=alias):
        outbox.aged(alias).exists()


def _error(row: Outbox) -> SafeString:
    """Why it can't be sent, in one line."""
    line = " ".join(row.error.split())
    shown = line if len(line) <= ERROR_LENGTH else line[: ERROR_LENGTH - 1] + "…"
    return format_html('<br><span class="kue-error" title="{}">{}</span>', line[:1000], shown)


def _title(row: Outbox) -> str:
    """What the list of jobs would call it."""
    try:
        return Job.of_new(row.queue, outbox.job_in(row)).title
    except UnreadableRecord:
        return ""
