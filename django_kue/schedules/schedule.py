"""A schedule as people see it: a frozen record, like :class:`~django_kue.Job`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django_kue import encryption, records, ticks
from django_kue.kinds import whole_number
from django_kue.moments import moment, moment_or_none
from django_kue.schedules.record import Record
from django_kue.store.reads import Row
from django_kue.store.ticking import Stored
from django_kue.ticks import Cron, Rule

_OUTCOMES = {
    "c": "completed", "f": "failed", "x": "cancelled",
    "m": "missed", "o": "overlapped", "u": "duplicate",
}  # fmt: skip
REMOVED = "removed"
LATE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Tick:
    """What became of a schedule's tick."""

    at: datetime  #: when it was due; for one that ``run_now`` asked for, when that was called
    job_id: str  #: of the job that it made; "" if it made none
    #: ``completed``, ``failed`` or ``cancelled`` once its job has ended; before that the job's state, or
    #: ``removed``. Without a job: ``missed`` (no worker was there), ``overlapped`` (the run before was still
    #: running), or ``duplicate`` (another job held its unique key)
    outcome: str
    ended_at: datetime | None = None  #: when its job ended
    is_manual: bool = False  #: whether ``run_now`` asked for it
    count: int = 1  #: how many ticks were left out at once, counted up to 1,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it was when it was read. Times are aware, in UTC.

    >>> schedules.get("weekly report").next_run
    datetime.datetime(..., 2, 30, tzinfo=datetime.timezone.utc)
    """

    name: str  #: unique in the project
    queue: str  #: where its jobs go
    function: str  #: the stored name of its function
    rule: Rule  #: when: a ``Cron`` or an ``Every`` of ``django_kue.ticks``
    catch_up: str  #: ``last``, ``all`` or ``none``
    overlap: bool  #: whether a run starts while the one before is still running
    is_declared: bool  #: in code or settings: elsewhere, only rule, ``catch_up``, ``overlap`` can change
    overrides: tuple[str, ...] = ()  #: names of the options that were changed although it's declared
    paused_at: datetime | None = None  #: since when it's paused
    undeclared_since: datetime | None = None  #: since when it's off because no running worker declares it
    next_run: datetime | None = None  #: its next tick; ``None`` while it's paused or off
    last_tick: datetime | None = None  #: its latest regular tick, fired or left out
    last_success: datetime | None = None  #: when one of its jobs last completed, however long that's ago
    last_runs: tuple[Tick, ...] = ()  #: its last ticks, at most 20, the newest first
    _arguments: bytes = field(default=b"", repr=False)

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None

    @property
    def is_off(self) -> bool:
        """True when it isn't declared any more, or is moving to another queue."""
        return self.next_run is None and not self.is_paused

    @property
    def is_late(self) -> bool:
        """True when its next tick was due more than a minute ago: no worker fires it."""
        return self.next_run is not None and self.next_run + LATE < datetime.now(UTC)

    @property
    def timezone(self) -> str:
        """The time zone of its times; ``UTC`` for an interval."""
        return self.rule.zone

    @property
    def words(self) -> str:
        """Its rule in words: ``At 02:30 on Monday (Europe/Berlin)``."""
        return self.rule.words

    @property
    def cron(self) -> str | None:
        return self.rule.text if isinstance(self.rule, Cron) else None

    @property
    def every(self) -> float | None:
        """Seconds."""
        return None if isinstance(self.rule, Cron) else self.rule.ms / 1000

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments. Model instances are read from the database at each call."""
        return records.decode_arguments(self._arguments)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        return records.decode_arguments(self._arguments)[1]

    @property
    def last_run(self) -> Tick | None:
        """The newest of its last ticks that made a job."""
        return next((tick for tick in self.last_runs if tick.job_id), None)

    def next_runs(self, count: int = 5, *, after: datetime | None = None) -> list[datetime]:
        """When it will run after a moment (now), whether it's paused or not; in its own time zone.

        Args:
            count: 0 to 1000.
            after: aware.

        Raises:
            TypeError, ValueError: it isn't such a number, or isn't an aware datetime.
        """
        return next_runs(self.rule, count, after=after)

    def __str__(self) -> str:
        return f"{self.name} ({self.words})"


def next_runs(rule: Rule, count: int, *, after: datetime | None = None) -> list[datetime]:
    """The ticks of a rule after a moment (now), in its own time zone. See :meth:`Schedule.next_runs`."""
    whole_number("count", count, 0, 1000)
    if after is not None and not (isinstance(after, datetime) and after.utcoffset() is not None):
        raise TypeError(f"after is an aware datetime, such as datetime.now(UTC), not {after!r:.80}")
    begin = round((after or datetime.now(UTC)).timestamp() * 1000)
    zone = ticks.read_zone(rule.zone)
    return [moment(tick).astimezone(zone) for tick in ticks.after(rule, begin, count)]


def seen(queue: str, stored: Stored, record: Record, rows: Iterable[Row]) -> Schedule:
    """A schedule from what's stored; ``rows`` are those of its jobs whose end isn't noted."""
    states = {row.key: str(row.state) for row in rows}
    return Schedule(
        name=stored.name,
        queue=queue,
        function=record.function,
        rule=record.rule_now,
        catch_up=record.catch_up_now,
        overlap=record.overlap_now,
        is_declared=bool(record.digest),
        overrides=tuple(record.overrides),
        paused_at=moment_or_none(record.ms("p")),
        undeclared_since=moment_or_none(record.ms("g")),
        next_run=moment_or_none(stored.next_ms),
        last_tick=moment_or_none(record.ms("l")),
        last_success=moment_or_none(record.ms("s")),
        last_runs=tuple(_tick(queue, text, states) for text in map(_parts, stored.ticked) if text),
        _arguments=encryption.unsealed(
            record.arguments, encryption.SCHEDULE, queue, stored.name, record.function
        ),
    )


def pending(ticked: Sequence[bytes]) -> list[str]:
    """Keys of the jobs that a schedule's last ticks made, and whose end isn't noted."""
    return [parts[1] for parts in map(_parts, ticked) if parts and parts[1] and not parts[2]]


def _parts(text: bytes) -> list[str]:
    """Tick, key, outcome, ended or count, how; nothing if it's foreign text."""
    parts = text.decode(errors="replace").split("|")
    return parts if len(parts) == 5 and parts[0].isdigit() else []


def _tick(queue: str, parts: list[str], states: dict[str, str]) -> Tick:
    at, key, letter, number, how = parts
    outcome = _OUTCOMES.get(letter) or states.get(key, REMOVED)
    count = int(number) if number.isdigit() else 1
    if not key:
        return Tick(moment(at), "", outcome, count=count)
    ended = moment(number) if letter and number.isdigit() else None
    return Tick(moment(at), f"{queue}.{key}", outcome, ended, how == "n")
