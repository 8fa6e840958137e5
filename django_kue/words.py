"""Numbers, times and foreign text in words, as people read them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from django.utils import timezone

from django_kue.kinds import DAY, HOUR, MINUTE

NONE = "–"


def span(seconds: float | None) -> str:
    """A duration, short.

    >>> [span(seconds) for seconds in (0.012, 3.44, 45, 600, 7200, 260_000, None)]
    ['12 ms', '3.4 s', '45 s', '10 min', '2 h', '3 d', '–']
    """
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, word in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"


def ago(moment: datetime | None) -> str:
    """When something was or will be, relative to now: ``5 min ago``, ``in 3 h``."""
    if moment is None:
        return NONE
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if abs(seconds) < 1:
        return "now"
    words = span(abs(seconds))
    return f"{words} ago" if seconds > 0 else f"in {words}"


def clock(moment: datetime | None, spec: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A moment in the project's time zone."""
    return NONE if moment is None else timezone.localtime(moment).strftime(spec)


def many(count: int, one: str, more: str = "") -> str:
    """A number of things, with the noun in the right form.

    >>> many(1, "job"), many(1200, "job"), many(2, "process", "processes")
    ('1 job', '1,200 jobs', '2 processes')
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def rate(number: float) -> str:
    """A number per unit of time.

    >>> [rate(number) for number in (0, 0.25, 9.5, 1234.5)]
    ['0', '0.2', '9.5', '1,234']
    """
    return f"{number:,.0f}" if number >= 10 or not number else f"{number:.1f}"


def one_line(text: object) -> str:
    r"""Any text as one line that can't control a terminal: ``\n``, ``\x1b`` and the like are escaped.

    >>> print(one_line("red \x1b[31m, and a\nline"))
    red \x1b[31m, and a\nline
    """
    line = str(text)
    return line if line.isprintable() else "".join(map(_harmless, line))


def lines(text: object) -> list[str]:
    """Like :func:`one_line`, for text of several lines, such as a traceback."""
    return [one_line(line) for line in str(text).expandtabs(4).replace("\r\n", "\n").split("\n")]


def _harmless(char: str) -> str:
    if char.isprintable():
        return char
    if unicodedata.category(char) == "Zs":  # a no-break space and the like
        return " "
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
