"""Masks what isn't shown to people: values whose name contains a word from ``KUE["REDACT"]``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from django_kue.codecs import ModelReference
from django_kue.conf import settings

MASK = "•••"
LEAST = 4  # characters of a secret that's looked for in texts: most of them contain "a" or "17"


def is_secret(name: str) -> bool:
    """True when the value of an argument or dict key with this name isn't shown to people."""
    return any(word in name.lower() for word in settings.REDACT)


def redacted(name: str, value: Any) -> Any:
    """A named value as it's shown: masked as a whole, or with the secrets inside it masked."""
    return MASK if is_secret(name) else without_secrets(value)


def without_secrets(value: Any) -> Any:
    """A value with the secrets inside it masked; a model instance is shown as its label and primary key."""
    if isinstance(value, ModelReference):
        return str(value)
    if isinstance(value, Mapping):
        return {name: redacted(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def secret_texts(values: Mapping[str, Any]) -> Sequence[str]:
    """What mustn't appear in a text about these values: the secret ones, in each form they'd be written in.

    The longest come first, so that if one secret contains another, both are found.
    """
    found = {form for text in _secrets_in(values) if len(text) >= LEAST for form in _forms(text)}
    return sorted(found, key=len, reverse=True)


def without_texts(text: str, secrets: Iterable[str]) -> str:
    """A text with :func:`secret_texts` masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def without_texts_in(value: Any, secrets: Sequence[str]) -> Any:
    """A value made of lists, dicts and plain values, with :func:`secret_texts` masked throughout."""
    if isinstance(value, Mapping):
        return {name: without_texts_in(item, secrets) for name, item in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, ModelReference):
        return [without_texts_in(item, secrets) for item in value]
    if isinstance(value, str):
        return without_texts(value, secrets)
    return MASK if str(value) in secrets else value


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts_in(item) if is_secret(str(name)) else _secrets_in(item)
    elif isinstance(value, list | tuple) and not isinstance(value, ModelReference):
        for item in value:
            yield from _secrets_in(item)


def _texts_in(value: Any) -> Iterator[str]:
    """Every text and number in a secret value."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts_in(item)
    elif isinstance(value, list | tuple) and not isinstance(value, ModelReference):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, str | int | float | Decimal | UUID) and not isinstance(value, bool):
        yield str(value)


def _forms(text: str) -> tuple[str, ...]:
    """A text as it is, and as ``repr`` and JSON write it."""
    return text, repr(text)[1:-1], json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]
