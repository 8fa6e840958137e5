"""The functions that may run as jobs, by their stored names.

Only functions that ``@job`` registered when their module was imported are found: a name that comes from
Redis never leads to an import.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_kue.decorators import JobFunction

_by_name: dict[str, JobFunction[Any, Any]] = {}  # names and aliases


def register(function: JobFunction[Any, Any]) -> None:
    """Make a function known under its name and aliases.

    When its module is imported again (by ``importlib.reload``, or by a test), the new object replaces
    the old one.

    Raises:
        ValueError: another function has one of the names.
    """
    names = (function.name, *function.options.aliases)
    for name in names:
        known = _by_name.get(name)
        if known is not None and not _is_same(known, function):
            raise ValueError(
                f"two jobs are called {name!r}: {_place(known)} and {_place(function)}; "
                "give one of them @job(name=…)"
            )
    _by_name.update(dict.fromkeys(names, function))


def unregister(function: JobFunction[Any, Any]) -> None:
    """Forget a function: for tests that define jobs of their own."""
    for name in [name for name, known in _by_name.items() if known is function]:
        del _by_name[name]


def get(name: str) -> JobFunction[Any, Any] | None:
    """The function with this name or alias, or ``None``. Nothing is imported."""
    return _by_name.get(name)


def functions() -> Iterator[JobFunction[Any, Any]]:
    """Every known function once, sorted by name."""
    return (function for name, function in sorted(_by_name.items()) if name == function.name)


def _is_same(one: JobFunction[Any, Any], other: JobFunction[Any, Any]) -> bool:
    return _place(one) == _place(other)


def _place(function: JobFunction[Any, Any]) -> str:
    return f"{function.function.__module__}.{function.function.__qualname__}"
