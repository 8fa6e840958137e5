"""The seam between Django's admin and Redis: a real QuerySet whose ``Query`` is never compiled to SQL.

Django composes filters, order and slices as usual; the result is then read as a
:class:`~django_kue.listing.Listing`. What can't be read that way raises at once, which ``ChangeList`` turns
into its redirect to ``?e=1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Self

from django.core.exceptions import EmptyResultSet, FieldError
from django.db import NotSupportedError
from django.db.models import Count, F, Model, Q, QuerySet
from django.db.models.query import ModelIterable
from django.db.models.sql import Query
from django.db.models.sql.where import NothingNode, WhereNode
from django.utils import timezone

from django_kue import models
from django_kue.jobs import Job
from django_kue.listing import Listing, at_of
from django_kue.moments import TICK
from django_kue.states import State

BATCH = 1000  # jobs per read, when a whole list is walked through


class JobQuery(Query):
    """A query that's composed, but never compiled. Its clones share ``memo``: what was read already."""

    def __init__(self, model: type[Model]) -> None:
        super().__init__(model)
        self.memo: dict[Listing, Listing] = {}
        self.term = ""

    def get_compiler(self, *args: Any, **kwargs: Any) -> Any:
        raise NotSupportedError("Jobs are in Redis, which doesn't know this operation")


class JobIterable(ModelIterable):  # type: ignore[type-arg]
    """Rows of the model, each with the :class:`django_kue.Job` behind it as ``job``."""

    def __iter__(self) -> Iterator[models.Job]:
        for job in self.queryset._jobs():  # type: ignore[attr-defined]
            yield row_of(job)


class JobQuerySet(QuerySet[Any]):
    """Jobs. It supports filters by ``state``, ``queue`` and ``name`` (exact, in), ``at`` (gte, gt, lt, lte)
    and ``pk`` (exact, in), :meth:`searched`, and ordering by ``at`` or ``pk``.

    >>> JobQuerySet(models.Job).filter(state="failed").count()
    3
    """

    query: JobQuery

    def __init__(
        self, model: Any = None, query: Query | None = None, using: str | None = None, hints: Any = None
    ) -> None:
        super().__init__(model, query or JobQuery(model), using, hints)
        self._iterable_class = JobIterable

    # ── what the list needs besides Django's own ──

    def searched(self, term: str) -> Self:
        """The jobs in which a text is found: in title, function, search keys or error."""
        found = self._chain()  # type: ignore[attr-defined]
        found.query.term = term.strip()
        return found  # type: ignore[no-any-return]

    @property
    def listing(self) -> Listing | None:
        """What the query asks for, without its slice; ``None`` when nothing can match."""
        wanted = listing_of(self.query)
        # The same object for the same question, since it remembers what it has looked at.
        return None if wanted is None else self.query.memo.setdefault(wanted, wanted)

    # ── reading ──

    def count(self) -> int:
        if self._result_cache is not None:
            return len(self._result_cache)
        listing = self.listing
        if listing is None:
            return 0
        start, stop = self.query.low_mark, self.query.high_mark
        count = max(0, listing.count() - start)
        return count if stop is None else min(count, stop - start)

    def __len__(self) -> int:
        # Count without reading all of them. But get() slices, and expects what's counted to have been read.
        if self._result_cache is None and not self.query.is_sliced:
            return self.count()
        return super().__len__()

    def exists(self) -> bool:
        return self.count() > 0

    def aggregate(self, *args: Any, **kwargs: Any) -> dict[str, int]:
        """Counts under conditions, as the admin's facets ask for them."""
        return {alias: self._counted(wanted) for alias, wanted in kwargs.items()}

    def _counted(self, wanted: Any) -> int:
        condition = getattr(wanted, "filter", None)
        while condition is not None and not isinstance(condition, Q):
            condition = next(iter(condition.get_source_expressions()), None)
        if not isinstance(wanted, Count) or condition is None:
            raise NotSupportedError("Only Count(…, filter=Q(…)) is known here")
        match condition.children:
            case [("pk__in", JobQuerySet() as others)]:  # has the conditions of this one already
                return others.count()
        return self.filter(condition).count()

    def _jobs(self) -> Iterator[Job]:
        listing = self.listing
        at, stop = self.query.low_mark, self.query.high_mark
        while listing is not None and (stop is None or at < stop):
            limit = BATCH if stop is None else min(BATCH, stop - at)
            page = listing.jobs(at, limit)
            yield from page
            at += limit
            if at >= listing.count():
                return

    # ── what a QuerySet of jobs doesn't do ──

    def delete(self) -> Any:
        raise NotSupportedError("Jobs aren't deleted through a QuerySet: see django_kue.bulk")

    def update(self, **kwargs: Any) -> Any:
        raise NotSupportedError("Jobs aren't updated through a QuerySet: see django_kue.bulk")

    def _filter_or_exclude_inplace(self, negate: bool, args: Any, kwargs: Any) -> None:
        super()._filter_or_exclude_inplace(negate, args, kwargs)  # type: ignore[misc]
        listing_of(self.query)  # what can't be read raises here, where ChangeList expects it


