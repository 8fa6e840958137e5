"""What receivers of signals hear from a child. Always on one of its executor threads."""

from __future__ import annotations

from contextlib import suppress

from django.dispatch import Signal

from django_kue import registry, signals
from django_kue.errors import KueError
from django_kue.execution import Run
from django_kue.jobs import Job
from django_kue.worker.reports import Progressed

SIGNALS = {
    "c": signals.job_completed, "r": signals.job_retrying,
    "f": signals.job_failed, "x": signals.job_cancelled,
}  # fmt: skip


def emit_end(run: Run) -> None:
    """The signal of a run's end, with the exception at hand."""
    outcome = run.outcome
    assert outcome is not None
    job = run.job_after(outcome)
    sender = run.definition.original if run.definition else None
    if outcome.kind == "c":
        signals.emit(signals.job_completed, sender, job=job, result=run.result)
    elif outcome.kind == "x":
        signals.emit(signals.job_cancelled, sender, job=job)
    else:
        extra = {"delay": outcome.delay} if outcome.kind == "r" else {}
        try:
            if run.exception is not None:
                raise run.exception
        except BaseException as exception:  # noqa: BLE001 - raised so that sys.exc_info() has it
            signals.emit(SIGNALS[outcome.kind], sender, job=job, exception=exception, **extra)


def emit_progress(progressed: Progressed) -> None:
    run = progressed.run
    signals.emit(
        signals.job_progressed, run.definition.original if run.definition else None, job=run.job(),
        progress=progressed.percent, data=progressed.data,
    )  # fmt: skip


def emit_read(signal: Signal, queue: str, keys: list[bytes]) -> None:
    for key in keys:
        with suppress(KueError):
            job = Job.get(f"{queue}.{key.decode()}")
            signals.emit(signal, registry.get(job.name), job=job)
