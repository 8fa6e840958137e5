"""How subcommands are made, and how the values that people type are read."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from django_kue import codecs
from django_kue.cli.screen import Screen
from django_kue.codecs import CodecError
from django_kue.kinds import DAY, HOUR, MINUTE
from django_kue.queue import Queue, get_queue
from django_kue.states import State

_UNITS = {"": 1, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


class Subcommand(NamedTuple):
    """A subcommand of ``manage.py kue``; ``run`` returns the exit code."""

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Screen, Namespace], int]


def add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", dest="is_json", help="print JSON, for programs")


def add_yes(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--yes",
        "--no-input",
        "--noinput",
        action="store_true",
        dest="is_sure",
        help="don't ask for confirmation",
    )


def add_choice(parser: ArgumentParser, when: str = "") -> None:
    """Options that choose jobs by function or text. ``when``: a prefix for their help."""
    parser.add_argument("--function", type=_some, metavar="NAME", help=f"{when}jobs of this function")
    parser.add_argument(
        "--text", type=_some, metavar="TEXT", help=f"{when}jobs whose title, function or error has this text"
    )


def _some(text: str) -> str:
    """Text that isn't empty: an unset shell variable must not choose all jobs."""
    if not text.strip():
        raise ArgumentTypeError("it's empty: leave it out for all jobs")
    return text


def beginning(text: str) -> str:
    """The beginning of an id. Not an empty one, as from an unset shell variable: it would fit every id."""
    if not text.strip():
        raise ArgumentTypeError("an id is empty")
    return text


def misused(message: str) -> CommandError:
    """The error for arguments that don't go together: exit code 2, as for those that argparse refuses."""
    return CommandError(message, returncode=2)


def queue_named(name: str) -> Queue:
    """The queue with this name.

    Raises:
        CommandError: it's neither declared nor did it ever have jobs.
    """
    try:
        return get_queue(name)
    except LookupError as error:
        raise CommandError(error.args[0]) from error


def seconds(text: str) -> float:
    """``90``, ``12h``, ``3d`` as seconds."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw]?)", text.strip())
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a time; write for example 90 (seconds), 15m, 12h or 3d")
    return float(match[1]) * _UNITS[match[2]]


def moment(text: str) -> datetime:
    """``2031-05-01T09:30``, in the project's time zone unless it names one."""
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError(f"{text!r} is not a date and time; write for example 2031-05-01T09:30")
    return timezone.make_aware(found) if found.utcoffset() is None else found


def state(text: str) -> State:
    """A state, or Kue's word for it."""
    try:
        return State(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a state; the states are {', '.join(State)}") from None


def priority(text: str) -> int | str:
    """A number as an ``int``, anything else unchanged: the options report what's wrong with it."""
    try:
        return int(text)
    except ValueError:
        return text


def whole(low: int, high: int) -> Callable[[str], int]:
    """Whole numbers in a range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return number

    return read


def json_list(text: str) -> list[Any]:
    """Positional arguments."""
    found: list[Any] = _json(text, list, "a list, for example '[17, \"me@example.org\"]'")
    return found


def json_dict(text: str) -> dict[str, Any]:
    """Keyword arguments."""
    found: dict[str, Any] = _json(text, dict, "an object, for example '{\"order_id\": 17}'")
    return found


def search_pair(text: str) -> tuple[str, Any]:
    """``order_id=17``: a value that is JSON is read as JSON, any other as text."""
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise ArgumentTypeError(f"{text!r} is not of the form name=value; write for example order_id=17")
    try:
        return name, codecs.loads(value.encode(errors="replace"), fetch=False)
    except CodecError:
        return name, value


def _json(text: str, kind: type, expected: str) -> Any:
    try:
        json.loads(text)  # its message says where the mistake is
        value = codecs.loads(text.encode())
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} can't be read ({error}); it must be {expected}") from error
    if not isinstance(value, kind):
        raise ArgumentTypeError(f"{text!r} must be {expected}")
    return value
