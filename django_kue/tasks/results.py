"""A job as Django sees it: a ``TaskResult``, its statuses, its errors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from inspect import isclass
from typing import Any

from django_kue import registry
from django_kue.jobs import Job, JobError, Run
from django_kue.states import State
from django_kue.tasks.api import AnyResult, AnyTask, Task, TaskError, TaskResult, TaskResultStatus

STATUSES = {
    State.DELAYED: TaskResultStatus.READY,
    State.WAITING: TaskResultStatus.READY,
    State.ACTIVE: TaskResultStatus.RUNNING,
    State.COMPLETED: TaskResultStatus.SUCCESSFUL,
    State.FAILED: TaskResultStatus.FAILED,
    State.CANCELLED: TaskResultStatus.FAILED,
}
FORGOTTEN = "(forgotten)"  # the worker of a run that MAX_RUNS has dropped
_CANCELLED = JobError("django_kue.errors.JobCancelled", "the job was cancelled")


class StoredError(TaskError):
    """An error as it's stored. Its class is looked up in modules that are imported already: a name that
    comes from Redis never leads to an import."""

    __slots__ = ()

    @property
    def exception_class(self) -> type[BaseException]:
        """The exception's class.

        Raises:
            ImportError: there's none of that name in the modules that are loaded here.
            ValueError: what has that name is no exception.
        """
        path = self.exception_class_path
        module, _, name = path.rpartition(".")
        found = getattr(sys.modules.get(module), name, None)
        if found is None:
            raise ImportError(f"no loaded module has {path!r}; import it first, if it's to be trusted")
        if not isclass(found) or not issubclass(found, BaseException):
            raise ValueError(f"{path!r} does not reference a valid exception.")
        return found


def result_of(job: Job, task: AnyTask, runs: Sequence[Run] = ()) -> AnyResult:
    """A job as the result of a task.

    Args:
        task: the task that it's the result of.
        runs: the runs that didn't complete, oldest first, as far as they are this job's since it was last
            put onto the queue: see :func:`past_runs`.
    """
    # A run that's still going on, completed or was cancelled isn't among them.
    workers = [run.worker for run in runs]
    if job.worker and job.state is not State.FAILED:
        workers.append(job.worker)
    starts = [run.started_at for run in runs if run.started_at] + ([job.started_at] if job.started_at else [])
    result: AnyResult = TaskResult(
        task=task,
        id=job.id,
        status=STATUSES[job.state],
        enqueued_at=job.created_at,
        started_at=starts[0] if starts else None,
        last_attempted_at=starts[-1] if starts else None,
        finished_at=job.finished_at,
        args=list(job.args),
        kwargs=job.kwargs,
        backend=task.backend,
        errors=_errors(job, runs),
        worker_ids=workers,
    )
    if job.state is State.COMPLETED:
        object.__setattr__(result, "_return_value", job.result)
    return result


def count_of_past_runs(job: Job) -> int:
    """How many runs the job has had since it was last put onto the queue, not counting one that
    completed, was cancelled, or is still going on."""
    runs = job.attempts_made + job.crashes
    if job.state is State.FAILED and job.error and job.error.type.endswith(".JobCrashed"):
        runs -= 1  # the crash that failed it is counted as both
    return runs - (job.state is State.COMPLETED or (job.state is State.CANCELLED and bool(job.worker)))


def past_runs(job: Job, remembered: Sequence[Run]) -> list[Run]:
    """The runs that :func:`count_of_past_runs` counts; a stand-in for each that Redis doesn't remember."""
    count = count_of_past_runs(job)
    if not count:
        return []
    runs = [run for run in remembered if not run.is_cut_off][-count:]
    if not runs and job.state is State.FAILED:  # MAX_RUNS is 0, or it wasn't kept
        runs = [last_run(job)]
    lost = Run(0, None, job.created_at, FORGOTTEN, "forgotten", None, 0)
    return [lost] * (count - len(runs)) + runs


def last_run(job: Job) -> Run:
    """The run with which a job failed, according to the job itself."""
    ended = job.finished_at or job.created_at
    return Run(job.attempts_made, job.started_at, ended, job.worker, "failed", job.error, 0)


def _errors(job: Job, runs: Sequence[Run]) -> list[TaskError]:
    errors = [run.error for run in runs if run.error is not None]
    if job.state is State.CANCELLED:
        errors.append(job.error or _CANCELLED)
    return [StoredError(exception_class_path=error.type, traceback=_text(error)) for error in errors]


def _text(error: JobError) -> str:
    return error.traceback or f"{error}\n"


# ── the task of a job ──


def task_of(job: Job, backend: str) -> AnyTask:
    """The task that a job is a run of, even if its function isn't here any more.

    It's made without validation: whether it could be enqueued today doesn't matter to its result.
    """
    definition = registry.get(job.name)
    function = stand_in(job.name) if definition is None else getattr(definition, "task_function", None)
    if definition is not None and function is None:
        function = definition.function
    values = {
        "func": function,
        "priority": job.priority,
        "backend": backend,
        "queue_name": job.queue,
        "run_after": job.run_at,
        "takes_context": definition is not None and definition.options.takes_context,
    }
    kind = getattr(definition, "task_class", Task)
    return _unvalidated(kind, {field.name: values.get(field.name, field.default) for field in fields(kind)})


def copied(task: AnyTask, **changes: Any) -> AnyTask:
    """A copy with changes, made without validation."""
    return _unvalidated(
        type(task), {field.name: getattr(task, field.name) for field in fields(task)} | changes
    )


def _unvalidated(kind: type[AnyTask], values: Mapping[str, Any]) -> AnyTask:
    task: AnyTask = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(task, name, value)
    return task


_stand_ins: set[Any] = set()


@lru_cache(maxsize=1024)
def stand_in(path: str) -> Any:
    """A function in the place of one that's gone or was renamed: its result can still be read."""

    def gone(*args: Any, **kwargs: Any) -> None:
        raise LookupError(f"no function {path} is known here any more")

    gone.__module__, _, gone.__qualname__ = path.rpartition(".")
    gone.__name__ = gone.__qualname__
    _stand_ins.add(gone)
    return gone


def is_stand_in(function: Any) -> bool:
    """Whether this stands in the place of a function that's gone."""
    return function in _stand_ins
