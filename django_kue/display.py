"""A job's values as they're shown to people: secrets masked, and no database asked.

Where a function isn't known here its positional arguments have no names, so all of them are masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django_kue import codecs, records, registry
from django_kue.jobs import Job
from django_kue.redaction import MASK, redacted, without_secrets

UNREADABLE = "(unreadable)"


def shown_arguments(job: Job) -> dict[str, Any]:
    """The arguments that the job was enqueued with, by name; an unnamed one by its number, from 1."""
    try:
        args, kwargs = records.decode_arguments(job._arguments, fetch=False)
    except ValueError:
        return {UNREADABLE: "the stored arguments can't be read"}
    return {name: redacted(name, value) for name, value in _named(job, args, kwargs).items()}


def shown_result(job: Job) -> Any:
    """What the function returned; a model instance stands as its label and primary key."""
    if not job._result:
        return None
    try:
        return without_secrets(codecs.loads(job._result, fetch=False))
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
