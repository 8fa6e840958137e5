"""``@task`` functions as the engine knows them: a definition in the registry, beside those of ``@job``.

A task gets there when it's defined: making a ``Task`` has its backend validate it, and that registers it.
Those that name another backend, for ``.using(backend=…)``, are found in the apps' ``jobs.py`` and
``tasks.py`` at start (:func:`undefined`). A name from Redis leads to nothing else.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from types import ModuleType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.signals import setting_changed
from django.utils import timezone

from django_kue import codecs, registry
from django_kue.conf import settings
from django_kue.context import JobContext
from django_kue.decorators import JobFunction, check_is_callable_once
from django_kue.jobs import Run
from django_kue.options import DECORATOR, STORED, UNSET, Options, effective, read
from django_kue.tasks import telling
from django_kue.tasks.api import AnyResult, AnyTask, Task, TaskContext, normalize_json
from django_kue.tasks.results import copied, count_of_past_runs, past_runs, result_of, task_of

# What TASKS[…]["OPTIONS"] may say: all but what the task says itself, or what needs its arguments' names.
OPTIONS = (
    "attempts", "backoff", "timeout", "expires", "keep", "retry_on", "discard_on", "on_commit", "outbox",
    "unique", "unique_for",
)  # fmt: skip
_ON_DEFINITION_ONLY = ("retry_on", "discard_on")


class TaskFunction(JobFunction[..., Any]):
    """The definition of a ``@task`` function.

    Attributes:
        task_function: the plain function, as ``Task.func``.
        task_class: the class of its task.
        backend: the alias of the backend that it was defined for.
    """

    task_function: Callable[..., Any]
    task_class: type[AnyTask]
    backend: str

    def __init__(self, task: AnyTask, options: Options) -> None:
        super().__init__(task.func, options)
        self._become({"task_function": task.func, "task_class": type(task), "backend": task.backend})
        if task.takes_context:
            self._become({"function": _with_task_context(self)})

    def encode_result(self, result: Any) -> bytes:
        """A result by Django's rules: what's neither JSON nor nearly JSON raises TypeError."""
        return codecs.dumps(plain(result))


def plain(value: Any) -> Any:
    """A value as Django's tasks pass it: tuples are lists, bytes are text, keys of dicts are text.

    Raises:
        TypeError: it's of another type, or something in it is.
    """
    return json.loads(json.dumps(normalize_json(value)))


# ── the registry ──


def define(task: AnyTask, options: Mapping[str, Any]) -> TaskFunction:
    """The definition of a task's function, which is registered if it isn't yet.

    Args:
        options: as in ``TASKS[…]["OPTIONS"]``.

    Raises:
        TypeError, ValueError: it can't be a job; the message says why.
    """
    known = registry.get(task.module_path)
    if isinstance(known, TaskFunction) and known.task_function is task.func:
        return known
    check_is_callable_once(task.func)
    task = _as_decorated(task)
    own = {
        "name": task.module_path, "queue": task.queue_name, "priority": task.priority,
        "takes_context": task.takes_context,
    }  # fmt: skip
    definition = TaskFunction(task, read({**own, **options}, DECORATOR))
    registry.register(definition)
    telling.tell_of(definition)
    return definition


def _as_decorated(task: AnyTask) -> AnyTask:
    """The task as it is in its module, in case one that comes from ``.using()`` was met first."""
    module = sys.modules.get(task.func.__module__)
    found = getattr(module, task.func.__qualname__, None)
    if isinstance(found, Task) and found.func is task.func:
        return copied(found, backend=task.backend)
    return task


def undefined(modules: Iterable[ModuleType], alias: str) -> Iterator[AnyTask]:
    """Tasks in modules that aren't registered, because they belong to other backends; as ``alias``'s."""
    for module in modules:
        for task in vars(module).values():
            if isinstance(task, Task) and registry.get(task.module_path) is None:
                yield copied(task, backend=alias)


@functools.lru_cache(maxsize=1024)
def changed(
    definition: TaskFunction, options: Options, queue: str, priority: int, run_after: datetime | None
) -> JobFunction[..., Any]:
    """The definition as a task wants it: with its queue, priority and time, and its backend's options.

    Raises:
        ValueError: the backend's options aren't possible for a job of this definition.
    """
    held = _held(definition, options, queue)
    given: dict[str, Any] = {}
    if run_after is not None:
        given["run_at"] = timezone.make_aware(run_after) if timezone.is_naive(run_after) else run_after
    return definition.with_options(held).using(queue=queue, priority=priority, **given)


def _held(definition: TaskFunction, options: Options, queue: str) -> Options:
    """The definition's options, with a backend's in their place: all that ``TASKS[…]["OPTIONS"]`` says, and
    what it leaves to the queue."""
    of_queue = settings.queue_or_default(queue)
    values = {}
    for name in OPTIONS:
        value, own = getattr(options, name), getattr(definition.options, name)
        if value is UNSET and own is not UNSET and name in STORED:
            value = effective(options, name, of_queue)  # otherwise the run would read it from the definition
        if value != own and not _can_be_stored(name, value):
            raise ValueError(
                f"{name} can't be sent along with a job: runs of {definition.name} use the one in "
                f'TASKS["{definition.backend}"]["OPTIONS"], where it was defined. Give both backends '
                "the same, or define a task of its own with @task(backend=…)"
            )
        values[name] = value
    return replace(definition.options, **values)


def _can_be_stored(name: str, value: Any) -> bool:
    """Whether a job's record can give an option this value, in place of its definition's."""
    if name in _ON_DEFINITION_ONLY or callable(value):
        return False
    return not (name == "keep" and value is None)  # a record has no words for "as the queue keeps them"


def _forget(**kwargs: Any) -> None:
    changed.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_kue.tasks")


# ── the context ──


def _with_task_context(definition: TaskFunction) -> Callable[..., Any]:
    """The function, called by the engine with a job's context, gets a task's instead."""
    function = definition.task_function
    if iscoroutinefunction(function):

        @functools.wraps(function)
        async def arun(context: JobContext, /, *args: Any, **kwargs: Any) -> Any:
            runs = await context.job.aruns() if _has_past(context) else []  # type: ignore[union-attr]
            return await function(_task_context(definition, context, runs), *args, **kwargs)

        return arun

    @functools.wraps(function)
    def run(context: JobContext, /, *args: Any, **kwargs: Any) -> Any:
        runs = context.job.runs() if _has_past(context) else []  # type: ignore[union-attr]
        return function(_task_context(definition, context, runs), *args, **kwargs)

    return run


def _has_past(context: JobContext) -> bool:
    return context.job is not None and count_of_past_runs(context.job) > 0


def _task_context(definition: TaskFunction, context: JobContext, runs: list[Run]) -> Any:
    job = context.job
    if job is None:
        raise RuntimeError(
            f"{definition.name} takes a context, and no job is running here; use Task.call(context, …)"
        )
    task = task_of(job, definition.backend)
    result: AnyResult = result_of(job, task, past_runs(job, runs))
    return TaskContext(task_result=result)
