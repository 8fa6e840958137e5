"""What can be done with schedules. The asyncio twins begin with ``a``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async

from django_kue import declared, encryption, registry, ticks
from django_kue.declared import Wish
from django_kue.decorators import JobFunction
from django_kue.errors import ScheduleError
from django_kue.jobs import Job
from django_kue.schedules import firing, shelf
from django_kue.schedules.record import Record, of_plan
from django_kue.schedules.schedule import Schedule, pending, seen
from django_kue.schedules.shelf import Place
from django_kue.store import ask, reads, send
from django_kue.store.ticking import KEEP, OFF
from django_kue.ticks import Cron, Every

# ── reading ──


def all() -> list[Schedule]:  # noqa: A001 - schedules.all() is how it's read
    """Every schedule, sorted by name, with its last ticks and when it last succeeded: a few calls per queue.

    >>> [one.name for one in schedules.all() if one.is_paused]
    ['north']
    """
    found: dict[str, Place] = {}
    for place in shelf.every_place():
        if place.name not in found or "m" not in place.record.head:
            found[place.name] = place
    return _seen([found[name] for name in sorted(found)])


def get(name: str) -> Schedule:
    """The schedule with this name.

    Raises:
        ScheduleDoesNotExist: there isn't one.
    """
    return _seen([shelf.place_of(name)])[0]


def _seen(places: list[Place]) -> list[Schedule]:
    asked = {at: keys for at, place in enumerate(places) if (keys := pending(place.stored.ticked))}
    rows = dict(
        zip(asked, send(*[reads.rows(places[at].queue, keys) for at, keys in asked.items()]), strict=True)
        if asked
        else ()
    )
    return [
        seen(place.queue, place.stored, place.record, rows.get(at, ())) for at, place in enumerate(places)
    ]


# ── steering ──


def create(
    name: str,
    function: JobFunction[Any, Any] | str,
    *,
    cron: str | None = None,
    every: float | timedelta | None = None,
    timezone: str | None = None,
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    catch_up: str = "last",
    overlap: bool = True,
) -> Schedule:
    """Create a schedule at run time; the arguments are those of :func:`~django_kue.schedule`.

    Workers know of it within two seconds.

    Args:
        function: a job, or its stored name. All options but the queue are the function's own.

    Raises:
        ScheduleError: it isn't valid, or there's one with this name; the message says why.

    >>> north = schedules.create("north", weekly_report, cron="30 2 * * mon", args=["north"])
    """
    wish = Wish(
        f"schedule {name!r}", name, function, cron, every, timezone, declared.as_given(args),
        kwargs or {}, queue, catch_up, overlap,
    )  # fmt: skip
    plan = declared.planned(wish)
    now_ms = ask(reads.registry()).now_ms
    next_ms = shelf.word(plan.rule.after(now_ms))
    is_declared = plan.name in declared.plans()
    if is_declared or not shelf.add_first(plan.queue, plan.name, of_plan(plan), next_ms):
        raise ScheduleError(f"there's a schedule called {name!r} already; update() changes it")
    return get(plan.name)


def update(
    name: str,
    *,
    cron: str | None = None,
    every: float | timedelta | None = None,
    timezone: str | None = None,
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    catch_up: str | None = None,
    overlap: bool | None = None,
) -> Schedule:
    """Change what's given, and nothing else. For a declared schedule, ``args`` and ``kwargs`` belong to the
    declaration; changes of the rest hold until :func:`reset`, even if the declaration changes. With another
    rule, it next fires at that rule's next time; a tick that's due and wasn't fired yet is left out.

    Raises:
        ScheduleDoesNotExist: there's none with this name.
        ScheduleError: the change isn't valid; the message says why.
    """

    def changed(place: Place) -> tuple[Record, int | str]:
        old = place.record
        new = _with_rule(old, cron, every, timezone)
        new = _with(new, catch_up=None if catch_up is None else declared.catching_up(catch_up))
        new = _with(new, overlap=None if overlap is None else declared.overlapping(overlap))
        if args is not None or kwargs is not None:
            new = _with_arguments(place, new, args, kwargs)
        is_moved = not shelf.rules_equal(new.rule_now, old.rule_now) and not old.is_off
        return new, shelf.next_of(new.rule_now, place) if is_moved else KEEP

    try:
        shelf.change(name, changed)
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"schedule {name!r}: {error}") from error
    return get(name)


def _with_rule(
    record: Record, cron: str | None, every: float | timedelta | None, timezone: str | None
) -> Record:
    if cron is None and every is None and timezone is None:
        return record
    now = record.rule_now
    if isinstance(now, Cron) and every is None:
        cron, timezone = now.text if cron is None else cron, now.zone if timezone is None else timezone
    elif isinstance(now, Every) and cron is None:
        every = now.ms / 1000 if every is None else every
    rule = declared.rule_of(cron, every, timezone)
    if record.digest:
        return _overriding(record, rule=ticks.encode(rule))
    return replace(record, rule=rule)


def _with(record: Record, **changes: Any) -> Record:
    given = {name: value for name, value in changes.items() if value is not None}
    return _overriding(record, **given) if record.digest else replace(record, **given)


def _overriding(record: Record, **changes: Any) -> Record:
    own = {"rule": ticks.encode(record.rule), "catch_up": record.catch_up, "overlap": record.overlap}
    overrides = {**record.overrides, **changes}
    return replace(record, overrides={name: one for name, one in overrides.items() if one != own[name]})


def _with_arguments(
    place: Place, record: Record, args: Iterable[Any] | None, kwargs: Mapping[str, Any] | None
) -> Record:
    if record.digest:
        raise ScheduleError(
            f"schedule {place.name!r} is declared: its arguments belong to its declaration; what can be "
            "changed here is when it runs, catch_up and overlap"
        )
    wish = Wish(
        f"schedule {place.name!r}", place.name, record.function, every=1,
        args=declared.as_given(args or ()), kwargs=kwargs or {}, queue=place.queue,
    )  # fmt: skip
    text = declared.planned(wish).arguments
    sealed = encryption.seal(text, encryption.SCHEDULE, place.queue, place.name, record.function)
    return replace(record, arguments=sealed)


def reset(name: str) -> Schedule:
    """Return a declared schedule to its declaration: what was changed elsewhere is dropped, except a pause.

    Raises ScheduleDoesNotExist.
    """

    def changed(place: Place) -> tuple[Record, int | str] | None:
        if not place.record.overrides:
            return None
        new = replace(place.record, overrides={})
        is_moved = not shelf.rules_equal(new.rule_now, place.record.rule_now) and not new.is_off
        return new, shelf.next_of(new.rule_now, place) if is_moved else KEEP

    shelf.change(name, changed)
    return get(name)


def pause(name: str) -> Schedule:
    """Fire no ticks until :func:`resume`; ticks that pass aren't caught up. Raises ScheduleDoesNotExist."""

    def changed(place: Place) -> tuple[Record, int | str] | None:
        if place.record.is_paused:
            return None
        return place.record.with_head(p=place.now_ms), OFF

    shelf.change(name, changed)
    return get(name)


