"""A bar for work that takes a while: only on a terminal, and gone when the work is done."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Self

from django_kue.cli.screen import Screen
from django_kue.cli.text import cut
from django_kue.words import span

PATIENCE = 0.5  # seconds; shorter work needs no bar
PAUSE = 0.1  # seconds between two redraws
LENGTH = 24


def summed(screen: Screen, title: str, total: int, parts: Iterable[int]) -> int:
    """The sum of ``parts``, with a bar that shows how far it has got on its way to ``total``.

    The bar is on stderr, so that it doesn't get into a pipe or a file.
    """
    done = 0
    with Bar(screen, title) as bar:
        for part in parts:
            done += part
            bar.show(done, total)
    return done


class Bar:
    """A bar that's shown while the block runs, once that has taken :data:`PATIENCE`."""

    def __init__(self, screen: Screen, title: str) -> None:
        self._screen = screen
        self._title = title
        self._began = self._drawn = time.monotonic()
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._screen.overwrite("")

    def show(self, done: int, total: int) -> None:
        """Show how far it has got."""
        now = time.monotonic()
        spent = now - self._began
        if self._screen.has_live_errors and spent >= PATIENCE and now - self._drawn >= PAUSE:
            self._drawn, self._is_shown = now, True
            self._screen.overwrite(cut(line(self._title, done, total, spent), self._screen.size[0] - 1))


def line(title: str, done: int, total: int, seconds: float) -> str:
    """The bar as text.

    >>> line("Removing", 250, 1000, 2.0)
    'Removing ▕██████░░░░░░░░░░░░░░░░░░▏ 25 %  250 of 1,000, 6.0 s left'
    """
    share = min(1.0, done / total) if total else 1.0
    filled = round(LENGTH * share)
    bar = "█" * filled + "░" * (LENGTH - filled)
    left = f", {span(seconds / share - seconds)} left" if share else ""
    return f"{title} ▕{bar}▏ {100 * share:.0f} %  {done:,} of {total:,}{left}"
