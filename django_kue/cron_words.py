"""When a schedule runs, in words: in the active language, with Django's names of days and months.

The words say what a cron expression's fields mean, not how they're written: ``0,30`` reads like ``*/30``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from itertools import groupby, pairwise

from cronsim import CronSim
from django.utils.dates import MONTHS, WEEKDAYS
from django.utils.formats import date_format, localize
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86_400, 604_800  # seconds
MOST_TIMES = 4  # of a day that are listed one by one
LEAST_RUN = 3  # neighbours that are written as a range
LEAST_STEPS = 4  # evenly spaced values that are shortened to the first two and the last
A_LEAP_YEAR = 2024


def cron(fields: str) -> str:
    """A valid cron expression in words, such as ``At 02:30 on Monday``."""
    sim = CronSim(fields, datetime(A_LEAP_YEAR, 1, 1, tzinfo=UTC))
    minutes, hours = sorted(sim.minutes), sorted(sim.hours)
    times, date_of_year = _times(minutes, hours), _date_of_year(sim)
    days = date_of_year or _days(sim) or (pgettext("schedule", "every day") if times else "")
    text = times or _often(minutes, hours)
    if days:
        text = pgettext("schedule", "%(time)s %(days)s") % {"time": text, "days": days}
    if len(sim.months) < 12 and not date_of_year:
        months = _listed(_words(sorted(sim.months), lambda month: str(MONTHS[month])))
        text = pgettext("schedule", "%(time)s in %(months)s") % {"time": text, "months": months}
    return text[:1].upper() + text[1:]


def interval(seconds: float) -> str:
    """An interval in words, such as ``Every 5 minutes``."""
    text = _every(seconds)
    return text[:1].upper() + text[1:]


def _every(seconds: float) -> str:
    size = next((size for size in (WEEK, DAY, HOUR, MINUTE) if seconds % size == 0), 1)
    count = seconds / size
    number = 1 if count == 1 else 2 if count % 1 else int(count)  # for grammar: 1.5 is more than one
    text = {
        WEEK: ngettext("every week", "every %(count)s weeks", number),
        DAY: ngettext("every day", "every %(count)s days", number),
        HOUR: ngettext("every hour", "every %(count)s hours", number),
        MINUTE: ngettext("every minute", "every %(count)s minutes", number),
        1: ngettext("every second", "every %(count)s seconds", number),
    }[size]
    return text % {"count": localize(count if count % 1 else int(count))}


# ── times of a day ──


def _times(minutes: Sequence[int], hours: Sequence[int]) -> str:
    """The times one by one; "" if there are many."""
    if len(minutes) * len(hours) > MOST_TIMES:
        return ""
    times = [_clock(hour, minute) for hour in hours for minute in minutes]
    return pgettext("schedule", "at %(times)s") % {"times": _listed(times)}


def _often(minutes: Sequence[int], hours: Sequence[int]) -> str:
    is_one_span = len(hours) == 1 or (_distance(hours) == 1 and len(hours) < 24)
    often = _each_step(minutes, len(hours) == 1)
    if often and is_one_span:
        ends = {"start": _clock(hours[0], minutes[0]), "end": _clock(hours[-1], minutes[-1])}
        return pgettext("schedule", "%(often)s from %(start)s through %(end)s") % {"often": often, **ends}
    if len(hours) == 24:
        found = ngettext(
            "at minute %(minutes)s of every hour", "at minutes %(minutes)s of every hour", len(minutes)
        )
        return often or found % {"minutes": _numbers(minutes)}
    if minutes == [0] and _is_cycle(hours, 24):
        return _every(_distance(hours) * HOUR)
    if often and minutes != [0]:
        return pgettext("schedule", "%(often)s in the hours %(hours)s") % {
            "often": often, "hours": _numbers(hours)
        }  # fmt: skip
    found = ngettext(
        "at minute %(minutes)s of the hours %(hours)s",
        "at minutes %(minutes)s of the hours %(hours)s",
        len(minutes),
    )
    return found % {"minutes": _numbers(minutes), "hours": _numbers(hours)}


def _each_step(minutes: Sequence[int], is_one_hour: bool) -> str:
    """The interval between minutes that are evenly spaced, also across the end of the hour; else ""."""
    if minutes == [0]:
        return _every(HOUR)
    is_regular = _distance(minutes) > 0 if is_one_hour else _is_cycle(minutes, 60)
    return _every(_distance(minutes) * MINUTE) if is_regular else ""


def _is_cycle(values: Sequence[int], size: int) -> bool:
    distance = _distance(values)
    return distance > 0 and size % distance == 0 and list(values) == list(range(0, size, distance))


def _clock(hour: int, minute: int) -> str:
    return f"{hour:02}:{minute:02}"


# ── days ──


def _date_of_year(sim: CronSim) -> str:
    """The date of a schedule that runs once a year; "" for any other."""
    if _weekdays(sim) or len(sim.months) != 1 or len(sim.days) != 1 or min(sim.days) < 1:
        return ""
    [month], [day] = sim.months, sim.days
    text = date_format(date(A_LEAP_YEAR, month, day), "MONTH_DAY_FORMAT")
    return pgettext("schedule", "on %(date)s") % {"date": text}


def _days(sim: CronSim) -> str:
    """The days on which it runs; "" if that's every day."""
    of_month, weekdays = _days_of_month(sim), _weekdays(sim)
    of_week = pgettext("schedule", "on %(weekdays)s") % {"weekdays": weekdays}
    if not (of_month and weekdays):
        return (of_month or (weekdays and of_week)) if sim.day_and else ""
    if sim.day_and:
        return _("%(days)s if it’s %(weekdays)s") % {"days": of_month, "weekdays": weekdays}
    return _("%(days)s or %(weekdays)s") % {"days": of_month, "weekdays": of_week}


