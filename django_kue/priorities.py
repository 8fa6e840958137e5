"""Priorities: whole numbers from −100 to 100, higher runs sooner, and Kue's five names for some of them."""

from __future__ import annotations

LOWEST, HIGHEST = -100, 100
PRIORITIES = {"low": -10, "normal": 0, "medium": 5, "high": 10, "critical": 15}


def priority_number(value: object) -> int:
    """The number of a priority that's given as a number or as one of Kue's names.

    Raises:
        ValueError: it's neither; the message says what to write.

    >>> priority_number("high"), priority_number(-3)
    (10, -3)
    """
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if isinstance(value, int) and not isinstance(value, bool) and LOWEST <= value <= HIGHEST:
        return int(value)
    names = ", ".join(f'"{name}"' for name in PRIORITIES)
    raise ValueError(
        f"{value!r} is not a priority; write a whole number from {LOWEST} to {HIGHEST}, or {names}"
    )
