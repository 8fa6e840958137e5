"""Text for terminals: how wide it is, and cut to fit. ``words.py`` makes hostile text harmless."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """The text, or its beginning and ``…``, in at most this many columns."""
    if width(text) <= columns:
        return text
    kept, room = [], columns - 1
    for char in text:
        room -= _columns(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def cut_start(text: str, columns: int) -> str:
    """The text, or ``…`` and its end, which is the part of a dotted name that matters."""
    if width(text) <= columns:
        return text
    return "…" + text[len(text) - columns + 1 :] if text.isascii() else cut(text, columns)


def listed(parts: Iterable[object], most: int = 8) -> str:
    """The first names, separated by commas, and how many more there are."""
    names = [str(part) for part in parts]
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
