"""A job's values as they're shown to people: secrets masked, and no database asked.

Masked are arguments, and keys of dicts in them, whose name contains a word of ``KUE["REDACT"]``.
Where a function isn't known here its positional arguments have no names, so all of them are masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django_kue import codecs, records, registry
from django_kue.codecs import ModelReference
from django_kue.conf import settings
from django_kue.jobs import Job

MASK = "•••"
UNREADABLE = "(unreadable)"


def is_secret(name: str) -> bool:
    """True when the value of an argument with this name isn't shown to people."""
    return any(word in name.lower() for word in settings.REDACT)


def shown_arguments(job: Job) -> dict[str, Any]:
    """The arguments that the job was enqueued with, by name; an unnamed one by its number, from 1."""
    try:
        args, kwargs = records.decode_arguments(job._arguments, fetch=False)
    except ValueError:
        return {UNREADABLE: "the stored arguments can't be read"}
    return {
        name: MASK if is_secret(name) else _shown(value) for name, value in _named(job, args, kwargs).items()
    }


def shown_result(job: Job) -> Any:
    """What the function returned; a model instance stands as its label and primary key."""
    if not job._result:
        return None
    try:
        return _shown(codecs.loads(job._result, fetch=False))
    except ValueError:
        return UNREADABLE


def _named(job: Job, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    definition = registry.get(job.name)
    if definition is not None:
        try:
            return definition.signature.given(args, kwargs)
        except TypeError:  # written for another signature, whose names aren't known
            pass
    return {str(number): MASK for number in range(1, len(args) + 1)} | dict(kwargs)


def _shown(value: Any) -> Any:
    if isinstance(value, ModelReference):
        return str(value)
    if isinstance(value, Mapping):
        return {name: MASK if is_secret(str(name)) else _shown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return value
