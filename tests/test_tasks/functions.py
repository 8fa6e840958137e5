"""Tasks for the tests of the backend."""

from __future__ import annotations

from typing import Any

from django import VERSION

if VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

attempts_seen: list[Any] = []


@task
def add(a: int, b: int = 2) -> int:
    return a + b


@task
async def aadd(a: int, b: int = 2) -> int:
    return a + b


@task
def give(value: Any) -> Any:
    return value


@task
def give_odd() -> Any:
    return {1, 2}


@task(takes_context=True)
def fail_until(context: Any, good_at: int) -> int:
    attempts_seen.append((context.attempt, len(context.task_result.errors), context.task_result.status))
    if context.attempt < good_at:
        raise ConnectionError(f"attempt {context.attempt} failed")
    return int(context.attempt)


@task(takes_context=True)
async def afail_until(context: Any, good_at: int) -> str:
    if context.attempt < good_at:
        raise ConnectionError(f"attempt {context.attempt} failed")
    return str(context.task_result.id)


@task
def fail() -> None:
    raise ValueError("no")


def never_enqueued_before() -> None:
    """A plain function, which a test makes a task of."""