def resume(name: str) -> Schedule:
    """Undo a pause. Raises ScheduleDoesNotExist."""

    def changed(place: Place) -> tuple[Record, int | str] | None:
        if not place.record.is_paused:
            return None
        new = place.record.with_head(p=None)
        return new, OFF if new.is_off else shelf.next_of(new.rule_now, place)

    shelf.change(name, changed)
    return get(name)


def run_now(name: str) -> Job:
    """Enqueue one job of a schedule now, even while it's paused; its ticks stay as they are.

    Raises:
        ScheduleDoesNotExist: there's none with this name.
        ScheduleError: its function isn't known here, its job can't be made; or the previous run is still
            going on, and ``overlap`` is False.
    """
    return firing.run_now(shelf.place_of(name))


def delete(name: str) -> None:
    """Delete a schedule. Its jobs stay. One that's declared can't be deleted: pause it, or remove its
    declaration.

    Raises:
        ScheduleDoesNotExist: there's none with this name.
        ScheduleError: it's declared.
    """

    def changed(place: Place) -> tuple[None, int | str]:
        if place.record.digest and "g" not in place.record.head:
            raise ScheduleError(
                f"schedule {name!r} is declared in code or settings, and would come back; pause it, or drop "
                "its declaration there"
            )
        return None, OFF

    shelf.change(name, changed)


def is_known(schedule: Schedule) -> bool:
    """Whether the schedule's function is known in this process."""
    return registry.get(schedule.function) is not None


# Nothing here uses the caller's database connections; but middleware and receivers around run_now may.
aall = sync_to_async(all, thread_sensitive=False)
aget = sync_to_async(get, thread_sensitive=False)
acreate = sync_to_async(create, thread_sensitive=False)
aupdate = sync_to_async(update, thread_sensitive=False)
areset = sync_to_async(reset, thread_sensitive=False)
apause = sync_to_async(pause, thread_sensitive=False)
aresume = sync_to_async(resume, thread_sensitive=False)
adelete = sync_to_async(delete, thread_sensitive=False)
arun_now = sync_to_async(run_now)
