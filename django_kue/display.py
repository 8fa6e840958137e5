"""A job's values as they're shown to people: with secrets masked, and without querying a database.

If a function isn't known here, its positional arguments have no names, so all of them are masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django_kue import codecs, records, registry
from django_kue.jobs import Job
from django_kue.redaction import MASK, redacted, secret_texts, without_secrets

UNREADABLE = records.UNREADABLE.name


def shown_arguments(job: Job) -> dict[str, Any]:
    """The arguments that the job was enqueued with, by name; an unnamed one by its number, from 1."""
    return shown_arguments_of(job.name, job._arguments)


def shown_arguments_of(function: str, arguments: bytes) -> dict[str, Any]:
    """Like :func:`shown_arguments`, for a function's stored name and stored arguments."""
    try:
        args, kwargs = records.decode_arguments(arguments, fetch=False)
    except codecs.CannotOpen as error:
        return {UNREADABLE: str(error)}
    except ValueError:
        return {UNREADABLE: "the stored arguments can't be read"}
    return {name: redacted(name, value) for name, value in _named(function, args, kwargs).items()}


def shown_result(job: Job) -> Any:
    """What the function returned; a model instance is shown as its label and primary key."""
    if not job._result:
        return None
    try:
        return without_secrets(codecs.loads(job._result, fetch=False))
    except codecs.CannotOpen as error:
        return f"{UNREADABLE}: {error}"
    except ValueError:
        return UNREADABLE


def secrets_of(name: str, arguments: bytes) -> Sequence[str]:
    """The secrets in stored arguments of the function ``name``, for masking what a run leaves behind."""
    try:
        return secret_texts(_named(name, *records.decode_arguments(arguments, fetch=False)))
    except ValueError:
        return ()


def _named(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    definition = registry.get(name)
    if definition is not None:
        try:
            return definition.signature.given(args, kwargs)
        except TypeError:  # enqueued for another signature, whose names aren't known
            pass
    return {str(number): MASK for number in range(1, len(args) + 1)} | dict(kwargs)
