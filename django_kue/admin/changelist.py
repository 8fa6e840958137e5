"""Django's ``ChangeList`` over Redis: tabs, pages as far as a listing goes, and notes about that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_kue import bulk
from django_kue.admin.filters import QUEUE, STATE, Census, chosen_queue, chosen_state
from django_kue.admin.seam import JobQuerySet
from django_kue.errors import StoreUnavailable
from django_kue.listing import LOOKED_AT, Scope
from django_kue.models import STATES
from django_kue.moments import milliseconds
from django_kue.states import State

SWIFT, SLOW = 2, 10  # seconds between updates: of what's read by index, of what has to be searched for


@dataclass(frozen=True, slots=True)
class Tab:
    label: str
    url: str
    count: str  # as it's shown; empty if it isn't known without a search
    is_current: bool
    state: str


def searched(scope: Scope) -> str:
    """How far a bounded list has looked."""
    return ngettext(
        "Searched the newest %(looked)s of %(total)s job.",
        "Searched the newest %(looked)s of %(total)s jobs.",
        scope.total,
    ) % {"looked": localize(scope.looked), "total": localize(scope.total)}


class JobPaginator(Paginator):  # type: ignore[type-arg]
    """The count is exact, but pages go only as far as a listing can be paged through."""

    object_list: JobQuerySet

    @cached_property
    def reach(self) -> int:
        """How many jobs can be paged through."""
        # A job's history is paged through by this paginator, too.
        listing = getattr(self.object_list, "listing", None)
        if listing is None or listing.scope().is_exact:
            return self.count
        return min(self.count, LOOKED_AT)

    @cached_property
    def num_pages(self) -> int:
        return max(1, -(-self.reach // self.per_page))


class JobChangeList(ChangeList):
    """The list of jobs."""

    queryset: JobQuerySet
    paginator: JobPaginator

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self.request = request
        self.state = chosen_state(request)
        super().__init__(request, *args)
        self.title = _("Jobs")
        self._number_waiting()

    def get_ordering_field(self, field_name: Any) -> Any:
        """Only the date sorts, whatever ``?o=`` says."""
        field = super().get_ordering_field(field_name)
        return field if field == "at" else None

    @property
    def tabs(self) -> list[Tab]:
        return [self._tab(None, _("All")), *(self._tab(State(value), label) for value, label in STATES)]

    def _tab(self, state: State | None, label: Any) -> Tab:
        is_current = state is self.state
        # Each state has other columns, so the sorted one's number means something else.
        url = self.get_query_string(
            {STATE: state and str(state)}, ["state", "o", STATE] if state is None else ["o"]
        )
        return Tab(str(label), url, self._count(state, is_current), is_current, state or "all")

    def _count(self, state: State | None, is_current: bool) -> str:
        if is_current and self._is_narrowed:
            return localize(self.result_count)
        if self._is_narrowed:
            return ""
        return localize(Census.of(self.request).count(state, chosen_queue(self.request)))

    @property
    def _is_narrowed(self) -> bool:
        """True when filters other than state and queue are active, whose counts have to be searched for."""
        ours = {STATE, QUEUE, "state", "queue"}
        return bool(self.query) or any(name not in ours for name in self.get_filters_params())

    @property
    def pace(self) -> int:
        return SLOW if self._is_narrowed else SWIFT

    @property
    def notes(self) -> Iterator[str]:
        """Notes about how far the list goes."""
        listing = self.queryset.listing
        if listing is None:
            return
        scope = listing.scope()
        if scope.looked < scope.total:
            yield searched(scope)
        if self.paginator.reach < self.result_count:
            yield _(
                "Pages go as far as the newest %(reach)s jobs; choose a state and a queue to see all."
            ) % {"reach": localize(self.paginator.reach)}

    @property
    def rendered_ms(self) -> int:
        """Now: what's chosen "on all pages" is what was there by this time."""
        try:
            return milliseconds(bulk.now())
        except StoreUnavailable:  # since just now
            return time.time_ns() // 1_000_000

    @property
    def advice(self) -> str:
        """What an empty list says."""
        if self._is_narrowed:
            return _("No job matches. Try fewer words, another state, or clear the filters.")
        return {
            None: _("No jobs yet. They appear here as soon as one is enqueued."),
            State.DELAYED: _("No delayed jobs. A job waits here for its time, or between two attempts."),
            State.WAITING: _("No waiting jobs: workers keep up."),
            State.ACTIVE: _("No active jobs: nothing is running right now."),
            State.COMPLETED: _("No completed jobs. They’re kept for a while after they ran."),
            State.FAILED: _(
                "No failed jobs. A job whose attempts are used up stays here until someone looks."
            ),
            State.CANCELLED: _("No cancelled jobs."),
        }[self.state]

    @property
    def is_anything_chosen(self) -> bool:
        return self._is_narrowed or self.state is not None or chosen_queue(self.request) is not None

    def _number_waiting(self) -> None:
        """Number the rows by their place in the queue, if one queue is listed without other filters."""
        if self.state is not State.WAITING or chosen_queue(self.request) is None or self._is_narrowed:
            return
        listing = self.queryset.listing
        if listing is None:
            return
        first = (self.page_num - 1) * self.list_per_page if self.multi_page and not self.show_all else 0
        for number, row in enumerate(self.result_list, start=first):
            row.place = self.result_count - number if listing.newest_first else number + 1
