"""The worker's log, written off the job's path: one line per job, followed by the traceback of a failure.

It also puts the running job's id on every log record.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from django_kue.context import current_job
from django_kue.execution import Run
from django_kue.words import lines, one_line, span

logger = logging.getLogger("django_kue.worker")

_WORDS = {
    "c": "done", "r": "retry", "f": "FAILED", "x": "cancelled", "b": "given back", "k": "unknown",
    "stale": "stale",
}  # fmt: skip

_LEVELS = {"f": logging.ERROR, "r": logging.WARNING, "stale": logging.WARNING}


# Bytes of a traceback in the log. Processes share a pipe, which takes at most 4 KiB in one piece.
TRACE = 3000
MOST = 10_000  # lines that may wait; each keeps its run in memory


class JobLog:
    """Lines that wait to be written. If nobody reads the log, the oldest are dropped."""

    def __init__(self) -> None:
        self._lines: deque[tuple[Run, str]] = deque(maxlen=MOST)
        self._left_out = 0  # counted by the thread that adds …
        self._told_left_out = 0  # … and by the one that writes
        self._unknown: dict[str, float] = {}
        # wakes the writer: a failure should be logged even if the process dies of its next job
        self.on_failure: Callable[[], None] = lambda: None

    def add(self, runs: Iterable[Run]) -> None:
        """Add lines for these runs: their outcomes were accepted."""
        untold = "b" if logger.isEnabledFor(logging.INFO) else "bcx"
        has_failed = False
        for run in runs:
            assert run.outcome is not None
            if run.outcome.kind not in untold:
                self._put(run, run.outcome.kind)
                has_failed |= run.outcome.kind == "f"
        if has_failed:
            self.on_failure()

    def add_stale(self, run: Run) -> None:
        """Add a line for a run whose outcome was refused."""
        self._put(run, "stale")

    def _put(self, run: Run, verdict: str) -> None:
        self._left_out += len(self._lines) == MOST
        self._lines.append((run, verdict))

    def flush(self) -> None:
        """Write the lines that wait."""
        if left_out := self._left_out - self._told_left_out:
            self._told_left_out += left_out
            logger.warning("%d lines about jobs were dropped: they came faster than they're read", left_out)
        while self._lines:
            run, verdict = self._lines.popleft()
            if verdict == "k":
                self._say_unknown(run)
            elif logger.isEnabledFor(_level(verdict)):
                self._say(run, verdict)

    @staticmethod
    def _say(run: Run, verdict: str) -> None:
        attempts = run.rules.attempts if run.rules else 1
        job_id, name = one_line(run.id), one_line(run.name)
        facts: dict[str, Any] = {
            "job_id": job_id, "job_name": name, "queue": run.queue, "attempt": run.attempt,
            "waited": run.waited, "duration": run.finished - run.started, "outcome": _WORDS[verdict],
        }  # fmt: skip
        _write(
            _level(verdict), facts, "%-9s %s %s attempt %d/%d waited %s ran %s%s",
            _WORDS[verdict], name, job_id, run.attempt, attempts, span(run.waited),
            span(run.finished - run.started), _why(run, verdict), trace=_trace(run, verdict),
        )  # fmt: skip

    def _say_unknown(self, run: Run) -> None:
        """Log that a job which this worker can't run is left in its queue; once a minute per function."""
        name, job_id = one_line(run.name), one_line(run.id)
        if run.finished - self._unknown.get(name, float("-inf")) < 60:
            return
        self._unknown[name] = run.finished
        facts = {"job_id": job_id, "job_name": name, "queue": run.queue}
        if run.exception is not None:
            _write(
                logging.ERROR, facts, "job %s (%s) isn't run, and is left in its queue: %s", job_id, name,
                one_line(run.exception),
            )  # fmt: skip
            return
        _write(
            logging.WARNING, facts,
            "unknown job %s (%s): it's left in its queue. Is its module imported, was it renamed "
            "(@job(aliases=[…])), or is this worker older than the code that enqueued it?",
            name, job_id,
        )  # fmt: skip


def say_of_dead(level: int, word: str, queue: str, job_id: str, name: str, why: str) -> None:
    """Log what became of a job that was running when its process died, which couldn't log it itself."""
    facts = {"job_id": one_line(job_id), "job_name": one_line(name), "queue": queue, "outcome": word}
    _write(level, facts, "%-9s %s %s%s", word, facts["job_name"], facts["job_id"], one_line(why))


def _level(verdict: str) -> int:
    return _LEVELS.get(verdict, logging.INFO)


def _write(level: int, facts: dict[str, Any], message: str, *args: Any, trace: str = "") -> None:
    """Log a record with ``facts`` as attributes; ``extra`` would refuse the ``job_id`` it already has."""
    record = logger.makeRecord(logger.name, level, __file__, 0, message, args, None)
    record.exc_text = trace or None  # formatters write it below the line
    vars(record).update(facts)
    logger.handle(record)


def _why(run: Run, verdict: str) -> str:
    outcome = run.outcome
    if verdict == "stale":
        return ": this run's outcome was refused, since another worker has the job now, or it's gone"
    if outcome is None or outcome.error is None:
        return ""
    line = one_line(outcome.error.summary[:200])
    return f" in {span(outcome.delay)}: {line}" if verdict == "r" else f": {line}"


def _trace(run: Run, verdict: str) -> str:
    """The end of a failure's traceback, indented so that no text in it can pass for another log line."""
    error = run.outcome.error if verdict == "f" and run.outcome is not None else None
    if error is None or not error.traceback.strip():
        return ""
    text = error.traceback.rstrip()
    shown = "\n".join(f"    {line}".rstrip() for line in lines(text[-TRACE:])).encode()
    if len(text) <= TRACE and len(shown) <= TRACE:
        return shown.decode()
    first, _, others = shown[-TRACE:].decode(errors="ignore").partition("\n")
    return f"    …\n{others}" if others else f"    …{first}"


_plain_factory = logging.getLogRecordFactory()


def _with_job_id(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _plain_factory(*args, **kwargs)
    reporter = current_job()._reporter
    record.job_id = one_line(reporter.id) if isinstance(reporter, Run) else "-"
    return record


def install() -> None:
    """Give every log record of this process a ``job_id``: the running job's, or ``-``."""
    logging.setLogRecordFactory(_with_job_id)
