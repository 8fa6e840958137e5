"""Ids: ``<queue>.<key>``. The queue says where the job is; only the key is stored there.

A key is 16 bytes (48 bits of Unix milliseconds, then 80 random bits) in URL-safe base64
without padding: 22 characters. It's made by the client, so that sending it again is harmless.
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from os import urandom

from django_kue.errors import JobDoesNotExist

KEY_LENGTH = 22
QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ID = re.compile(rf"({QUEUE_NAME.pattern})\.([A-Za-z0-9_-]{{{KEY_LENGTH}}})")


def new_keys(count: int) -> list[bytes]:
    """``count`` fresh keys, all of this millisecond; by age, the scripts sort them as they stand here."""
    stamp = (time.time_ns() // 1_000_000).to_bytes(6)
    noise = urandom(10 * count)
    tails = sorted([noise[i : i + 10] for i in range(0, 10 * count, 10)])
    return [urlsafe_b64encode(stamp + tail)[:KEY_LENGTH] for tail in tails]


def created_ms(key: str) -> int:
    """When the key was made, in Unix milliseconds of the client's clock."""
    return int.from_bytes(urlsafe_b64decode(key + "==")[:6])


def split(job_id: str) -> tuple[str, str]:
    """``(queue, key)`` of an id.

    Raises:
        JobDoesNotExist: the text isn't an id, so that no job can have it.
    """
    match = _ID.fullmatch(str(job_id))
    if match is None:
        raise JobDoesNotExist(
            f"{str(job_id)[:80]!r} is not a job id; an id looks like email.AY3w8kR2Sx6mTn0pQv4zWg"
        )
    return match[1], match[2]