def row_of(job: Job) -> models.Job:
    """The model's row of a job."""
    row = models.Job(
        id=job.id, state=str(job.state), queue=job.queue, name=job.name, title=job.title, at=at_of(job)
    )
    row.job = job
    row._state.adding = False
    return row


# ── reading what Django composed ──


def listing_of(query: JobQuery) -> Listing | None:
    """What a composed query asks Redis for; ``None`` when nothing can match.

    Raises:
        FieldError, NotSupportedError, ValueError: Redis can't answer that.
    """
    if query.combinator or query.annotations or query.extra or query.distinct_fields:
        raise NotSupportedError("Jobs can't be combined or annotated")
    values: dict[str, set[str]] = {}
    since: list[datetime] = []
    until: list[datetime] = []
    try:
        for field, lookup, value in _conditions(query.where):
            if field == "at":
                _add_bound(since, until, lookup, value)
            else:
                chosen = _chosen(field, lookup, value)
                values[field] = values[field] & chosen if field in values else chosen
    except EmptyResultSet:
        return None
    newest_first = _is_newest_first(query)
    if any(not chosen for chosen in values.values()):
        return None
    some = values.pop("id", None)
    return Listing(
        **{field: _only(field, chosen) for field, chosen in values.items()},
        ids=None if some is None else tuple(sorted(some)),
        since=max(since, default=None),
        until=min(until, default=None),
        text=query.term,
        newest_first=newest_first,
    )


def _conditions(node: Any) -> Iterator[tuple[str, str, Any]]:
    """``(field, lookup, value)`` of each condition; all of them must hold."""
    if isinstance(node, NothingNode):
        raise EmptyResultSet
    if isinstance(node, WhereNode):
        if node.negated or (node.connector != "AND" and len(node.children) > 1):
            raise NotSupportedError("Jobs can't be filtered by “or” and “not”")
        for child in node.children:
            yield from _conditions(child)
        return
    target = getattr(getattr(node, "lhs", None), "target", None)
    if target is None or isinstance(node.rhs, Query) or hasattr(node.rhs, "resolve_expression"):
        raise FieldError("Jobs are compared with plain values only")
    yield str(target.attname), node.lookup_name, node.rhs


def _chosen(field: str, lookup: str, value: Any) -> set[str]:
    if field not in ("id", "state", "queue", "name") or lookup not in ("exact", "in"):
        raise FieldError(f"Jobs can't be filtered by {field}__{lookup}")
    some: Iterable[Any] = value if lookup == "in" else [value]
    return {str(State(one) if field == "state" else one) for one in some}


def _only(field: str, chosen: set[str]) -> Any:
    if len(chosen) > 1:
        raise NotSupportedError(f"Jobs can be filtered by one {field} at a time")
    [value] = chosen
    return State(value) if field == "state" else value


def _add_bound(since: list[datetime], until: list[datetime], lookup: str, value: datetime) -> None:
    """Lists include ``since`` and exclude ``until``."""
    value = value if timezone.is_aware(value) else timezone.make_aware(value)  # USE_TZ is off
    if lookup in ("gte", "gt"):
        since.append(value + TICK if lookup == "gt" else value)
    elif lookup in ("lt", "lte"):
        until.append(value + TICK if lookup == "lte" else value)
    else:
        raise FieldError(f"Jobs can't be filtered by at__{lookup}")


def _is_newest_first(query: Query) -> bool:
    """Only the first column decides: it's a time, or the id, which begins with one."""
    given = query.order_by or (query.get_meta().ordering if query.default_ordering else ()) or ("-at",)
    name, is_descending = _order_of(given[0])
    if name not in ("at", "id", "pk"):
        raise FieldError(f"Jobs can't be ordered by {name}")
    return is_descending == query.standard_ordering


def _order_of(item: Any) -> tuple[str, bool]:
    if isinstance(item, str):
        return item.lstrip("-+"), item.startswith("-")
    expression: Any = getattr(item, "expression", item)
    if not isinstance(expression, F):
        raise FieldError(f"Jobs can't be ordered by {item!r}")
    return str(expression.name), bool(getattr(item, "descending", False))  # type: ignore[attr-defined]


__all__ = ["JobQuerySet", "listing_of", "row_of"]
