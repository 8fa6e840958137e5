"""The filters of the list of jobs, and the counts beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import localize
from django.utils.translation import gettext_lazy as _

from django_kue import registry
from django_kue.listing import TIMED, Listing, queue_names, tally
from django_kue.moments import EPOCH, moment
from django_kue.states import State
from django_kue.store import reads, send
from django_kue.templatetags import kue

STATE, QUEUE, NAME = "state__exact", "queue__exact", "name__exact"  # as links.py has them


@dataclass(frozen=True, slots=True)
class Census:
    """How many jobs there are: by queue, then by state. Exact, and all taken at one moment."""

    counts: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, request: HttpRequest) -> Census:
        """The census of this request, which is taken only once."""
        census: Census | None = getattr(request, "_kue_census", None)
        if census is None:
            names = queue_names()
            replies = send(*map(reads.counts, names)) if names else []
            census = cls(dict(zip(names, replies, strict=True)))
            request._kue_census = census  # type: ignore[attr-defined]
        return census

    def count(self, state: str | None = None, queue: str | None = None) -> int:
        """Jobs in a state (``None``: in all of them) of a queue (``None``: all of them)."""
        chosen = self.counts.values() if queue is None else [self.counts.get(queue, {})]
        return sum(sum(counts.values()) if state is None else counts.get(state, 0) for counts in chosen)


def chosen_state(request: HttpRequest) -> State | None:
    """The state whose tab is open; ``None``: all. The filter itself refuses what isn't a state."""
    try:
        return State(request.GET.get(STATE) or request.GET.get("state", ""))
    except ValueError:
        return None


def chosen_queue(request: HttpRequest) -> str | None:
    return request.GET.get(QUEUE) or request.GET.get("queue") or None


class QueueFilter(admin.SimpleListFilter):
    """Every queue, with how many jobs of the open tab's state it has."""

    title = _("queue")
    parameter_name = QUEUE

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self.census = Census.of(request)
        super().__init__(request, *args)

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(name, name) for name in self.census.counts]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(queue=self.value()) if self.value() else queryset

    def choices(self, changelist: Any) -> Iterator[Any]:
        """The counts cost nothing extra, so they're shown whether or not facets are asked for."""
        state = chosen_state(self.request)
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[QUEUE]),
            "display": _("All"),
        }
        for name in self.census.counts:
            yield {
                "selected": self.value() == name,
                "query_string": changelist.get_query_string({QUEUE: name}),
                "display": f"{name} ({localize(self.census.count(state, name))})",
            }


class FunctionFilter(admin.SimpleListFilter):
    """The functions that are known here, those that failed, and the one that's chosen."""

    title = _("function")
    parameter_name = NAME

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        names = {function.name for function in registry.functions()}
        if chosen_state(request) is State.FAILED:  # these are indexed by function, so asking is cheap
            names |= tally(Listing(state=State.FAILED, queue=chosen_queue(request)), "name").keys()
        return [(name, name) for name in sorted(names | {self.value() or ""}) if name]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(name=self.value()) if self.value() else queryset

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Long names may break between their parts."""
        for choice in super().choices(changelist):
            yield choice | {"display": kue.breakable(str(choice["display"]))}

    def get_facet_queryset(self, changelist: Any) -> dict[str, int]:
        """All counts in one look; functions that aren't known here join the choices."""
        listing = changelist.get_queryset(self.request, exclude_parameters=[NAME]).listing
        counts = {} if listing is None else tally(listing, "name")
        known = {name for name, _label in self.lookup_choices}
        self.lookup_choices += [(name, name) for name in sorted(counts) if name not in known]
        return {f"{at}__c": counts.get(str(name), 0) for at, (name, _label) in enumerate(self.lookup_choices)}


class DateFilter(admin.DateFieldListFilter):
    """Django's own filter, but its counts take one look at the jobs, not one for each choice."""

    def get_facet_queryset(self, changelist: Any) -> dict[str, int]:
        queryset = changelist.get_queryset(self.request, exclude_parameters=self.expected_parameters())
        listing = queryset.listing
        if listing is None or (listing.state in TIMED and not listing.is_snapshot):
            return queryset.aggregate(**self.get_facet_counts(changelist.pk_attname, queryset))  # type: ignore[no-any-return]
        # With any date at all, the jobs have to be searched for, and the list knows the time of each.
        dated = listing.but(since=EPOCH)
        times = [moment(entry.at_ms) for entry in dated.entries(0, dated.count())]
        return {
            f"{at}__c": sum(1 for time in times if self._is_within(time, bounds))
            for at, (_title, bounds) in enumerate(self.links)
        }

    def _is_within(self, at: datetime, bounds: Mapping[str, Any]) -> bool:
        since, until = bounds.get(self.lookup_kwarg_since), bounds.get(self.lookup_kwarg_until)
        return (since is None or at >= _aware(since)) and (until is None or at < _aware(until))


def _aware(at: datetime) -> datetime:
    return at if timezone.is_aware(at) else timezone.make_aware(at)
