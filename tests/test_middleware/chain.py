"""Middleware that the tests name in their settings, and what it saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

from django_kue.context import JobContext
from django_kue.middleware import Middleware, Order

seen: list[Any] = []
tenant: ContextVar[Any] = ContextVar("tenant", default="nobody")
not_a_variable = "text"


class Noting(Middleware):
    def enqueue(self, order: Order) -> Iterator[None]:
        name = type(self).__name__
        seen.append(f"{name} before enqueue of {len(order.calls)}")
        yield
        seen.append(f"{name} after enqueue of {len(order.jobs)}")

    def run(self, context: JobContext) -> Iterator[None]:
        name = type(self).__name__
        seen.append(f"{name} before run")
        try:
            yield
        except Exception as error:
            seen.append(f"{name} saw {error}")
            raise
        seen.append(f"{name} after run")


class Outer(Noting):
    pass


class Slow(Noting):
    """Takes so long to make that other threads ask for it meanwhile."""

    def __init__(self) -> None:
        seen.append("Slow was made")
        time.sleep(0.02)


class Inner(Noting):
    pass


class Async(Middleware):
    async def aenqueue(self, order: Order) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        seen.append("async before enqueue")
        yield
        seen.append("async after enqueue")

    async def arun(self, context: JobContext) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        seen.append("async before run")
        yield
        seen.append("async after run")


class Stamping(Middleware):
    def enqueue(self, order: Order) -> Iterator[None]:
        order.headers["stamp"] = {"by": "tests", "n": len(order.calls)}
        yield

    def run(self, context: JobContext) -> Iterator[None]:
        seen.append((context.attempt, dict(context.headers)))
        yield


class Rerouting(Middleware):
    def enqueue(self, order: Order) -> Iterator[None]:
        order.function = order.function.using(queue="other", priority=9)
        order.calls = [((20,), {})]
        yield


class Refusing(Middleware):
    def enqueue(self, order: Order) -> Iterator[None]:
        raise PermissionError("no jobs today")
        yield

    def run(self, context: JobContext) -> Iterator[None]:
        raise PermissionError("no runs today")
        yield


class Losing(Middleware):
    """Takes the calls away."""

    def enqueue(self, order: Order) -> Iterator[None]:
        order.calls.clear()
        yield


class Swallowing(Middleware):
    def enqueue(self, order: Order) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            seen.append(str(error))

    def run(self, context: JobContext) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            seen.append(str(error))


class BadHeader(Middleware):
    def enqueue(self, order: Order) -> Iterator[None]:
        order.headers["who"] = {"am": [object()]}
        yield


class LargeHeader(Middleware):
    def enqueue(self, order: Order) -> Iterator[None]:
        order.headers["text"] = "x" * 5000
        yield


class NoYield(Middleware):
    def run(self, context: JobContext) -> Any:
        return None


class Stranger:
    pass
