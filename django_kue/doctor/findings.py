"""What the doctor reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is. Only an error makes ``manage.py kue doctor`` end with exit code 1."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"  # it works, but may not for long
    ERROR = "error"  # jobs don't run, or may be lost


UNSEEN = "redis.unseen"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    level: Level
    code: str  # stable, for monitors: "queue.no_worker", or a system check's id
    what: str
    remedy: str = ""  # "" when there's nothing to do


def unseen(what: str) -> Finding:
    """The finding for what this Redis user may not look at: silence mustn't be taken for good news."""
    return Finding(
        Level.WARNING,
        UNSEEN,
        f"This Redis user may not look at {what}: they weren't examined.",
        "Run the doctor as a Redis user with the rights of kue-worker in docs/how-to/redis-users.md.",
    )
