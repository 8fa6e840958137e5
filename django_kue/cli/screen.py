"""Where a subcommand's output goes: a terminal, a pipe or a test; for people, or as JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from django.core.management.color import Style

from django_kue.cli import tables
from django_kue.cli.tables import Cell, Column


class Screen:
    """Writes lines, tables and JSON. Text from jobs must come in as cells, or through ``one_line``."""

    def __init__(self, out: OutputWrapper, errors: OutputWrapper, style: Style, *, has_color: bool) -> None:
        self._out = out
        self._errors = errors
        self._style = style
        self._has_color = has_color

    @property
    def is_terminal(self) -> bool:
        return bool(self._out.isatty())

    @property
    def has_live_errors(self) -> bool:
        """Whether stderr is a terminal, where a bar may be drawn."""
        return bool(self._errors.isatty())

    @property
    def room(self) -> int | None:
        """The terminal's width; ``None`` in a pipe or a file, where nothing is cut."""
        return shutil.get_terminal_size().columns if self.is_terminal else None

    @property
    def size(self) -> tuple[int, int]:
        """The terminal's columns and lines; 80 and 24 if there's none."""
        return shutil.get_terminal_size()

    def line(self, text: str = "", role: str = "") -> None:
        """Write a line; ``role`` is a colour's name in Django's terminal style, such as ``SUCCESS``."""
        self._out.write(self.paint(text, role))

    def complain(self, text: str, role: str = "ERROR") -> None:
        """Write a line to stderr."""
        self._errors.write(text if not self._has_color else self.paint(text, role), lambda text: text)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        for line in tables.render(columns, rows, self.room, self.paint):
            self._out.write(line)

    def json(self, value: Any, *, is_compact: bool = False) -> None:
        """Write a value as JSON, with times in ISO form. Compact is one line, for streams."""
        text = json.dumps(value, ensure_ascii=False, default=_as_json, indent=None if is_compact else 2)
        self._out.write(
            "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)
        )

    def confirm(self, warning: str, done: str) -> None:
        """Go on only if somebody types ``yes``; ``done`` is what nothing was, otherwise.

        Raises:
            CommandError: they didn't.
        """
        self.line(warning, "WARNING")
        self.flush()
        try:
            answer = input("Type 'yes' to go on: ")
        except EOFError as error:
            raise CommandError(f"Nobody answered; nothing was {done}. In a script, give --yes.") from error
        if answer.strip().lower() != "yes":
            raise CommandError(f"Nothing was {done}.")

    def wrapped(self, text: str, indent: str = "  ") -> str:
        """Text in lines that fit the terminal, all but the first one indented by ``indent``."""
        if self.room is None:
            return text
        room = max(20, self.room - len(indent))
        return f"\n{indent}".join(textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False))

    def overwrite(self, text: str) -> None:
        """Replace the line on stderr that the cursor is on."""
        self._errors.write(f"\r\x1b[K{text}", lambda text: text, ending="")
        self._errors.flush()

    def draw(self, text: str) -> None:
        """Write text that contains terminal commands, unchanged."""
        self._out.write(text, ending="")
        self._out.flush()

    def flush(self) -> None:
        self._out.flush()

    def paint(self, text: str, role: str) -> str:
        if not role or not self._has_color:
            return text
        painted: str = getattr(self._style, role)(text)
        return painted


def as_text(value: Any) -> str:
    """A value as one line of JSON, for people."""
    return json.dumps(value, ensure_ascii=False, default=_as_json)


def _as_json(value: object) -> object:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value)


def _escaped(char: str) -> str:
    """``\\u009b`` and the like: within JSON's strings, its only place, that's the same text."""
    return json.dumps(char)[1:-1]


def forgive_encoding() -> None:
    """Where the terminal's encoding lacks a character, spell it out instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
