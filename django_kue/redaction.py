"""What isn't shown to people: values whose name contains a word of ``KUE["REDACT"]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django_kue.codecs import ModelReference
from django_kue.conf import settings

MASK = "•••"


def is_secret(name: str) -> bool:
    """True when the value of an argument, or of a dict's key, with this name isn't shown to people."""
    return any(word in name.lower() for word in settings.REDACT)


def redacted(name: str, value: Any) -> Any:
    """A named value as it's shown: masked, or with what's secret inside it masked."""
    return MASK if is_secret(name) else without_secrets(value)


def without_secrets(value: Any) -> Any:
    """A value with the secrets inside it masked; a model instance stands as its label and primary key."""
    if isinstance(value, ModelReference):
        return str(value)
    if isinstance(value, Mapping):
        return {name: redacted(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value
