"""Encryption at rest: a job's data is stored so that only somebody who has a key can read or make it.

A sealed text is :data:`~django_kue.codecs.SEAL` and a Fernet token (AES-128-CBC and HMAC-SHA256). In the
token, the text is preceded by a digest of where it belongs: kind, queue, key, and for arguments the
function's name. A token that was moved to another job, or another function, can't be opened there.

The first of ``KUE["ENCRYPTION_KEYS"]`` seals, each of them opens. Without keys, all of this is skipped.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from hmac import compare_digest
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_kue.codecs import SEAL, CannotOpen
from django_kue.conf import settings
from django_kue.records import Record

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ImportError:  # the system check reports it, if keys are set
    Fernet = None  # type: ignore[assignment,misc]

REMEDY = "Install cryptography: pip install 'django-kue[encryption]'."
_DIGEST = 16  # bytes

ARGUMENTS, RESULT, ERROR, PROGRESS, LOG = "arguments", "result", "error", "progress", "log"
SCHEDULE = "schedule"  # the arguments of a schedule: its name takes the place of a key


def is_installed() -> bool:
    return Fernet is not None


def is_on(queue: str) -> bool:
    """Whether the data of this queue's jobs is sealed from now on."""
    return bool(settings.ENCRYPTION_KEYS) and settings.queue_or_default(queue).encrypt


def is_sealed(text: bytes) -> bool:
    return text[:1] == SEAL


def seal(text: bytes, kind: str, queue: str, key: str, name: str = "") -> bytes:
    """A text as it's stored with a job: sealed if encryption is on."""
    if not is_on(queue):
        return text
    token: bytes = _fernet(settings.ENCRYPTION_KEYS).encrypt(_place(kind, queue, key, name) + text)
    return SEAL + token


def unseal(text: bytes, kind: str, queue: str, key: str, name: str = "") -> bytes:
    """A stored text as it was before; one that isn't sealed is returned as it is.

    Raises:
        CannotOpen: no key here opens it, or it was changed, or it belongs elsewhere.
    """
    if not is_sealed(text):
        return text
    if not settings.ENCRYPTION_KEYS:
        raise CannotOpen('it is encrypted, and KUE["ENCRYPTION_KEYS"] has no key here')
    try:
        opened: bytes = _fernet(settings.ENCRYPTION_KEYS).decrypt(text[1:])
    except InvalidToken:
        raise CannotOpen(
            'it is encrypted, and no key in KUE["ENCRYPTION_KEYS"] opens it here: a key is missing, or '
            "somebody changed the text"
        ) from None
    if not compare_digest(opened[:_DIGEST], _place(kind, queue, key, name)):
        raise CannotOpen("it was encrypted for another job: somebody moved it here")
    return opened[_DIGEST:]


def unsealed(text: bytes, kind: str, queue: str, key: str, name: str = "") -> bytes:
    """Like :func:`unseal`, for showing: what can't be opened stays sealed, and raises when it's read."""
    try:
        return unseal(text, kind, queue, key, name)
    except CannotOpen:
        return text


def open_record(record: Record, queue: str, key: str) -> Record:
    """A record that's about to be run, with its arguments unsealed.

    Raises:
        CannotOpen: as :func:`unseal`; or they aren't sealed, and ``KUE["ONLY_ENCRYPTED"]`` refuses that.
    """
    arguments = record.arguments
    if is_sealed(arguments):
        return replace(record, arguments=unseal(arguments, ARGUMENTS, queue, key, record.name))
    if settings.ONLY_ENCRYPTED and is_on(queue):
        raise CannotOpen('its arguments aren\'t encrypted, and KUE["ONLY_ENCRYPTED"] refuses such jobs')
    return record


def hash_keys(queue: str) -> Sequence[bytes]:
    """The keys for hashes of arguments (search keys, unique keys). The first makes new ones; the others find
    jobs that were enqueued under an older key, or before there was one."""
    if not is_on(queue):
        return (b"",)
    return (*map(_hash_key, settings.ENCRYPTION_KEYS), b"")


@cache
def _hash_key(key: str) -> bytes:
    return blake2b(urlsafe_b64decode(key), digest_size=32, person=b"django-kue hash").digest()


@cache
def _fernet(keys: tuple[str, ...]) -> Any:
    if Fernet is None:
        raise ImproperlyConfigured(f'KUE["ENCRYPTION_KEYS"] is set. {REMEDY}')
    return MultiFernet([Fernet(key) for key in keys])


def _place(kind: str, queue: str, key: str, name: str) -> bytes:
    """A digest of where a text belongs. No part has a NUL in it, so no two places give the same text."""
    return blake2b(f"{kind}\0{queue}\0{key}\0{name}".encode(), digest_size=_DIGEST).digest()
