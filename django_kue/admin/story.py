"""What a job's page shows: everything that's known about the job, read at once and put in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import pgettext_lazy

from django_kue import display, encryption, ids, records, registry
from django_kue.admin.tracebacks import Part, parse
from django_kue.conf import settings
from django_kue.errors import JobDoesNotExist
from django_kue.jobs import Job
from django_kue.queue import Queue
from django_kue.redaction import without_secrets
from django_kue.rows import FOREIGN, JobError, LogLine, Run, log_lines_from, runs_from
from django_kue.states import FINISHED, State
from django_kue.store import reads, send

MOST_LINES = 1000  # log lines on a page
SIBLINGS = 10  # other jobs of the function …
LOOKED_AT = 50  # … among the newest of each state

OUTCOMES = {
    "running": pgettext_lazy("outcome of a run", "running"),
    "completed": pgettext_lazy("outcome of a run", "completed"),
    "cancelled": pgettext_lazy("outcome of a run", "cancelled"),
    "expired": pgettext_lazy("outcome of a run", "expired"),
    "retried": pgettext_lazy("outcome of a run", "failed, tried again"),
    "failed": pgettext_lazy("outcome of a run", "failed"),
    "crashed": pgettext_lazy("outcome of a run", "crashed"),
    "stopped": pgettext_lazy("outcome of a run", "handed back"),
    "stalled": pgettext_lazy("outcome of a run", "lost with its process"),
    "unreadable": pgettext_lazy("outcome of a run", "unreadable"),
}
_COLOURS = {
    "retried": "failed",
    "crashed": "failed",
    "stalled": "failed",
    "stopped": "cancelled",
    "running": "active",
    "expired": "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of the job, as a row of the page."""

    number: int
    outcome: str  # a key of OUTCOMES
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str = ""
    error: JobError | None = None
    delay: float | None = None  # seconds till the next one
    times: int = 1  # how many in a row, see rows.Run

    @property
    def label(self) -> str:
        label = str(OUTCOMES.get(self.outcome, self.outcome))
        return label if self.times == 1 else f"{label} ×{self.times}"

    @property
    def colour(self) -> str:
        """The state whose colour its outcome is shown in."""
        return _COLOURS.get(self.outcome, self.outcome)

    @property
    def duration(self) -> timedelta | None:
        return between(self.started_at, self.finished_at)

    @property
    def trace(self) -> list[Part]:
        return parse(self.error.traceback) if self.error else []


@dataclass(frozen=True, slots=True)
class Step:
    """A point on the timeline, and how long it took to get there."""

    label: str
    at: datetime
    kind: str  # created, due, started, or the state it ended in
    took: timedelta | None = None
    took_label: str = ""
    note: str = ""

    @property
    def is_ahead(self) -> bool:
        return self.at > datetime.now(UTC)


