"""Middleware: a project's own code around each enqueue and each run, in the order of one list.

``KUE["MIDDLEWARE"]`` names classes; the first is the outermost. A hook is a generator function that yields
once: the code before its ``yield`` runs before, the code after it afterwards::

    class Timed(Middleware):
        def run(self, context):
            began = time.monotonic()
            try:
                yield
            finally:
                histogram.observe(time.monotonic() - began)
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import copy_context
from dataclasses import dataclass, field, fields
from functools import lru_cache
from threading import RLock
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_kue.conf import settings
from django_kue.errors import EnqueueError

if TYPE_CHECKING:
    from django_kue.context import JobContext
    from django_kue.decorators import JobFunction
    from django_kue.jobs import Job

CONTEXT = "django_kue.travelling.Travelling"  # the middleware that KUE["CONTEXT"] asks for


@dataclass(slots=True)
class Order:
    """What's about to be enqueued: one job, or those of an ``enqueue_many``. A hook may change it.

    Attributes:
        function: the ``@job`` function, with the options of its ``.using()``.
        calls: for each job its positional and its keyword arguments.
        headers: what travels with each of the jobs, and what its runs see as ``context.headers``: JSON, as
            for arguments, 4 KiB at most. If there are none, nothing is stored.
        jobs: the jobs, once they're enqueued. Inside ``atomic()`` they're sent after the commit.
    """

    function: JobFunction[Any, Any]
    calls: list[Any]
    headers: dict[str, Any] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)


class Middleware:
    """The base of middleware: override the hooks that you need. One object serves all threads.

    A hook sees what's raised at its ``yield``, and may raise something else. If it swallows an exception of
    a run, the job completes, without a result. If it raises before its ``yield``, nothing further happens:
    nothing is enqueued, or the run ends as if the job had raised that.
    """

    def enqueue(self, order: Order) -> Iterator[None]:
        """Around each enqueue, including ``.aenqueue()`` unless there's an :meth:`aenqueue`."""
        yield

    async def aenqueue(self, order: Order) -> AsyncIterator[None]:
        """In place of :meth:`enqueue` around ``.aenqueue()``, for hooks that await something."""
        yield

    def run(self, context: JobContext) -> Iterator[None]:
        """Around each run of a job, including coroutine functions unless there's an :meth:`arun`."""
        yield

    async def arun(self, context: JobContext) -> AsyncIterator[None]:
        """In place of :meth:`run` around a coroutine function, for hooks that await something."""
        yield


Hook = Callable[[Any], AbstractContextManager[Any]]
AsyncHook = Callable[[Any], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Chain:
    """The hooks of a project, in order. A middleware without an asynchronous hook has its plain one there."""

    enqueue: tuple[Hook, ...]
    aenqueue: tuple[Hook | AsyncHook, ...]
    run: tuple[Hook, ...]
    arun: tuple[Hook | AsyncHook, ...]


_making = RLock()  # reentrant: a middleware that asks for the chain gets a RecursionError, not a deadlock
_made: list[Chain] = []


@lru_cache(maxsize=1)
def chain() -> Chain:
    """The hooks of ``KUE["MIDDLEWARE"]``. Each class is instantiated once, even if threads ask at the same
    time, which a cache alone doesn't ensure.

    Raises:
        ImproperlyConfigured: one can't be loaded.
    """
    with _making:
        if not _made:
            _made.append(_make())
        return _made[0]


def _make() -> Chain:
    paths = (CONTEXT, *settings.MIDDLEWARE) if settings.CONTEXT else settings.MIDDLEWARE
    found = [load(path) for path in paths]
    return Chain(
        tuple(hook for one in found if (hook := _hook(one, "enqueue"))),
        tuple(hook for one in found if (hook := _hook(one, "aenqueue") or _hook(one, "enqueue"))),
        tuple(hook for one in found if (hook := _hook(one, "run"))),
        tuple(hook for one in found if (hook := _hook(one, "arun") or _hook(one, "run"))),
    )


def _forget(**kwargs: Any) -> None:
    _made.clear()
    chain.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_kue.middleware")


def load(path: str) -> Middleware:
    """The middleware that a setting names.

    Raises:
        ImproperlyConfigured: there's none, or its hooks aren't generators.
    """
    where = f'KUE["MIDDLEWARE"]: {path}'
    try:
        kind = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"{where} can't be imported: {error}") from error
    if not isinstance(kind, type) or not issubclass(kind, Middleware):
        raise ImproperlyConfigured(f"{where} isn't a subclass of django_kue.middleware.Middleware")
    try:
        one: Middleware = kind()
        for name in (hook.name for hook in fields(Chain)):
            _hook(one, name)
    except TypeError as error:
        raise ImproperlyConfigured(f"{where}: {error}") from error
    return one


def _hook(one: Middleware, name: str) -> Any:
    """A hook as a function that returns context managers; ``None`` if it isn't overridden."""
    if getattr(type(one), name) is getattr(Middleware, name):
        return None
    method = getattr(one, name)
    is_async = name.startswith("a")
    if inspect.isasyncgenfunction(method) if is_async else inspect.isgeneratorfunction(method):
        return asynccontextmanager(method) if is_async else contextmanager(method)
    kind = "an async generator function" if is_async else "a generator function"
    raise TypeError(
        f"its {name}() must be {kind} that yields once; write a yield where the inner code is to run"
    )


# ── around an enqueue ──


def around_enqueue(order: Order, send: Callable[[Order], list[Job]]) -> list[Job]:
    """Call ``send(order)`` inside all hooks."""
    with ExitStack() as stack:
        for hook in chain().enqueue:
            stack.enter_context(hook(order))
        order.jobs = send(order)
        return order.jobs
    raise _swallowed(order)


async def around_aenqueue(order: Order, send: Callable[[Order], Awaitable[list[Job]]]) -> list[Job]:
    """The twin of :func:`around_enqueue`."""
    async with AsyncExitStack() as stack:
        for hook in chain().aenqueue:
            await _enter(stack, hook(order))
        order.jobs = await send(order)
        return order.jobs
    raise _swallowed(order)


def _swallowed(order: Order) -> EnqueueError:
    return EnqueueError(
        f"{order.function.name}: not enqueued, and a middleware's enqueue() swallowed the exception; "
        "it has to raise it, or another one"
    )


# ── around a run ──


def around_run(context: JobContext, call: Callable[[], Any]) -> Any:
    """Run ``call()`` inside all hooks, in a context of its own: what they set is gone afterwards."""
    return copy_context().run(_run, context, call)


def _run(context: JobContext, call: Callable[[], Any]) -> Any:
    with ExitStack() as stack:
        for hook in chain().run:
            stack.enter_context(hook(context))
        return call()
    return None


async def around_arun(context: JobContext, call: Callable[[], Awaitable[Any]]) -> Any:
    """The twin of :func:`around_run`; a coroutine's task has a context of its own already."""
    async with AsyncExitStack() as stack:
        for hook in chain().arun:
            await _enter(stack, hook(context))
        return await call()
    return None


async def _enter(stack: AsyncExitStack, manager: Any) -> None:
    if hasattr(manager, "__aenter__"):
        await stack.enter_async_context(manager)
    else:
        stack.enter_context(manager)


__all__ = ["Order", "Middleware"]