def _days_of_month(sim: CronSim) -> str:
    """Those on which it runs; "" if that's all of them."""
    days = sorted(day for day in sim.days if day > 0)
    if len(days) == 31:
        return ""
    found = []
    if days:
        numbers = _numbers(days, lambda day: pgettext("day of the month", "%(day)s") % {"day": day})
        found.append(ngettext("day %(days)s", "days %(days)s", len(days)) % {"days": numbers})
    if CronSim.LAST in sim.days:
        found.append(pgettext("of the month", "the last day"))
    if CronSim.LAST_WEEKDAY in sim.days:
        found.append(pgettext("of the month", "the last weekday"))
    return pgettext("schedule", "on %(days)s of the month") % {"days": _listed(found)}


def _weekdays(sim: CronSim) -> str:
    """Those on which it runs; "" if that's all of them."""
    plain = sorted({_weekday(day) for day in sim.weekdays if isinstance(day, int)})
    nth = sorted((_weekday(day[0]), day[1]) for day in sim.weekdays if isinstance(day, tuple))
    if len(plain) == 7:
        return ""
    return _listed([*_words(plain, lambda day: str(WEEKDAYS[day])), *[_nth(*one) for one in nth]])


def _weekday(day: int) -> int:
    """Cron's Sunday is 0 or 7, Django's is 6."""
    return (day - 1) % 7


def _nth(day: int, number: int) -> str:
    numbers = {
        1: pgettext("weekday of the month", "first"),
        2: pgettext("weekday of the month", "second"),
        3: pgettext("weekday of the month", "third"),
        4: pgettext("weekday of the month", "fourth"),
        5: pgettext("weekday of the month", "fifth"),
        CronSim.LAST: pgettext("weekday of the month", "last"),
    }
    text = _("the %(number)s %(weekday)s of the month")
    return text % {"number": numbers[number], "weekday": WEEKDAYS[day]}


# ── lists ──


def _distance(values: Sequence[int]) -> int:
    """The distance between neighbours, if it's the same for all of them; else 0."""
    distances = {after - before for before, after in pairwise(values)}
    return distances.pop() if len(distances) == 1 else 0


def _numbers(values: Sequence[int], say: Callable[[int], str] = str) -> str:
    """``1, 3–5``, or ``0, 2, …, 22``."""
    if _distance(values) > 1 and len(values) >= LEAST_STEPS:
        return f"{say(values[0])}, {say(values[1])}, …, {say(values[-1])}"
    return ", ".join(_runs(values, say, lambda first, last: f"{first}–{last}"))


def _words(values: Sequence[int], say: Callable[[int], str]) -> list[str]:
    def span(first: str, last: str) -> str:
        return _("%(first)s through %(last)s") % {"first": first, "last": last}

    return _runs(values, say, span)


def _runs(values: Iterable[int], say: Callable[[int], str], span: Callable[[str, str], str]) -> list[str]:
    found = []
    for _key, group in groupby(enumerate(values), lambda pair: pair[1] - pair[0]):
        run = [say(value) for _at, value in group]
        found += [span(run[0], run[-1])] if len(run) >= LEAST_RUN else run
    return found


def _listed(items: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    some = pgettext("list", ", ").join(items[:-1])
    return pgettext("list", "%(some)s and %(last)s") % {"some": some, "last": items[-1]}
