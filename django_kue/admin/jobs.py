"""The list of jobs and, with :mod:`job_page <django_kue.admin.job_page>`, the page of each."""

from __future__ import annotations

import re
from typing import Any

from django.core.paginator import Paginator
from django.forms import Script
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _

from django_kue import ids
from django_kue.admin.actions import JobActions
from django_kue.admin.changelist import JobChangeList, JobPaginator
from django_kue.admin.columns import JobColumns
from django_kue.admin.filters import Census, DateFilter, FunctionFilter, QueueFilter, chosen_state
from django_kue.admin.job_page import JobPage
from django_kue.admin.pages import KuePages
from django_kue.admin.seam import JobQuerySet
from django_kue.errors import JobDoesNotExist
from django_kue.jobs import Job
from django_kue.states import State

_KEY = re.compile(rf"[A-Za-z0-9_-]{{{ids.KEY_LENGTH}}}")


class JobAdminMixin(JobActions, JobColumns, JobPage, KuePages):
    """Turns a ``ModelAdmin`` (Django's, or a theme's) into the jobs' pages.

    >>> class JobAdmin(JobAdminMixin, unfold.admin.ModelAdmin): ...
    """

    list_display = ("job_title",)  # what get_list_display() begins with, whatever the state
    list_display_links = ("job_title",)
    list_filter = (QueueFilter, FunctionFilter, ("at", DateFilter))
    search_fields = ("id", "title", "name")  # get_search_results() looks at them, and at more
    search_help_text = _("An id, a search key’s value, or words from the title, the function or the error")
    ordering = ("-at",)
    list_per_page = 25
    list_max_show_all = 200
    paginator = JobPaginator

    class Media:
        css = {"all": ["django_kue/kue.css", "django_kue/jobs.css"]}
        js = [Script("django_kue/list.js", defer=True), Script("django_kue/live.js", defer=True)]

    model: Any

    def get_queryset(self, request: HttpRequest) -> JobQuerySet:
        """Jobs. The memo of what was read lives only as long as the request."""
        return JobQuerySet(self.model)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first; but delayed jobs in the order in which they're due."""
        return ("at",) if chosen_state(request) is State.DELAYED else ("-at",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[JobChangeList]:
        return JobChangeList

    def get_paginator(self, request: HttpRequest, queryset: Any, per_page: int, *args: Any) -> Paginator[Any]:
        return JobPaginator(queryset, per_page, *args)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow all: the seam itself refuses what Redis can't answer."""
        return True

    def get_search_results(self, request: HttpRequest, queryset: Any, term: str) -> tuple[Any, bool]:
        """An id, or the part of one after the queue's name, is looked up; anything else is searched for."""
        term = term.strip()
        if not term:
            return queryset, False
        if found := _ids_like(term, request):
            return queryset.filter(pk__in=found), False
        return queryset.searched(term), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "POST":
            self._refuse_forged_action(request)
        elif job := self._named_by_id(request):
            return HttpResponseRedirect(self.url_of(job.id))
        response: HttpResponse = super().changelist_view(request, extra_context)  # type: ignore[misc]
        return response

    def _named_by_id(self, request: HttpRequest) -> Job | None:
        """The job whose id was searched for."""
        if not self.has_view_or_change_permission(request):
            return None
        try:
            return Job.get(request.GET.get("q", "").strip())
        except JobDoesNotExist:
            return None


def _ids_like(term: str, request: HttpRequest) -> list[str]:
    """The ids that a search term can mean."""
    try:
        ids.split(term)
    except JobDoesNotExist:
        return [f"{queue}.{term}" for queue in Census.of(request).counts] if _KEY.fullmatch(term) else []
    return [term]
