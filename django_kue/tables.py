"""Tables of settings: dataclasses whose fields say what kind of value each setting takes, its default, and
what it does. Dicts that people write are checked and read with such a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from django_kue import kinds
from django_kue.kinds import Advice, Kind, Problem, hide_password

_Table = TypeVar("_Table")


def setting(default: Any, kind: Kind, doc: str) -> Any:
    """A row of a table; people write its name in capitals."""
    return dataclasses.field(
        default_factory=lambda: default, metadata={"kind": kind, "default": default, "doc": doc}
    )


def rows(table: type) -> dict[str, dataclasses.Field[Any]]:
    """The table's rows by the name that people write."""
    return {row.name.upper(): row for row in dataclasses.fields(table)}


def kind_of(row: dataclasses.Field[Any]) -> Kind:
    return cast(Kind, row.metadata["kind"])


def build(table: type[_Table], options: Mapping[str, Any]) -> _Table:
    """The table's object, from options that have been checked."""
    values = {row.name: kind_of(row).read(options[key]) for key, row in rows(table).items() if key in options}
    return table(**values)


def problems_in(
    options: Mapping[Any, Any],
    table: type,
    path: str,
    *,
    nested: Container[Kind] = (),
    hint: Callable[[object], str] = lambda key: "",
) -> list[Problem]:
    """Everything that's wrong with options, in the order in which they're written.

    Args:
        path: where the options are: ``KUE["QUEUES"]["email"]``.
        nested: kinds of dicts whose contents have tables of their own, and aren't looked into here.
        hint: says where an unknown name belongs, or "".
    """
    known = rows(table)
    found = []
    for key, value in options.items():
        if key in known:
            problem = _problem_of(f'{path}["{key}"]', kind_of(known[key]), value, nested)
        else:
            problem = _unknown(key, known, path, hint)
        if problem:
            found.append(problem)
    return found


def _problem_of(path: str, kind: Kind, value: Any, nested: Container[Kind]) -> Problem | None:
    advice = _advice_on(value, kind, is_nested=kind in nested)
    if advice is None:
        return None
    found = "something else, which isn't shown" if kind in kinds.SECRET else shown(value)
    return Problem(path, kind.expected, found, advice)


def _advice_on(value: Any, kind: Kind, *, is_nested: bool) -> str | None:
    """What to write instead of a value; ``None`` if it's right."""
    if is_nested:
        return None if isinstance(value, Mapping) else kind.advice
    try:
        kind.read(value)
    except Advice as advice:
        return str(advice)
    except (ValueError, TypeError):
        return kind.advice
    return None


def _unknown(key: object, known: Iterable[str], path: str, hint: Callable[[object], str]) -> Problem:
    return Problem(
        f"{path}[{key!r}]".replace("'", '"'),
        f"one of {', '.join(known)}",
        f"the unknown name {shown(key)}",
        did_you_mean(key, known).strip() or hint(key) or "Remove it.",
    )


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`` Did you mean 'email'?``, if one of the known names is like it."""
    by_upper = {key.upper(): key for key in known}
    close = get_close_matches(str(name).upper(), by_upper, 1, 0.6)
    return f" Did you mean {by_upper[close[0]]!r}?" if close else ""


def shown(value: object) -> str:
    """A value in an error message, cut short and without a password."""
    text = hide_password(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
