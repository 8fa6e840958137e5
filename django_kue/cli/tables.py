"""Tables that fit their terminal: long text is cut, and the columns that matter least are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from django_kue.cli.text import cut, cut_start, width
from django_kue.words import one_line

GAP = "  "


class Column(NamedTuple):
    """A column of a table."""

    title: str
    is_number: bool = False
    least: int = 0  # above 0: the text may be cut to this many columns of the terminal
    rank: int = 0  # above 0: it may be left out, highest rank first


class Painted(NamedTuple):
    """A cell with a colour: the name of a role of Django's terminal style."""

    text: object
    role: str


class Dotted(NamedTuple):
    """A cell with a dotted name, which is cut at its beginning instead of its end."""

    text: str
    role: str = ""


Cell = object  # text, a number, Painted or Dotted
Paint = Callable[[str, str], str]  # text, role → coloured text


def render(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int | None, paint: Paint
) -> list[str]:
    """The table's lines, its head first.

    Args:
        room: columns of the terminal; ``None`` if nothing needs to be cut, as in a file.
    """
    natural = [
        max([width(column.title), *(width(_text(row[at])) for row in rows)])
        for at, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    if room is not None:
        kept = _kept(columns, natural, room)
    widths = _fitted(columns, natural, kept, room)
    head: list[Cell] = [Painted(column.title, "MIGRATE_LABEL") for column in columns]
    found = [
        GAP.join(paint(_fit(cells[at], columns[at], widths[at]), _role(cells[at])) for at in kept).rstrip()
        for cells in [head, *rows]
    ]
    if len(kept) < len(columns):
        missing = ", ".join(column.title for at, column in enumerate(columns) if at not in kept)
        found.append(f"(too narrow for: {missing})")
    return found


def _text(cell: Cell) -> str:
    value = cell.text if isinstance(cell, Painted | Dotted) else cell
    if isinstance(value, int):
        return f"{value:,}"
    return one_line(value)


def _role(cell: Cell) -> str:
    return cell.role if isinstance(cell, Painted | Dotted) else ""


def _fit(cell: Cell, column: Column, columns: int) -> str:
    """The cell's text, cut or padded to exactly this many columns of the terminal."""
    text = (cut_start if isinstance(cell, Dotted) else cut)(_text(cell), columns)
    blank = " " * (columns - width(text))
    return blank + text if column.is_number else text + blank


def _kept(columns: Sequence[Column], natural: Sequence[int], room: int) -> list[int]:
    """The columns that fit when all are cut as far as they may be."""
    kept = list(range(len(columns)))
    while True:
        least = [min(natural[at], columns[at].least or natural[at]) for at in kept]
        optional = [at for at in kept if columns[at].rank]
        if _total(least) <= room or not optional:
            return kept
        kept.remove(max(optional, key=lambda at: columns[at].rank))


def _fitted(
    columns: Sequence[Column], natural: Sequence[int], kept: Sequence[int], room: int | None
) -> list[int]:
    """The columns' widths: the widest column that may be cut is cut first."""
    widths = list(natural)
    while room is not None and _total([widths[at] for at in kept]) > room:
        able = [at for at in kept if columns[at].least and widths[at] > columns[at].least]
        if not able:
            break
        widest = max(able, key=lambda at: widths[at])
        widths[widest] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)
