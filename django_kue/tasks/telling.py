"""Django's task signals: sent where django-kue sends its own, after the change of state was accepted.

In a worker, ``task_finished`` is sent with the exception available (``sys.exc_info()``). Receivers are
connected only for tasks: without tasks nothing is sent, and nothing costs time.
"""

from __future__ import annotations

from typing import Any

from django.dispatch import Signal

from django_kue import signals
from django_kue.errors import KueError
from django_kue.jobs import Job, Run
from django_kue.states import State
from django_kue.tasks.api import InvalidTaskBackend, task_backends, task_enqueued, task_finished, task_started
from django_kue.tasks.results import count_of_past_runs, last_run, past_runs, result_of, task_of


def tell_of(definition: Any) -> None:
    """From now on, Django's signals are sent for the jobs of this function."""
    signals.job_enqueued.connect(_enqueued, sender=definition)
    signals.job_started.connect(_started, sender=definition)
    for signal in (signals.job_completed, signals.job_failed, signals.job_cancelled):
        signal.connect(_finished, sender=definition)


def _enqueued(sender: Any, job: Job, **kwargs: Any) -> None:
    _send(task_enqueued, sender, job)


def _started(sender: Any, job: Job, **kwargs: Any) -> None:
    _send(task_started, sender, job)


def _finished(sender: Any, job: Job, **kwargs: Any) -> None:
    _send(task_finished, sender, job)


def _send(signal: Signal, definition: Any, job: Job) -> None:
    """A receiver that raises is logged by Django, and changes nothing."""
    task = task_of(job, definition.backend)
    signal.send_robust(_backend_class(task.backend), task_result=result_of(job, task, _runs_of(job)))


def _runs_of(job: Job) -> list[Run]:
    """The runs before this one, which are asked for only if there were some; and this one, if it failed."""
    has_failed = job.state is State.FAILED
    runs = []
    if count_of_past_runs(job) - has_failed > 0:
        try:
            runs = [run for run in job.runs() if not run.is_cut_off]
        except KueError:  # Redis is away, or the job wasn't kept: they're marked as forgotten
            runs = []
    if has_failed and (not runs or runs[-1].attempt != job.attempts_made):
        runs.append(last_run(job))
    return past_runs(job, runs)


def _backend_class(alias: str) -> type:
    try:
        return type(task_backends[alias])
    except InvalidTaskBackend:  # of a task that was defined under other settings
        from django_kue.tasks.backend import KueBackend  # it builds on this module

        return KueBackend
