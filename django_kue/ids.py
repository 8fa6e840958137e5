"""Job ids: ``<queue>.<key>``. The queue says where the job is; only the key is stored there.

A key is 16 bytes (48 bits of Unix milliseconds, then 80 random bits) in URL-safe base64
without padding: 22 characters. It's made by the client, so that sending it again is harmless.
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import b2a_base64
from hashlib import blake2b
from os import urandom

from django_kue.errors import JobDoesNotExist

KEY_LENGTH = 22
QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
# A schedule's name is part of the comma-separated head of its jobs' records, and is shown to people.
SCHEDULE_NAME = re.compile(r"(?=.*\S)[^,|\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_KEY = re.compile(rb"[A-Za-z0-9_-]{%d}" % KEY_LENGTH)
_ID = re.compile(rf"({QUEUE_NAME.pattern})\.([A-Za-z0-9_-]{{{KEY_LENGTH}}})")


def new_key() -> bytes:
    """A new key."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6)
    return b2a_base64(stamp + urandom(10), newline=False).translate(_URL_SAFE)[:KEY_LENGTH]


def new_keys(count: int) -> list[bytes]:
    """``count`` new keys of this millisecond, in the order in which the scripts sort them by age."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6)
    noise = urandom(10 * count)
    tails = sorted([noise[i : i + 10] for i in range(0, 10 * count, 10)])
    # All are encoded at once: padded with two zero bytes, each takes 24 characters of its own.
    padded = b"".join([stamp + tail + b"\0\0" for tail in tails])
    text = b2a_base64(padded, newline=False).translate(_URL_SAFE)
    return [text[i : i + KEY_LENGTH] for i in range(0, 24 * count, 24)]


def is_key(key: bytes) -> bool:
    """Whether it's what :func:`new_keys` could have made."""
    return _KEY.fullmatch(key) is not None


def is_schedule_name(name: object) -> bool:
    """Whether a schedule may have this name."""
    return isinstance(name, str) and SCHEDULE_NAME.fullmatch(name) is not None


def tick_key(schedule: str, tick_ms: int) -> bytes:
    """The key of the job that a schedule's tick makes, whichever worker makes it. Its time is the tick's."""
    digest = blake2b(f"{tick_ms} {schedule}".encode(), digest_size=10, person=b"django-kue tick").digest()
    return urlsafe_b64encode(tick_ms.to_bytes(6) + digest)[:KEY_LENGTH]


def created_ms(key: str) -> int:
    """When the key was made, in Unix milliseconds by the client's clock."""
    return int.from_bytes(urlsafe_b64decode(key + "==")[:6])


def joined(queue: str, key: bytes) -> str:
    """The id for a key that came from Redis. A foreign one can be shown too, but leads to no job."""
    return f"{queue}.{key.decode(errors='backslashreplace')}"


def split(job_id: str) -> tuple[str, str]:
    """``(queue, key)`` of an id.

    Raises:
        JobDoesNotExist: the text isn't an id, so no job can have it.
    """
    match = _ID.fullmatch(str(job_id))
    if match is None:
        raise JobDoesNotExist(
            f"{str(job_id)[:80]!r} is not a job id; an id looks like email.AY3w8kR2Sx6mTn0pQv4zWg"
        )
    return match[1], match[2]
