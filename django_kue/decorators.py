"""``@job`` turns a function into a definition, whose verbs put jobs onto a queue."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, Unpack, overload

from asgiref.sync import iscoroutinefunction

from django_kue import codecs, declared, enqueueing, registry
from django_kue.conf import settings
from django_kue.context import JobContext, current_job
from django_kue.declared import Wish
from django_kue.jobs import Job
from django_kue.options import DECORATOR, USING, JobOptions, Options, UsingOptions, effective, read, to_store
from django_kue.redaction import redacted
from django_kue.signatures import Signature, Template

P = ParamSpec("P")
R = TypeVar("R")

Item = tuple[Any, ...] | Mapping[str, Any]  # positional or keyword arguments of one job


class JobFunction(Generic[P, R]):
    """A function that can be run as a job: what :func:`~django_kue.job` makes of it. It's frozen.

    Attributes:
        name: the stored name, ``module.function`` unless ``@job(name=…)`` says otherwise.
        function: the plain function.
        is_async: whether it's a coroutine function.
        options: its :class:`~django_kue.options.Options`.
        original: the object that ``@job`` made, the ``sender`` of signals. It's the object itself,
            unless that comes from :meth:`using`.
        signature: the arguments that a call of :meth:`enqueue` must give.
    """

    name: str
    function: Callable[..., R]
    is_async: bool
    options: Options
    original: JobFunction[P, R]
    signature: Signature
    unique_template: Template | None
    stored: Mapping[str, Any]  # what a record must say, because .using() changed it

    def __init__(self, function: Callable[..., R], options: Options) -> None:
        functools.update_wrapper(self, function)
        signature = Signature(function, takes_context=options.takes_context)
        _check_search_keys(options, signature)
        self._become(
            {
                "name": options.name or _default_name(function),
                "function": function,
                "is_async": iscoroutinefunction(function),
                "options": options,
                "original": self,
                "signature": signature,
                "title_template": _template("title", options.title, signature),
                "unique_template": _template("unique", options.unique, signature),
                "stored": {},
            }
        )

    def _become(self, values: dict[str, Any]) -> None:
        """Set attributes, although it's frozen. In a dict that's made in one go, CPython finds them without a
        search; in the one that an instance begins with, it doesn't."""
        object.__setattr__(self, "__dict__", vars(self) | values)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, as if it weren't a job. A coroutine function returns its coroutine.

        With ``takes_context`` the function gets :func:`~django_kue.current_job`: as with :meth:`enqueue`, the
        caller doesn't pass a context.
        """
        if self.options.takes_context:
            return self.function(current_job(), *args, **kwargs)
        return self.function(*args, **kwargs)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Put a job onto its queue, to run in a worker.

        Inside ``atomic()`` it's sent after the commit (see the option ``on_commit``); the job
        that's returned already has its id. With ``unique``, if another job holds the key, that one
        is returned.

        Raises:
            EnqueueError: the arguments don't fit the function, can't be stored or are too large; the
                queue isn't declared; or Redis is away. Nothing was stored, unless the error's
                ``may_be_stored`` is True: Redis didn't answer, and the job may be there.

        >>> receipt = send_receipt.enqueue(17, copy_to="me@example.org")
        """
        return enqueueing.enqueue_one(self, args, kwargs)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """The twin of :meth:`enqueue` for asyncio."""
        [enqueued] = await enqueueing.aenqueue(self, [(args, kwargs)])
        return enqueued

    def enqueue_many(self, items: Iterable[Item]) -> list[Job]:
        """Put any number of jobs onto the queue in a few round trips, in their order.

        Args:
            items: for each job a tuple of positional, or a dict of keyword arguments.

        Raises:
            EnqueueError: as :meth:`enqueue`. If an item is wrong, the message names it, and nothing
                was stored. If Redis goes away in the middle of more than 1,000 jobs, the error's
                ``stored`` says how many of the first are stored. ``KUE["ENQUEUE_TIMEOUT"]`` applies to each
                1,000.

        >>> receipts = send_receipt.enqueue_many([(1,), (2,), {"order_id": 3}])
        """
        return enqueueing.enqueue(self, enqueueing.calls(self.name, items), is_many=True)

    async def aenqueue_many(self, items: Iterable[Item]) -> list[Job]:
        """The twin of :meth:`enqueue_many` for asyncio."""
        return await enqueueing.aenqueue(self, enqueueing.calls(self.name, items), is_many=True)

    def using(self, **given: Unpack[UsingOptions]) -> JobFunction[P, R]:
        """A copy with other options, which take precedence over ``@job``'s.

        Raises:
            TypeError, ValueError: a wrong option; the message says what was expected.

        >>> receipt = send_receipt.using(delay=60, priority="low").enqueue(17)
        """
        options = read(given, USING, self.options)
        _check_search_keys(options, self.signature)
        return self.with_options(options)

    def with_options(self, options: Options) -> JobFunction[P, R]:
        """A copy with these options, which were read already."""
        copy = object.__new__(type(self))
        stored = to_store(options, self.original.options)
        copy._become(vars(self) | {"options": options, "stored": stored})
        return copy

    def title_for(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The title of a job with these arguments; the name, when ``@job`` gives no title.

        Raises:
            TypeError: the arguments don't fit the function, as it is now.
        """
        template: Template | None = vars(self)["title_template"]
        if template is None:
            return self.name
        values = self.signature.bound(args, kwargs)
        return template.render({name: redacted(name, values[name]) for name in template.fields})

    def encode_result(self, result: Any) -> bytes:
        """What the function returned, as it's stored.

        Raises:
            ValueError, TypeError: it can't be stored.
        """
        return codecs.dumps(result)

    def option(self, name: str, queue: str) -> Any:
        """What ``@job`` says about an option, or else the queue's setting."""
        return effective(self.original.options, name, settings.queue_or_default(queue))

    def __setattr__(self, name: str, value: Any) -> None:
        if "original" in vars(self):
            raise self._frozen(name)
        object.__setattr__(self, name, value)  # functools.update_wrapper's

    def __delattr__(self, name: str) -> None:
        """Raises the error that ``mock.patch`` shows in the end: it deletes what it couldn't set."""
        raise self._frozen(name)

    def _frozen(self, name: str) -> FrozenInstanceError:
        return FrozenInstanceError(
            f"{self!r} is frozen; its {name} can't be set, patched or deleted. .using(…) returns a copy with "
            "other options. Tests see what was enqueued in Kue's test mode (in pytest the fixture kue, else "
            "django_kue.testing.KueTestMixin), or patch the job itself in the module that uses it"
        )

    def __repr__(self) -> str:
        return f"<job {self.name}{'' if self.original is self else ', with other options'}>"


class _Elsewhere:
    """Another job queue's name for the verb that sends a job. Getting it raises an AttributeError that says
    what to write here.

    ``__getattr__`` could do that as well, but would slow down every attribute that exists.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, definition: object, kind: type) -> object:
        if definition is None:
            return self
        raise AttributeError(
            f"a job has no {self._name}(): it's sent by .enqueue(…), and options go before that: "
            ".using(delay=60).enqueue(…)"
        )


for _verb in ("apply_async", "defer", "delay", "kiq", "send", "send_with_options"):
    setattr(JobFunction, _verb, _Elsewhere(_verb))
del _verb


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...
@overload
def job(
    *, takes_context: Literal[True], **given: Unpack[JobOptions]
) -> Callable[[Callable[Concatenate[JobContext, P], R]], JobFunction[P, R]]: ...
@overload
def job(
    *, takes_context: Literal[False] = ..., **given: Unpack[JobOptions]
) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...
def job(function: Any = None, /, **given: Any) -> Any:
    """Make a function, or coroutine function, a job. ``docs/reference/options.md`` lists the options.

    Raises:
        TypeError, ValueError: a wrong option, something that isn't a function of a module, or a
            name that another job has. So mistakes show up when the module is imported.

    >>> @job(queue="email", attempts=5)
    ... def send_receipt(order_id: int) -> str: ...
    """
    if function is None:
        options = read(given, DECORATOR)
        return lambda function: _define(function, options)
    return _define(function, read(given, DECORATOR))


Definition = TypeVar("Definition", bound=JobFunction[Any, Any])


def schedule(
    *,
    cron: str | None = None,
    every: float | timedelta | None = None,
    name: str | None = None,
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    timezone: str | None = None,
    queue: str | None = None,
    catch_up: str = "last",
    overlap: bool = True,
) -> Callable[[Definition], Definition]:
    """Run a job on a schedule; a function may have several schedules. Write it above ``@job``.

    ``manage.py check`` reports mistakes in the values as errors, and no worker starts with them.

    Args:
        cron: when: minute, hour, day of month, month, day of week. Give this or
        every: the interval, in seconds or as a timedelta; from one second to ten years.
        name: its name for people, the function's name by default.
        args, kwargs: the job's arguments.
        timezone: the time zone of ``cron``; the project's ``TIME_ZONE`` by default.
        queue: where its jobs go; the function's queue by default.
        catch_up: what runs of the ticks that were due while there was no worker: the ``"last"``, ``"all"``
            (the newest 1,000), or ``"none"`` that are more than a minute late.
        overlap: whether a run starts while the previous one is still going on; with ``False`` that tick is
            left out.

    Raises:
        TypeError: what it decorates isn't a job.

    >>> @schedule(cron="30 2 * * mon", args=("north",), timezone="Europe/Berlin")
    ... @job
    ... def weekly_report(region: str) -> None: ...
    """

    def declare(definition: Definition) -> Definition:
        if not isinstance(definition, JobFunction):
            raise TypeError(f"@schedule takes a job, not {definition!r:.80}; write it above @job")
        declared.declare(
            Wish(
                f"@schedule on {definition.name}", name or definition.name, definition, cron, every,
                timezone, declared.as_given(args), kwargs or {}, queue, catch_up, overlap,
            )
        )  # fmt: skip
        return definition

    return declare


def _define(function: Any, options: Options) -> JobFunction[Any, Any]:
    _check_function(function, options)
    try:
        definition: JobFunction[Any, Any] = JobFunction(function, options)
    except (TypeError, ValueError) as error:
        raise type(error)(f"@job on {function.__module__}.{function.__qualname__}: {error}") from error
    registry.register(definition)
    if options.cron is not None or options.every is not None:
        where = (
            f"@job(cron=…) on {definition.name}" if options.cron else f"@job(every=…) on {definition.name}"
        )
        declared.declare(Wish(where, definition.name, definition, cron=options.cron, every=options.every))
    return definition


def _check_function(function: Any, options: Options) -> None:
    if isinstance(function, JobFunction):
        raise TypeError(f"{function!r} is a job already; decorate the function once")
    if not inspect.isfunction(function):
        raise TypeError(
            f"@job decorates functions, not {function!r:.80}; pass options by name: @job(queue=…)"
        )
    where = f"{function.__module__}.{function.__qualname__}"
    check_is_callable_once(function)
    scope, _, name = function.__qualname__.rpartition(".")
    if scope and not scope.endswith("<locals>"):
        raise TypeError(f"@job on {where}: a method can't be a job; move it out of its class")
    is_elsewhere = function.__module__ in ("__main__", "django.core.management.commands.shell")
    if options.name is None and (scope or name == "<lambda>" or is_elsewhere):
        raise TypeError(
            f"@job on {where}: workers can't know it by this name; define it at the top level of an "
            "app's jobs.py, or give it a @job(name=…)"
        )


def check_is_callable_once(function: Callable[..., Any]) -> None:
    """Raises TypeError for a generator function: calling one runs none of its code."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        where = f"{function.__module__}.{function.__qualname__}"
        raise TypeError(f"@job on {where}: a generator function would never run; return, don't yield")


def _default_name(function: Callable[..., Any]) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    read({"name": name}, DECORATOR)
    return name


def _template(option: str, text: object, signature: Signature) -> Template | None:
    if not isinstance(text, str):
        return None
    try:
        return Template(text, signature.names)
    except ValueError as error:
        raise ValueError(f"{option}={text!r}: {error}") from error


def _check_search_keys(options: Options, signature: Signature) -> None:
    for name in options.search_keys:
        if name not in signature.names:
            known = ", ".join(signature.names) or "none"
            raise ValueError(f"search_keys: {name!r} isn't an argument; there are {known}")
