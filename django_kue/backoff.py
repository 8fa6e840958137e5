"""How long a job waits between a failed run and the next one.

What's stored with a job is plain data, never code: Kue kept a function's source text and evaluated it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

LONGEST = 10 * 365 * 86_400.0  # seconds; keeps every time within what Redis sorts exactly


@dataclass(frozen=True, slots=True)
class Backoff:
    """A rule for the delays between runs. Made by :meth:`fixed` and :meth:`exponential`.

    >>> rule = Backoff.exponential(2, max=600)
    >>> [rule.delay(attempt) for attempt in (1, 2, 3, 10, 20)]
    [2.0, 4.0, 8.0, 600.0, 600.0]
    """

    type: Literal["fixed", "exponential"]
    seconds: float
    max: float | None = None
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.type not in ("fixed", "exponential"):
            raise ValueError(f"a Backoff is 'fixed' or 'exponential', not {self.type!r:.80}")
        _check_number("seconds", self.seconds, LONGEST)
        _check_number("jitter", self.jitter, 1)
        if self.max is not None:
            _check_number("max", self.max, LONGEST)

    @classmethod
    def fixed(cls, seconds: float | timedelta, *, jitter: float = 0.0) -> Backoff:
        """The same delay before every retry.

        Args:
            seconds: the delay, 0 to ten years; a ``timedelta`` works too.
            jitter: see :meth:`exponential`.
        """
        return cls("fixed", _seconds(seconds), None, jitter)

    @classmethod
    def exponential(
        cls, base: float | timedelta, *, max: float | timedelta | None = None, jitter: float = 0.0
    ) -> Backoff:
        """A delay that doubles with every failed run: ``base * 2 ** (attempt - 1)`` seconds.

        So the first retry waits ``base``. (Kue starts at half of its ``delay``, then grows a little
        faster than by doubling: ``delay * (2 ** attempt - 1) / 2``.)

        Args:
            base: seconds before the first retry, 0 to ten years; a ``timedelta`` works too.
            max: no delay is longer than this; without it none is longer than ten years.
            jitter: 0 to 1. Each delay is cut by a random share, up to this one: with 0.25 a delay
                of 8 s becomes 6 to 8 s, with 1 it's 0 to 8 s. It keeps jobs that failed
                together from coming back together, and never makes a delay longer.

        Raises:
            TypeError: not a number of seconds or a ``timedelta``.
            ValueError: out of range.
        """
        return cls("exponential", _seconds(base), None if max is None else _seconds(max), jitter)

    @classmethod
    def of(cls, value: object) -> Backoff | None:
        """The rule that ``value`` stands for, as people write it in options and settings.

        ``None`` is no backoff (retry at once); a number of seconds or a ``timedelta`` is a fixed one.

        Raises:
            TypeError, ValueError: it's none of these.
        """
        if value is None or isinstance(value, Backoff):
            return value
        if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
            return cls.fixed(value)
        raise TypeError(
            "backoff is None, a number of seconds, a timedelta, Backoff.fixed(…) or "
            f"Backoff.exponential(…), not {value!r:.80}"
        )

    def delay(self, attempt: int) -> float:
        """Seconds to wait after run number ``attempt`` (1 is the first) has failed."""
        delay = self.seconds
        if self.type == "exponential":
            # Past 2**64 a base is beyond LONGEST, or negligible; so nothing overflows.
            delay *= 2.0 ** min(attempt - 1, 64)
        delay = min(delay, LONGEST if self.max is None else self.max)
        if self.jitter:
            delay *= 1 - self.jitter * random.random()  # nothing secret depends on it
        return float(delay)

    def as_json(self) -> dict[str, Any]:
        """Plain data, to be stored with a job."""
        data: dict[str, Any] = {"type": self.type, "delay": self.seconds}
        if self.max is not None:
            data["max"] = self.max
        if self.jitter:
            data["jitter"] = self.jitter
        return data

    @classmethod
    def from_json(cls, data: object) -> Backoff:
        """The rule from what :meth:`as_json` made.

        Raises:
            ValueError: it's something else.
        """
        if not isinstance(data, Mapping) or not {"type", "delay"} <= data.keys():
            raise ValueError(f"not a stored backoff: {data!r:.80}")
        try:
            return cls(data["type"], data["delay"], data.get("max"), data.get("jitter", 0.0))
        except TypeError as error:
            raise ValueError(f"not a stored backoff: {data!r:.80}") from error


def _seconds(value: object) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _check_number(name: str, value: object, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"Backoff: {name} is a number, not {value!r:.80}")
    if not 0 <= value <= most:  # NaN fails too
        raise ValueError(f"Backoff: {name} is between 0 and {most:g}, not {value!r}")
