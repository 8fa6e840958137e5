"""When a schedule is due: cron expressions and intervals. No I/O.

A *rule* is a :class:`Cron` or an :class:`Every`. It computes the ticks after a moment, and up to one; moments
are Unix milliseconds. :func:`due` decides which ticks of an outage are fired, and which are left out.

>>> Cron("30 2 * * mon", "Europe/Berlin").words
'At 02:30 on Monday (Europe/Berlin)'
>>> Every.of(300).words
'Every 5 minutes'
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import chain, islice, takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from django_kue import cron_words
from django_kue.moments import EPOCH, TICK, milliseconds, moment

MINUTE, DAY = 60_000, 86_400_000  # ms
MOST = 1000  # ticks of an outage that are fired or reported
LATE = MINUTE  # ms; with catch_up="none", a tick that has been due for longer was missed
CORRECTION = 180 * MINUTE  # ms; a clock that's set back by more had been wrong (as in Debian's cron)
SHORTEST, LONGEST = 1000, 3650 * DAY  # ms between two ticks of an interval

CATCH_UP = ("last", "all", "none")

# What cron programs accept besides the five fields.
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# What a field accepts, by cronsim's name for it.
_TAKES = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, if its month has that day; L for the last one, LW for the last weekday",
    "month": "1 to 12 or jan to dec",
    "day-of-week": "0 to 7 or sun to sat, ranges upwards (mon-fri, 5-7); mon#2, 5L: a month's second, last",
}
_FIELDS = 'five fields (minute, hour, day of month, month, day of week), such as "30 2 * * mon"'


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone, read by Debian cron's rules.

    A fixed time in an hour that summer time skips fires right after that hour; in an hour that comes twice,
    it fires once. With a ``*`` as minute or hour, the expression follows the clock instead.

    Raises:
        ValueError: the text isn't a cron expression, never fires, or there's no such zone; it says why.
    """

    text: str
    zone: str

    def __post_init__(self) -> None:
        read_zone(self.zone)
        fields = self._fields
        if len(fields.split()) != 5:
            raise ValueError(
                f"{self.text!r:.120} isn't a cron expression: it has {_FIELDS}; or is one of "
                f"{', '.join(NICKNAMES)}"
            )
        try:
            CronSim(fields, EPOCH)
        except (CronSimError, ValueError) as error:  # ValueError: a number that's thousands of digits long
            raise ValueError(f"{self.text!r:.120} isn't a cron expression: {_reason(error)}") from None
        if self.after(0) is None:
            raise ValueError(f"{self.text!r} never comes: it matches no day of the next 50 years")

    @classmethod
    def of(cls, text: str, zone: str) -> Cron:
        return cls(" ".join(text.split()), zone)

    @property
    def _fields(self) -> str:
        return NICKNAMES.get(self.text.lower(), self.text)

    def after(self, ms: int) -> int | None:
        """The next tick after a moment; ``None`` if there's none within 50 years."""
        found = self._fixed(ms, is_back=False) if self._is_fixed else self._by_the_clock(ms, is_back=False)
        return next(found, None)

    def upto(self, ms: int) -> Iterator[int]:
        """Ticks at or before a moment, back to 1970, the latest first."""
        found = self._fixed(ms, is_back=True) if self._is_fixed else self._by_the_clock(ms + 1, is_back=True)
        return takewhile(lambda tick: tick >= 0, found)

    @property
    def _is_fixed(self) -> bool:
        minute, hour, *_ = self._fields.split()
        return not (minute.startswith("*") or hour.startswith("*"))

    def _fixed(self, ms: int, *, is_back: bool) -> Iterator[int]:
        """Ticks of fixed times, after a moment or up to it; cronsim gets these right."""
        # For an hour that occurs twice, cronsim gives the times of the first, even if asked in the second;
        # and going back, the wall clock may have shown later times before: so begin well after the moment.
        begin = ms // 1000 * 1000 + DAY if is_back else ms
        for wall in CronSim(self._fields, moment(begin).astimezone(_zone(self.zone)), reverse=is_back):
            tick = milliseconds(wall)
            if tick <= ms if is_back else tick > ms:
                yield tick

    def _by_the_clock(self, begin: int, *, is_back: bool) -> Iterator[int]:
        """Ticks that follow the clock, after a moment or before it, from one clock change to the next. (On
        its own, cronsim goes on by whole hours, and misses some where clocks change by half an hour.)"""
        while True:
            offset, change = self._offset(begin + (-1 if is_back else 1)), None
            for wall in CronSim(self._fields, moment(begin + offset), reverse=is_back):
                tick = milliseconds(wall) - offset
                change = self._change_between(begin, tick, offset)
                if change is not None:
                    break
                yield tick
                begin = tick
            if change is None:
                return
            begin = change if is_back else change - 1

    def _change_between(self, begin: int, tick: int, offset: int) -> int | None:
        """The first clock change on the way from a moment, at which this offset holds, to a tick."""
        is_back = tick < begin
        near = begin
        for far in chain(range(begin, tick, -DAY if is_back else DAY), (tick,)):
            if far != begin and self._offset(far) != offset:
                low, high = sorted((near, far))
                return bisect_left(
                    range(high), True, lo=low + 1, key=lambda ms: (self._offset(ms) == offset) is is_back
                )
            near = far
        return None

    def _offset(self, ms: int) -> int:
        """How far the clock is ahead of UTC at a moment, in milliseconds."""
        ahead = moment(ms).astimezone(_zone(self.zone)).utcoffset()
        assert ahead is not None  # it has a time zone
        return ahead // TICK

    @property
    def words(self) -> str:
        """For people, in the active language: ``At 02:30 on Monday (Europe/Berlin)``."""
        return f"{cron_words.cron(self._fields)} ({self.zone})"

    def __str__(self) -> str:
        return self.text


