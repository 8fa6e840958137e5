"""The worker's log: one line a job, written off the job's path; and the job's id on every record."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from django_kue.context import current_job
from django_kue.execution import Run

logger = logging.getLogger("django_kue.worker")

_WORDS = {
    "c": "done", "r": "retry", "f": "FAILED", "x": "cancelled", "b": "given back", "k": "unknown",
    "stale": "stale",
}  # fmt: skip


class JobLog:
    """Lines that wait to be written."""

    def __init__(self) -> None:
        self._lines: deque[tuple[Run, str]] = deque()
        self._unknown: dict[str, float] = {}

    def add(self, run: Run, verdict: str) -> None:
        """A run is over; ``verdict`` is its outcome's letter, or ``stale``."""
        self._lines.append((run, verdict))

    def flush(self) -> None:
        """Write what waits."""
        while self._lines:
            run, verdict = self._lines.popleft()
            if verdict == "b":
                continue
            if verdict == "k":
                self._say_unknown(run)
            else:
                self._say(run, verdict)

    @staticmethod
    def _say(run: Run, verdict: str) -> None:
        if verdict in ("f", "stale"):
            level = logging.ERROR if verdict == "f" else logging.WARNING
        else:
            level = logging.WARNING if verdict == "r" else logging.INFO
        if not logger.isEnabledFor(level):
            return
        attempts = run.rules.attempts if run.rules else 1
        facts: dict[str, Any] = {
            "job_id": run.id, "job_name": run.name, "queue": run.queue, "attempt": run.attempt,
            "waited": run.waited, "duration": run.finished - run.started, "outcome": _WORDS[verdict],
        }  # fmt: skip
        _write(
            level, facts, "%-9s %s %s attempt %d/%d waited %s ran %s%s",
            _WORDS[verdict], run.name, run.id, run.attempt, attempts, _span(run.waited),
            _span(run.finished - run.started), _why(run, verdict),
        )  # fmt: skip

    def _say_unknown(self, run: Run) -> None:
        """A job that this worker can't run is left in its queue; said once a minute a function."""
        name = run.name
        if run.finished - self._unknown.get(name, float("-inf")) < 60:
            return
        self._unknown[name] = run.finished
        _write(
            logging.WARNING, {"job_id": run.id, "job_name": name, "queue": run.queue},
            "unknown job %s (%s): it's left in its queue. Is its module imported, was it renamed "
            "(@job(aliases=[…])), or is this worker older than who enqueued it?", name, run.id,
        )  # fmt: skip


def _write(level: int, facts: dict[str, Any], message: str, *args: Any) -> None:
    """A record that carries ``facts`` as attributes; ``extra`` would refuse the ``job_id`` it has."""
    record = logger.makeRecord(logger.name, level, __file__, 0, message, args, None)
    vars(record).update(facts)
    logger.handle(record)


def _why(run: Run, verdict: str) -> str:
    outcome = run.outcome
    if verdict == "stale":
        return ": another worker has it now; this run's outcome was refused"
    if outcome is None or outcome.error is None:
        return ""
    line = str(outcome.error).replace("\r", "\\r").replace("\n", "\\n")
    line = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line[:200])
    return f" in {_span(outcome.delay)}: {line}" if verdict == "r" else f": {line}"


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


_plain_factory = logging.getLogRecordFactory()


def _with_job_id(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _plain_factory(*args, **kwargs)
    reporter = current_job()._reporter
    record.job_id = reporter.id if isinstance(reporter, Run) else "-"
    return record


def install() -> None:
    """Give every log record of this process a ``job_id``: the running job's, or ``-``."""
    logging.setLogRecordFactory(_with_job_id)
