"""What the doctor says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. Only an error makes ``manage.py kue doctor`` end with exit code 1."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"  # it works, and may not for long
    ERROR = "error"  # jobs don't run, or may be lost


UNSEEN = "redis.unseen"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    code: str  # stable, for monitors: "queue.no_worker", or a system check's id
    what: str
    remedy: str = ""  # "" when there's nothing to do


def unseen(what: str) -> Finding:
    """When this Redis user may not look at something: nobody must take silence for good news."""
    return Finding(
        Level.WARNING,
        UNSEEN,
        f"This Redis user may not look at {what}: nothing is said of them.",
        "Run the doctor where Redis knows this project as the kue-worker of docs/how-to/redis-users.md.",
    )
