"""Turns a due tick into a job: through the project's middleware, and in one step with the next tick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_kue import enqueueing, ids, records, registry, signals, ticks
from django_kue.codecs import CodecError
from django_kue.decorators import JobFunction
from django_kue.errors import EnqueueError, ScheduleError
from django_kue.jobs import Job
from django_kue.moments import moment
from django_kue.records import NewJob
from django_kue.schedules.schedule import Schedule, seen
from django_kue.schedules.shelf import Place
from django_kue.states import State
from django_kue.store import ask, ticking
from django_kue.store.reads import Row
from django_kue.store.ticking import Fired

Definition = JobFunction[Any, Any]

FIRED, OVERLAP, UNIQUE, OTHER = "fired", "o", "u", "other"
REASONS = {OVERLAP: "overlap", UNIQUE: "unique"}

Tell = Callable[[Callable[[], None]], None]  # runs what calls signal receivers, here or on another thread
Move = Callable[[NewJob], Fired]


def run_now(place: Place) -> Job:
    """Enqueue a run between the ticks: see :func:`django_kue.schedules.run_now`."""
    key = ids.new_keys(1)[0]
    now_ms = ids.created_ms(key.decode())

    def move(job: NewJob) -> Fired:
        call = ticking.fire(place.queue, place.name, place.record.version, job, tick=now_ms, is_now=True)
        return ask(call)

    try:
        fired, job = _sent(place, key, move)
    except (EnqueueError, CodecError) as error:
        raise ScheduleError(f"schedule {place.name!r}: {error}") from error
    if fired.fate == OVERLAP:
        raise ScheduleError(f"schedule {place.name!r}: its last run is still running, and overlap is False")
    if fired.fate == UNIQUE:
        return Job.get(f"{place.queue}.{fired.key.decode()}")
    if job is None:
        raise ScheduleError(f"schedule {place.name!r} was changed at this very moment; try again")
    _tell_of_job(place, fired, job, now_ms)
    return job


def fire_due(place: Place, tell: Tell, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Fire the due ticks of a schedule. Each is fired once, even if others do the same at the same time.

    Raises:
        ScheduleError, EnqueueError, CodecError: its job can't be made here. The ticks stay due.
    """
    expected = place.stored.next_ms
    assert expected is not None  # it's due
    due = ticks.due(place.record.rule_now, expected, place.now_ms, place.record.catch_up_now)
    missed = due.missed
    if not due.fires:
        _let_go(place, expected, due, tell)
    for tick, coming in due.steps():
        if tick < expected or is_stopping():
            continue
        fired = _fire(place, tick, expected, coming, missed, tell)
        if fired.fate == OTHER:
            if fired.next_ms is None or fired.next_ms <= expected:  # it was changed, or paused
                return
            expected, missed = fired.next_ms, []  # another worker was here, and has reported the missed ones
        elif coming is not None:
            expected, missed = coming, []


def _fire(place: Place, tick: int, expected: int, coming: int | None, missed: list[int], tell: Tell) -> Fired:
    def move(job: NewJob) -> Fired:
        return ask(
            ticking.fire(
                place.queue, place.name, place.record.version, job, tick=tick, expected=expected,
                next_ms=coming, missed=_counted(missed),
            )
        )  # fmt: skip

    fired, job = _sent(place, ids.tick_key(place.name, tick), move)
    if fired.fate != OTHER and missed:
        tell(lambda: _tell_of_missed(place, fired, missed, "outage"))
    if job is not None:
        tell(lambda: _tell_of_job(place, fired, job, tick))
    elif fired.fate in REASONS:
        tell(lambda: _tell_of_missed(place, fired, [tick], REASONS[fired.fate]))
    return fired


def _let_go(place: Place, expected: int, due: ticks.Due, tell: Tell) -> None:
    """Leave out all due ticks: it's too late for them."""
    fired = ask(
        ticking.fire(
            place.queue, place.name, place.record.version, None, tick=due.missed[-1], expected=expected,
            next_ms=due.next, missed=_counted(due.missed),
        )
    )  # fmt: skip
    if fired.fate != OTHER:
        tell(lambda: _tell_of_missed(place, fired, due.missed, "outage"))


def _counted(missed: list[int]) -> tuple[int, int]:
    return (missed[-1], len(missed)) if missed else (0, 0)


def _sent(place: Place, key: bytes, move: Move) -> tuple[Fired, Job | None]:
    """What became of a tick, and its job if it made one."""
    definition = _definition(place)
    call = records.decode_arguments(place.record.opened(place.queue, place.name))
    fired: list[Fired] = []

    def send_it(queue: str, new: NewJob) -> list[Job]:
        if queue != place.queue:
            raise EnqueueError(
                f"schedule {place.name!r}: a middleware put its job on another queue, {queue!r}"
            )
        fired.append(move(new))
        return [_job(place, new)] if fired[0].fate == FIRED else []

    jobs = enqueueing.enqueue_under(key, definition, call, send_it)
    return fired[0], jobs[0] if jobs else None


def _definition(place: Place) -> Definition:
    definition = registry.get(place.record.function)
    if definition is None:
        raise ScheduleError(
            f"schedule {place.name!r}: the job {place.record.function!r} isn't known here; if it was "
            "renamed, give it @job(aliases=…)"
        )
    return definition if definition.options.queue == place.queue else definition.using(queue=place.queue)


def _job(place: Place, new: NewJob) -> Job:
    record = records.of_schedule(new.encode(), place.name)
    row = Row(new.key.decode(), State.WAITING, record, b"", None, b"", b"", b"", False)
    return Job.from_row(place.queue, row)


# ── signals ──


def _tell_of_job(place: Place, fired: Fired, job: Job, tick: int) -> None:
    sender = registry.get(place.record.function)
    signals.emit(signals.job_enqueued, sender, job=job)
    if signals.schedule_fired.receivers:
        schedule = _schedule(place, fired)
        signals.emit(signals.schedule_fired, sender, schedule=schedule, job=job, tick=moment(tick))


def _tell_of_missed(place: Place, fired: Fired, missed: list[int], reason: str) -> None:
    if signals.schedule_missed.receivers:
        sender, schedule = registry.get(place.record.function), _schedule(place, fired)
        at = [moment(tick) for tick in missed]
        signals.emit(signals.schedule_missed, sender, schedule=schedule, ticks=at, reason=reason)


def _schedule(place: Place, fired: Fired) -> Schedule:
    """The schedule as it is now, without its last ticks."""
    stored = place.stored._replace(next_ms=fired.next_ms, ticked=[])
    return seen(place.queue, stored, place.record, ())
