"""A call's arguments as JSON that people read and edit: secrets are hidden, and put back where they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_kue import codecs
from django_kue.codecs import CodecError
from django_kue.decorators import JobFunction
from django_kue.redaction import MASK, redacted

Definition = JobFunction[Any, Any]
_NOTHING = object()  # where nothing is stored, not even None


class HiddenValueMoved(ValueError):
    """A mask is where nothing was masked, so that nobody can tell what's meant."""


def arguments_field() -> forms.CharField:
    """Arguments as JSON, by name."""
    widget = AdminTextareaWidget(
        attrs={"rows": 12, "spellcheck": "false", "class": "vLargeTextField kue-code"}
    )
    return forms.CharField(label=gettext_lazy("Arguments"), strip=False, widget=widget)


def shown(stored: Mapping[str, Any]) -> str:
    """Stored arguments as the text that's edited."""
    return as_text({name: redacted(name, value) for name, value in stored.items()})


def values_of(edited: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The values by name that edited arguments stand for.

    Raises:
        ValidationError: some can't be stored, or a mask was moved; it names each of these arguments.
    """
    values, errors = {}, []
    for name, value in edited.items():
        try:
            values[name] = _value_of(name, value, stored)
        except (CodecError, HiddenValueMoved) as error:
            errors.append(ValidationError(_at(name, error)))
    if errors:
        raise ValidationError(errors)
    return values


def called_with(definition: Definition, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Like :func:`call_of`, but raises a ``ValidationError`` that shows the signature."""
    try:
        return call_of(definition, values)
    except TypeError as error:
        message = _("%(error)s. The function takes %(signature)s.")
        known = {"error": _sentence(error), "signature": definition.signature}
        raise ValidationError(message % known) from error


def stored_arguments(stored: bytes, definition: Definition) -> dict[str, Any]:
    """A call's arguments by name, in their stored form: JSON with tags.

    Those that have no name in the function as it is now are left out, see :func:`is_complete`.
    """
    args, kwargs = _raw_arguments(stored)
    try:
        named = definition.signature.given(tuple(args), kwargs)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}
    except TypeError:  # it was enqueued for another signature
        return dict(kwargs)


def is_complete(stored: bytes, definition: Definition) -> bool:
    """True when all of a call's arguments can be read, and fit the function as it is now."""
    try:
        args, kwargs = _raw(stored)
        definition.signature.given(tuple(args), kwargs)
    except (TypeError, ValueError):
        return False
    return True


def _raw_arguments(stored: bytes) -> tuple[list[Any], dict[str, Any]]:
    try:
        return _raw(stored)
    except ValueError:
        return [], {}


def _raw(stored: bytes) -> tuple[list[Any], dict[str, Any]]:
    value = json.loads(stored) if stored else []
    if isinstance(value, list):
        return value, {}
    if (
        isinstance(value, dict)
        and isinstance(value.get("a", []), list)
        and isinstance(value.get("k", {}), dict)
    ):
        return value.get("a", []), value.get("k", {})
    raise ValueError("not a call's arguments")


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def read_object(text: str) -> dict[str, Any]:
    """A JSON object that somebody typed.

    Raises:
        ValidationError: it isn't one; the message says where.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        message = _("This isn’t JSON: %(error)s, in line %(line)d, column %(column)d.")
        where = {"error": error.msg, "line": error.lineno, "column": error.colno}
        raise ValidationError(message % where) from error
    except (ValueError, RecursionError) as error:
        raise ValidationError(_("This isn’t JSON: %(error)s.") % {"error": error}) from error
    if not isinstance(value, dict):
        raise ValidationError(_("Write an object: the arguments by name, in braces."))
    return value


def _refuse(name: str) -> Any:
    raise ValueError(_("%(name)s isn’t a number in JSON") % {"name": name})


def _whole(text: str) -> Any:
    """A number as it's stored: beyond 64 bits with a tag, since not all JSON libraries read those exactly."""
    return json.loads(codecs.dumps(int(text)))


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValidationError(_("%(number)s is too large a number to be stored.") % {"number": text[:20]})
    return number


def _value_of(name: str, edited: Any, stored: Mapping[str, Any]) -> Any:
    """The value that an edited argument stands for: hidden values filled in, tags read, rows fetched."""
    codecs.dumps(edited)  # refuses what can't be stored, before anything walks through it
    whole = unmasked(name, edited, stored.get(name, _NOTHING))
    return codecs.loads(json.dumps(whole).encode())


def unmasked(name: str, edited: Any, stored: Any = _NOTHING) -> Any:
    """An edited value with what was hidden put back where it was.

    Inside a list, hidden values are kept only in items that weren't changed: if the items were reordered,
    nobody could tell which one a value belongs to.

    Raises:
        HiddenValueMoved: a mask is where nothing was hidden.

    >>> unmasked("login", {"user": "eve", "password": "•••"}, {"user": "bob", "password": "x"})
    {'user': 'eve', 'password': 'x'}
    """
    if stored is not _NOTHING and is_same(edited, redacted(name, stored)):
        return stored
    if edited == MASK:
        raise HiddenValueMoved
    if isinstance(edited, dict):
        inner = stored if isinstance(stored, dict) else {}
        return {key: unmasked(key, value, inner.get(key, _NOTHING)) for key, value in edited.items()}
    if isinstance(edited, list):
        items = stored if isinstance(stored, list) else []
        return [
            items[at] if at < len(items) and is_same(item, redacted("", items[at])) else unmasked("", item)
            for at, item in enumerate(edited)
        ]
    return edited


def is_same(one: Any, other: Any) -> bool:
    """Whether both are equal as JSON, where 1 and true aren't."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def call_of(definition: Definition, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, from arguments by name; ``*args`` and ``**kwargs`` go by theirs.

    Raises:
        TypeError: the function can't be called that way; the message names the argument.
    """
    signature = definition.signature._signature
    for name in values:
        if name not in signature.parameters:
            raise TypeError(_("there’s no argument %(name)r") % {"name": name})
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    missing = ""
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = _rest(name, values.get(name, []), list)
            if rest and missing:
                raise TypeError(_("argument %(name)r is needed before the rest") % {"name": missing})
            args += rest
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= _rest(name, values.get(name, {}), dict)
        elif name not in values:
            missing = missing or name  # what comes after it can only be given by name
        elif parameter.kind is parameter.KEYWORD_ONLY or missing:
            kwargs[name] = values[name]
        else:
            args.append(values[name])
    definition.signature.given(tuple(args), kwargs)
    return tuple(args), kwargs


def _rest(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        wanted = _("a list") if kind is list else _("an object")
        raise TypeError(_("argument %(name)r: write %(wanted)s") % {"name": name, "wanted": wanted})
    return value


# ── what was wrong ──


def _at(name: str, error: Exception) -> str:
    if isinstance(error.__cause__, UnicodeEncodeError):
        half = f"\\u{ord(error.__cause__.object[error.__cause__.start]):04x}"
        reason = _("half of a character, %(half)s, can’t be stored") % {"half": half}
    elif isinstance(error, CodecError):
        reason = error.reason + (f" ({codecs.render_path(error.path)})" if error.path else "")
    else:
        reason = _("%(mask)s doesn’t stand for a value here. Write the value itself.") % {"mask": MASK}
    return _("Argument %(name)r: %(reason)s") % {"name": name, "reason": reason}


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