@dataclass(frozen=True)
class Story:
    """A job with its logs, its runs and what else its record says."""

    job: Job
    logs: Sequence[LogLine]
    runs: Sequence[Run]
    head: dict[str, str]  # of its record, see records.py
    is_readable: bool

    @classmethod
    def of(cls, id: str, lines: int = MOST_LINES) -> Story:
        """The story of a job, with its newest ``lines`` log lines.

        Raises:
            JobDoesNotExist: it doesn't exist (any more).
        """
        queue, key = ids.split(id)
        rows, lists = send(reads.rows(queue, [key]), reads.lists(queue, key, lines))
        if not rows:
            raise JobDoesNotExist(f"No job {id}.")
        [row] = rows
        try:
            head, is_readable = dict(records.decode(row.record).head), True
        except FOREIGN:
            head, is_readable = {}, False
        return cls(
            Job.from_row(queue, row),
            log_lines_from(lists.logs, queue, lists.key),
            runs_from(lists.runs, queue, lists.key),
            head,
            is_readable,
        )

    # ── facts ──

    @property
    def is_known(self) -> bool:
        """True when this process knows the job's function."""
        return registry.get(self.job.name) is not None

    @property
    def is_refused_as_plain(self) -> bool:
        """True when workers leave it alone because its arguments aren't encrypted."""
        return settings.ONLY_ENCRYPTED and not self.job.is_encrypted and encryption.is_on(self.job.queue)

    @property
    def attempt(self) -> int:
        """Which of its attempts it's at: the one that's running, that would run next, or the last one."""
        ended = self.job.attempts_made
        return min(max(1, ended if self.job.is_finished else ended + 1), max(1, self.job.attempts))

    @property
    def search_keys(self) -> str:
        return ", ".join(self._option("search_keys") or ()) if "k" in self.head else ""

    @property
    def unique_key(self) -> str:
        """What it's unique by: names of arguments, a template, or the stored hash."""
        if "u" not in self.head:
            return ""
        unique = self._option("unique")
        if isinstance(unique, str):
            return unique
        return _("function and arguments") if unique else self.head["u"].partition(":")[0]

    @property
    def logs_are_cut(self) -> bool:
        return len(self.logs) >= MOST_LINES

    @property
    def progress_data(self) -> Any:
        return without_secrets(self.job.progress_data)

    @property
    def progress(self) -> float:
        return max(0.0, min(100.0, float(self.job.progress)))

    @cached_property
    def arguments(self) -> dict[str, Any]:
        return display.shown_arguments(self.job)

    @property
    def has_result(self) -> bool:
        return self.job.state is State.COMPLETED

    @property
    def result(self) -> Any:
        return display.shown_result(self.job)

    @property
    def trace(self) -> list[Part]:
        return parse(self.job.error.traceback) if self.job.error else []

    @property
    def has_foreign_frames(self) -> bool:
        parts = self.trace
        return any(part.is_own for part in parts) and any(p.is_frame and not p.is_own for p in parts)

    # ── its course ──

    @property
    def timeline(self) -> list[Step]:
        return list(self._steps())

    @cached_property
    def attempts(self) -> list[Attempt]:
        """Its runs, newest first; of those that didn't complete, the last ``KUE["MAX_RUNS"]`` are kept."""
        rows = [
            Attempt(
                number=run.attempt,
                outcome=run.outcome,
                started_at=run.started_at,
                finished_at=run.finished_at,
                worker=run.worker,
                error=run.error,
                delay=run.delay if run.outcome == "retried" else None,
                times=run.times,
            )
            for run in self.runs
        ]
        if (last := self._last()) is not None:
            rows.append(last)
        return rows[::-1]

    def _last(self) -> Attempt | None:
        """The run that isn't, or isn't yet, among those that failed."""
        job = self.job
        is_among_them = bool(self.runs) and self.runs[-1].finished_at == job.finished_at
        never_started = job.state is State.CANCELLED and job.started_at is None
        if job.state is State.ACTIVE:
            outcome, number = "running", job.attempts_made + 1
        elif not job.is_finished or is_among_them or never_started:
            return None
        else:
            outcome, number = str(job.state), job.attempts_made + (job.state is State.CANCELLED)
        return Attempt(
            number=max(1, number),
            outcome=outcome,
            started_at=job.started_at,
            finished_at=job.finished_at,
            worker=job.worker,
            error=job.error if job.is_finished else None,
        )

    def _steps(self) -> Iterator[Step]:
        job = self.job
        yield Step(_("Created"), job.created_at, "created")
        due = self._due()
        if due is not None:
            retried = bool(self.runs) and job.attempts_made > 0
            yield Step(_("Due again") if retried else _("Due"), due, "due")
        since = due or job.created_at
        if job.started_at is not None:
            waited = between(since, job.started_at)
            yield Step(_("Started"), job.started_at, "started", waited, _("waited"), job.worker)
        if job.finished_at is not None:
            took = between(job.started_at, job.finished_at)
            yield Step(str(_END[job.state]), job.finished_at, str(job.state), took, _("ran"))

    def _due(self) -> datetime | None:
        """When it could run, if that wasn't at its creation: it was delayed, or had run before."""
        job = self.job
        ends = [
            run.finished_at for run in self.runs if job.started_at is None or run.finished_at < job.started_at
        ]
        moments = [moment for moment in (job.run_at, *ends[-1:]) if moment and moment > job.created_at]
        return max(moments, default=None)

    @property
    def waiting_for(self) -> timedelta | None:
        """How long it has been waiting, while it waits."""
        if self.job.state is not State.WAITING:
            return None
        return between(self._due() or self.job.created_at, datetime.now(UTC))

    @property
    def running_for(self) -> timedelta | None:
        return between(self.job.started_at, datetime.now(UTC)) if self.job.state is State.ACTIVE else None

    # ── others ──

    def siblings(self) -> list[Job]:
        """The latest jobs of the same function on the same queue, newest first: at most :data:`SIBLINGS`,
        from among the newest :data:`LOOKED_AT` of each state."""
        queue = Queue(self.job.queue)
        states = [State.ACTIVE, *sorted(FINISHED)]
        found = [
            job
            for state in states
            for job in queue.jobs(state, limit=LOOKED_AT)
            if job.name == self.job.name and job.id != self.job.id
        ]
        found.sort(key=lambda job: job.finished_at or job.started_at or job.created_at, reverse=True)
        return found[:SIBLINGS]

    def _option(self, name: str) -> Any:
        definition = registry.get(self.job.name)
        return getattr(definition.options, name) if definition else None


_END = {
    State.COMPLETED: pgettext_lazy("timeline", "Completed"),
    State.FAILED: pgettext_lazy("timeline", "Failed"),
    State.CANCELLED: pgettext_lazy("timeline", "Cancelled"),
}


def between(start: datetime | None, end: datetime | None) -> timedelta | None:
    """How long it took; never negative, even if clocks differ."""
    return None if start is None or end is None else max(end - start, timedelta())