def _reason(error: Exception) -> str:
    """What's wrong with an expression, and what it accepts."""
    field = str(error).removeprefix("Bad ")
    return f"bad {field}: {_TAKES[field]}" if field in _TAKES else f"{error}; it has {_FIELDS}"


@dataclass(frozen=True, slots=True)
class Every:
    """An interval. Its ticks are multiples of it since 1970, in UTC: the same wherever they're computed."""

    ms: int

    @classmethod
    def of(cls, every: float | timedelta) -> Every:
        """An interval of so many seconds.

        Raises:
            TypeError, ValueError: it isn't a duration, or isn't between one second and ten years.
        """
        seconds = every.total_seconds() if isinstance(every, timedelta) else every
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"every={every!r:.80} isn't a duration; write seconds or a timedelta")
        if not SHORTEST <= seconds * 1000 <= LONGEST:
            raise ValueError(f"every={every!r:.80} must be from one second to ten years")
        return cls(round(seconds * 1000))

    def after(self, ms: int) -> int:
        return (ms // self.ms + 1) * self.ms

    def upto(self, ms: int) -> Iterator[int]:
        return iter(range(ms // self.ms * self.ms, -1, -self.ms))

    @property
    def zone(self) -> str:
        return "UTC"

    @property
    def words(self) -> str:
        """For people, in the active language: ``Every 5 minutes``."""
        return cron_words.interval(self.ms / 1000)

    def __str__(self) -> str:
        return self.words


Rule = Cron | Every


def encode(rule: Rule) -> str:
    """A rule in stored form."""
    return f"every {rule.ms}" if isinstance(rule, Every) else f"cron {rule.zone} {rule.text}"


def decode(text: str) -> Rule:
    """The rule that :func:`encode` wrote.

    Raises:
        ValueError: this release doesn't know such a rule, or this machine doesn't know its time zone.
    """
    kind, _, rest = text.partition(" ")
    if kind == "every" and rest.isdigit() and int(rest):
        return Every(int(rest))
    zone, _, expression = rest.partition(" ")
    if kind == "cron":
        return Cron(expression, zone)
    raise ValueError(f"{text!r:.80} isn't a rule")


def after(rule: Rule, ms: int, count: int) -> list[int]:
    """The next ``count`` ticks after a moment."""
    found: list[int] = []
    while len(found) < count and (tick := rule.after(found[-1] if found else ms)) is not None:
        found.append(tick)
    return found


class Due(NamedTuple):
    """What has to be done for a schedule whose next tick is due."""

    fires: list[int]  # ticks, in order
    missed: list[int]  # those that are left out, in order; if there are very many, the newest
    next: int | None  # the first tick that's still to come

    def steps(self) -> list[tuple[int, int | None]]:
        """Each tick to fire, with the one after it."""
        return list(zip(self.fires, [*self.fires[1:], self.next], strict=True)) if self.fires else []


def due(rule: Rule, expected: int, now: int, catch_up: str) -> Due:
    """What's due at ``now`` for a schedule whose next tick was noted as ``expected``.

    Only the newest :data:`MOST` ticks are considered, however long no worker was there.
    """
    ticks = list(takewhile(lambda tick: tick > expected, islice(rule.upto(now), MOST)))[::-1]
    if len(ticks) < MOST:
        ticks.insert(0, expected)
    coming = rule.after(max(now, expected))
    if catch_up == "all":
        return Due(ticks, [expected] if ticks[0] != expected else [], coming)
    *missed, last = ticks
    if catch_up == "none" and now - last > LATE:
        return Due([], ticks, coming)
    return Due([last], missed, coming)


def read_zone(name: str) -> ZoneInfo:
    """The time zone with this name.

    Raises:
        ValueError: there's no such time zone.
    """
    try:
        return _zone(name)
    except (LookupError, ValueError, OSError):  # also raised for a folder's name
        raise ValueError(
            f'there\'s no time zone {name!r}; write one such as "Europe/Berlin". If this machine has '
            "no time zone data: pip install tzdata"
        ) from None


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
