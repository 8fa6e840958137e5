"""How the admin's pages show times, durations, sizes and states. ``{% load kue %}``."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from django import template
from django.template.defaultfilters import filesizeformat
from django.utils import formats, timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from django_kue.kinds import DAY, HOUR, MINUTE
from django_kue.models import STATES

register = template.Library()

NONE = "–"
_LABELS = dict(STATES)


@register.filter(is_safe=True)
def duration(seconds: float | timedelta | None) -> str:
    """Seconds (or a ``timedelta``) in at most two units; ``None`` is a dash.

    >>> [duration(seconds) for seconds in (0.012, 1.24, 45, 184, 7500, None)]
    ['12 ms', '1.2 s', '45 s', '3 min 4 s', '2 h 5 min', '–']
    """
    if seconds is None:
        return NONE
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds < 0:
        return f"−{duration(-seconds)}"
    if seconds < 0.9995:
        return _milliseconds(1000 * seconds)
    if seconds < 9.95:
        return _seconds(seconds, 1)
    for large, small, say_large, say_small in _SCALES:
        if seconds < _END_OF[large]:
            whole, rest = divmod(round(seconds / small), round(large / small))
            if not whole:
                return say_small(rest)
            return f"{say_large(whole)} {say_small(rest)}" if rest else say_large(whole)
    return _days(round(seconds / DAY))


@register.filter(is_safe=True)
def ago(moment: datetime | None) -> SafeString:
    """How long ago (or how far ahead) an aware moment is, with the date itself as tooltip.

    >>> ago(five_minutes_before)
    '<time datetime="2031-05-01T09:30:00+00:00" title="May 1, 2031, 09:30:00 UTC">5 min ago</time>'
    """
    if moment is None:
        return format_html("{}", NONE)
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if abs(seconds) < 1:
        words = _("now")
    elif seconds > 0:
        words = _("%(duration)s ago") % {"duration": _rough(seconds)}
    else:
        words = _("in %(duration)s") % {"duration": _rough(-seconds)}
    return _time(moment, words, title=full_date(moment))


@register.filter(is_safe=True)
def clock(moment: datetime | None) -> SafeString:
    """An aware moment as date and time to the second, in the reader's language and the current time zone."""
    return format_html("{}", NONE) if moment is None else _time(moment, full_date(moment))


@register.filter(is_safe=True)
def clock_there(moment: datetime | None) -> SafeString:
    """Like :func:`clock`, in the moment's own time zone."""
    return format_html("{}", NONE) if moment is None else _time(moment, date_there(moment))


@register.filter(name="bytes", is_safe=True)
def size(count: int | None) -> str:
    """A number of bytes: ``1.5 KB``."""
    return NONE if count is None else filesizeformat(count)


@register.filter(is_safe=True)
def badge(state: str) -> SafeString:
    """A job's state as a coloured word."""
    return format_html('<span class="kue-badge kue-{}">{}</span>', state, label(state))


@register.filter
def label(state: str) -> str:
    """A job's state in the reader's language."""
    return str(_LABELS.get(str(state), state))


@register.filter
def as_json(value: Any) -> str:
    """A value as JSON that people read: indented, in Unicode; what isn't JSON is shown as its ``str()``."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def full_date(moment: datetime) -> str:
    """Date, time to the second, and the zone's name, in the current time zone."""
    return date_there(timezone.localtime(moment))


def date_there(moment: datetime) -> str:
    """Like :func:`full_date`, in the moment's own time zone."""
    day = formats.date_format(moment, "DATE_FORMAT")
    return f"{day}, {moment:%H:%M:%S} {moment.tzname()}"


def _time(moment: datetime, words: str, title: str = "") -> SafeString:
    if title:
        return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), title, words)
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(), words)


def _rough(seconds: float) -> str:
    """One unit is enough: the date is in the tooltip."""
    for size, say in ((DAY, _days), (HOUR, _hours), (MINUTE, _minutes)):
        if seconds >= size:
            return say(int(seconds / size))
    return _seconds(int(seconds))


@register.filter
@lru_cache(maxsize=1024)
def breakable(text: str) -> SafeString:
    """A text whose dotted names may wrap between their parts.

    >>> breakable("shop.jobs.send_receipt")
    'shop.<wbr>jobs.<wbr>send_<wbr>receipt'
    """
    parts = ((part,) for part in re.split(r"(?<=[._])(?=\w)", text))
    return format_html_join(mark_safe("<wbr>"), "{}", parts)  # nosec B308


def _milliseconds(count: float) -> str:
    return pgettext("duration", "%s ms") % _number(count, 0)


def _seconds(count: float, decimals: int = 0) -> str:
    return pgettext("duration", "%s s") % _number(count, decimals)


def _minutes(count: float) -> str:
    return pgettext("duration", "%s min") % _number(count, 0)


def _hours(count: float) -> str:
    return pgettext("duration", "%s h") % _number(count, 0)


def _days(count: float) -> str:
    return pgettext("duration", "%s d") % _number(count, 0)


def _number(count: float, decimals: int) -> str:
    rounded = round(count, decimals)
    return str(formats.number_format(rounded, 0 if rounded == int(rounded) else decimals))


# The larger and the smaller unit of a duration, and where the next row takes over.
_SCALES = ((MINUTE, 1, _minutes, _seconds), (HOUR, MINUTE, _hours, _minutes), (DAY, HOUR, _days, _hours))
_END_OF = {MINUTE: HOUR - 0.5, HOUR: DAY - 0.5 * MINUTE, DAY: 100 * DAY}
