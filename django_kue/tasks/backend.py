"""The backend: Django's verbs in terms of jobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import ModuleType
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from django_kue.conf import settings
from django_kue.decorators import JobFunction
from django_kue.errors import JobDoesNotExist
from django_kue.jobs import Job
from django_kue.options import DECORATOR, Options, read
from django_kue.tasks.api import (
    AnyResult,
    AnyTask,
    BaseTaskBackend,
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
)
from django_kue.tasks.functions import OPTIONS, changed, define, plain, undefined
from django_kue.tasks.results import count_of_past_runs, is_stand_in, past_runs, result_of, task_of


class KueBackend(BaseTaskBackend):
    """Runs ``@task`` functions as jobs: on the same queues, by the same workers.

    ``QUEUES`` are queues that ``KUE["QUEUES"]`` declares; if left out, or empty, all of them.
    ``OPTIONS`` are options of ``@job``, for all tasks of the backend::

        TASKS = {
            "default": {
                "BACKEND": "django_kue.tasks.KueBackend",
                "OPTIONS": {"attempts": 3, "backoff": 10, "timeout": 60},
            }
        }
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, {"QUEUES": [], **params})

    def validate_task(self, task: AnyTask) -> None:
        """Besides Django's checks: the queue must be declared, and this backend's options must be possible
        for the task. The function becomes one that workers know.

        Raises:
            InvalidTask: it can't be run.
        """
        super().validate_task(task)
        self._changed(task)

    # The stubs' task has its own parameters' types; here any will do.
    def enqueue(self, task: AnyTask, args: Any, kwargs: Any) -> AnyResult:  # type: ignore[override]
        """Put a task onto its queue. Inside ``atomic()`` it's sent after the commit.

        Raises:
            InvalidTask: this backend can't run it.
            TypeError: an argument isn't JSON.
            EnqueueError: the arguments don't fit the function, or Redis can't take it.
        """
        job = self.job_function(task).enqueue(*plain(args), **plain(kwargs))
        return result_of(job, task)

    async def aenqueue(self, task: AnyTask, args: Any, kwargs: Any) -> AnyResult:  # type: ignore[override]
        """The twin of :meth:`enqueue`."""
        job = await self.job_function(task).aenqueue(*plain(args), **plain(kwargs))
        return result_of(job, task)

    def get_result(self, result_id: str) -> AnyResult:
        """The result with this id, which is the job's.

        Raises:
            TaskResultDoesNotExist: there's none (any more).
        """
        try:
            job = Job.get(result_id)
        except JobDoesNotExist as error:
            raise TaskResultDoesNotExist(result_id) from error
        runs = past_runs(job, job.runs()) if count_of_past_runs(job) else []
        return result_of(job, task_of(job, self.alias), runs)

    async def aget_result(self, result_id: str) -> AnyResult:
        """The twin of :meth:`get_result`."""
        try:
            job = await Job.aget(result_id)
        except JobDoesNotExist as error:
            raise TaskResultDoesNotExist(result_id) from error
        runs = past_runs(job, await job.aruns()) if count_of_past_runs(job) else []
        return result_of(job, task_of(job, self.alias), runs)

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """What's wrong in the backend's part of ``TASKS``."""
        try:
            problems = [*self._problems_of_queues(), *self._problems_of_options()]
        except ImproperlyConfigured:
            return []  # the check of KUE reports it
        return [Error(text, hint=hint, id="django_kue.E006") for text, hint in problems]

    def _problems_of_queues(self) -> Iterator[tuple[str, str]]:
        for name in sorted(self.queues - set(settings.queues)):
            yield (
                f'TASKS["{self.alias}"]["QUEUES"] names {name!r}, which KUE["QUEUES"] doesn\'t declare.',
                f'Add "{name}": {{}} to KUE["QUEUES"], or remove it here.',
            )

    def _problems_of_options(self) -> Iterator[tuple[str, str]]:
        try:
            self._options  # noqa: B018 - reading it checks it
        except InvalidTaskBackend as error:
            yield str(error), f"They are options of @job: {', '.join(OPTIONS)}."

    def adopt(self, modules: Iterable[ModuleType]) -> None:
        """Make tasks of other backends in these modules known to this process's worker: somebody may enqueue
        them here, with ``.using(backend=…)``."""
        for task in undefined(modules, self.alias):
            self._definition(task)

    def job_function(self, task: AnyTask) -> JobFunction[..., Any]:
        """What enqueues a task: the definition of its function, with the task's and the backend's options.

        Raises:
            InvalidTask: this backend can't run it.
        """
        super().validate_task(task)
        return self._changed(task)

    def _changed(self, task: AnyTask) -> JobFunction[..., Any]:
        definition = self._definition(task)
        try:
            return changed(definition, self._options, task.queue_name, task.priority, task.run_after)
        except ValueError as error:
            raise InvalidTask(f'{task.module_path} on TASKS["{self.alias}"]: {error}') from error

    def _definition(self, task: AnyTask) -> Any:
        if is_stand_in(task.func):
            raise InvalidTask(
                f"No function {task.module_path} is known here any more: its results can be read."
            )
        try:
            settings.queue(task.queue_name)
            self._options  # noqa: B018 - wrong options are an error of the backend's own
            return define(task, self.options)
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidTask(str(error)) from error

    @cached_property
    def _options(self) -> Options:
        for name in self.options:
            if name not in OPTIONS:
                raise InvalidTaskBackend(
                    f'TASKS["{self.alias}"]["OPTIONS"] doesn\'t take {name!r}; it takes {", ".join(OPTIONS)}.'
                )
        try:
            return read(self.options, DECORATOR)
        except (TypeError, ValueError) as error:
            text = str(error).removeprefix(f"{DECORATOR}: ")
            raise InvalidTaskBackend(f'TASKS["{self.alias}"]["OPTIONS"]: {text}') from error
