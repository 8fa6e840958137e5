"""The arguments of a job's function: they're bound when it's enqueued, so that mistakes are found there."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from inspect import Parameter
from string import Formatter
from typing import Any

from django_kue.codecs import Path, render_path

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
CONTEXT = "context"
LONGEST_TEXT = 200  # characters of a title, or of another filled-in template


class Signature:
    """The parameters that whoever enqueues a job fills in: all but the context."""

    def __init__(self, function: Callable[..., Any], *, takes_context: bool) -> None:
        signature = _signature_of(function)
        if takes_context:
            signature = _without_context(signature)
        self._signature = signature
        parameters = signature.parameters.values()
        self.names = tuple(item.name for item in parameters if item.kind not in _VARIABLE)
        self._positional = [item for item in parameters if item.kind in _POSITIONAL]
        self._rest = next((item.name for item in parameters if item.kind is Parameter.VAR_POSITIONAL), None)
        self.takes_any_keyword = any(item.kind is Parameter.VAR_KEYWORD for item in parameters)
        self._least, self._most = self._bounds()

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raises TypeError, naming the argument, when the function couldn't be called like this."""
        if kwargs or not self._least <= len(args) <= self._most:  # binding costs 4 µs, this nothing
            self._signature.bind(*args, **kwargs)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """A call's arguments, which may be changed by name. Raises TypeError like :meth:`check`."""
        return self._signature.bind(*args, **kwargs)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What it takes, by name."""
        return self._signature.parameters

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name."""
        return self._signature.bind(*args, **kwargs).arguments

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name, defaults included."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def argument_at(self, path: Path) -> str:
        """``'order'['items']``: where in the arguments a path into their stored form leads."""
        first, *rest = path
        if first == "k":
            name, *rest = rest
        else:
            if first == "a":
                first, *rest = rest
            index = int(first)
            name = (
                self._positional[index].name
                if index < len(self._positional)
                else f"{self._rest}[{index - len(self._positional)}]"
            )
        return f"{name!r}{render_path(rest)}"

    def __str__(self) -> str:
        return str(self._signature)

    def _bounds(self) -> tuple[float, float]:
        """The fewest and the most positional arguments that, without others, certainly fit."""
        required = [item for item in self._signature.parameters.values() if item.default is Parameter.empty]
        if any(item.kind is Parameter.KEYWORD_ONLY for item in required):
            return 1, 0
        least = len([item for item in required if item.kind in _POSITIONAL])
        return least, float("inf") if self._rest else len(self._positional)


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Annotations are evaluated when they're asked for, and may name what only type checkers import.
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)


def _without_context(signature: inspect.Signature) -> inspect.Signature:
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].name != CONTEXT or parameters[0].kind not in _POSITIONAL:
        raise TypeError(f"takes_context=True needs a first parameter named {CONTEXT!r}; it takes {signature}")
    return signature.replace(parameters=parameters[1:])


class Template:
    """Text with names of arguments in braces: ``"Receipt {order_id}"``. Nothing else goes into braces.

    Raises:
        ValueError: it isn't such a text, or a name isn't one of ``names``.
    """

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = text
        self._parts = _parse(text)
        self.fields = tuple(dict.fromkeys(name for _, name in self._parts if name is not None))
        for name in self.fields:
            if not name.isidentifier():
                raise ValueError(f"{{{name}}} is more than the plain name of an argument")
            if name not in names:
                raise ValueError(f"{{{name}}} isn't an argument; there are {', '.join(names) or 'none'}")

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with the values filled in, cut at :data:`LONGEST_TEXT` characters."""
        text = "".join(
            literal if name is None else f"{literal}{values[name]}" for literal, name in self._parts
        )
        return shortened(text)


def shortened(text: str) -> str:
    """A text, cut off with an ellipsis if it's longer than :data:`LONGEST_TEXT`."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _parse(text: str) -> list[tuple[str, str | None]]:
    parts = []
    for literal, name, spec, conversion in Formatter().parse(text):
        if spec or conversion:
            raise ValueError(f"{{{name}}} is followed by a format; only plain names go into braces")
        parts.append((literal, name))
    return parts
