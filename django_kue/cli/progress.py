"""A bar for work that takes a while: on a terminal alone, and gone when the work is done."""

from __future__ import annotations

import time
from collections.abc import Iterable

from django_kue.cli.screen import Screen
from django_kue.cli.text import cut
from django_kue.words import span

PATIENCE = 0.5  # seconds: what's over before needs no bar
PAUSE = 0.1  # seconds between two pictures
LENGTH = 24


def summed(screen: Screen, title: str, total: int, parts: Iterable[int]) -> int:
    """The sum of ``parts``, with a bar that shows how far it's on its way to ``total``.

    The bar is on stderr, so that what a pipe or a file gets is the same with it.
    """
    began = drawn = time.monotonic()
    done = 0
    is_shown = False
    try:
        for part in parts:
            done += part
            now = time.monotonic()
            if screen.has_live_errors and now - began >= PATIENCE and now - drawn >= PAUSE:
                drawn, is_shown = now, True
                screen.overwrite(cut(line(title, done, total, now - began), screen.size[0] - 1))
    finally:
        if is_shown:
            screen.overwrite("")
    return done


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
