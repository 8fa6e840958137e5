"""Our backend as Django's tests see it, in the places of Django's own two."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

from django_kue.tasks import KueBackend
from django_kue.testing.worker import WorkerThread

_ids: list[str] = []


class Waiting(KueBackend):
    """For the dummy: nothing is run; what was enqueued is read from Redis again."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return _noted(super().enqueue(task, args, kwargs))

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return _noted(await super().aenqueue(task, args, kwargs))

    @property
    def results(self) -> list[Any]:
        return [self.get_result(one) for one in _ids]

    def clear(self) -> None:
        from tests.conftest import redis_client

        redis_client().flushall()
        _ids.clear()


def _noted(result: Any) -> Any:
    _ids.append(result.id)
    return result


class Working(KueBackend):
    """For the immediate one: a worker has run the task, and told of it, when this returns."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        result = super().enqueue(task, args, kwargs)
        WorkerThread(is_burst=True).start().join()
        result.refresh()
        return result

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return await sync_to_async(self.enqueue)(task, args, kwargs)
