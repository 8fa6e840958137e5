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


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    code: str  # stable, for monitors: "queue.no_worker", or a system check's id
    what: str
    remedy: str = ""  # "" when there's nothing to do
