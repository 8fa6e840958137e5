"""Arguments from outside: bound to the function's signature, and of the types that its annotations name.

Types are those of JSON (``"5"`` isn't a number); strings stand for what JSON has no form for, such as dates
and decimals, if the annotation asks for that. What isn't annotated takes anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from inspect import Parameter
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import PydanticCustomError

from django_kue.api.errors import Refused, mistake_of
from django_kue.decorators import JobFunction

Definition = JobFunction[Any, Any]
Checks = Mapping[str, TypeAdapter[Any] | None]
_NO_FORM = PydanticCustomError("no_form", "Its type has no form in JSON: give the function an id instead")
_NOT_JSON = ValidationError.from_exception_data("argument", [{"type": _NO_FORM, "input": None}])


def checked(
    definition: Definition, args: list[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments as the function gets them.

    Raises:
        Refused: it can't be called that way.
    """
    try:
        bound = definition.signature.bind(tuple(args), kwargs)
    except TypeError as error:
        raise Refused(422, f"{definition.name}: {error}; it takes {definition.signature}.") from error
    checks, mistakes = _checks(definition), []
    for name, value in bound.arguments.items():
        try:
            bound.arguments[name] = _checked(checks[name], value) if name in checks else value
        except ValidationError as error:
            mistakes += [
                mistake_of(one, name) for one in error.errors(include_url=False, include_input=False)
            ]
    if mistakes:
        raise Refused(422, f"{definition.name} takes {definition.signature}.", mistakes)
    return bound.args, bound.kwargs


def schemas(definition: Definition) -> dict[str, Any]:
    """A JSON Schema for each argument; an empty one for what takes anything."""
    checks = _checks(definition)
    return {name: _schema(checks.get(name)) for name in definition.signature.parameters}


def _checked(check: TypeAdapter[Any] | None, value: Any) -> Any:
    if check is None:
        raise _NOT_JSON
    return check.validate_json(json.dumps(value), strict=True)


@lru_cache(maxsize=1024)
def _checks(definition: Definition) -> Checks:
    """What checks an argument, by name; ``None`` where its type has no form in JSON."""
    hints = _hints(definition)
    return {
        name: _adapter(_whole(hints[name], parameter))
        for name, parameter in definition.signature.parameters.items()
        if name in hints
    }


def _hints(definition: Definition) -> Mapping[str, Any]:
    """The annotations; none, if one of them names something imported for type checkers only."""
    try:
        return get_type_hints(definition.function, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return {}


def _whole(hint: Any, parameter: Parameter) -> Any:
    if parameter.kind is Parameter.VAR_POSITIONAL:
        return tuple[hint, ...]
    if parameter.kind is Parameter.VAR_KEYWORD:
        return dict[str, hint]
    return hint


def _adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint)
    except PydanticUserError:
        return None


def _schema(check: TypeAdapter[Any] | None) -> dict[str, Any]:
    if check is None:
        return {}
    try:
        return check.json_schema()
    except PydanticInvalidForJsonSchema:
        return {}
