"""Pages that say whether all is well, for load balancers, Kubernetes and uptime monitors::

    urlpatterns = [
        path("healthz/live", live),
        path("healthz/ready", ready(oldest_waiting=300)),
    ]

They may be open to anybody: they show no names and no numbers, and however often they're requested, Redis is
asked once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from django_kue.conf import settings
from django_kue.errors import KueError
from django_kue.overview import QueueOverview, overview

__all__ = ["live", "ready"]

FRESH = 1.0  # seconds for which an answer is reused


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers. That Redis is away is no reason to restart it."""
    return JsonResponse({"status": "ok"})


def ready(
    *,
    queues: Collection[str] | None = None,
    workers: bool = True,
    oldest_waiting: float | None = None,
) -> Callable[[HttpRequest], HttpResponse]:
    """A page: 200 ``{"status": "ok"}``, or 503 and what fails: ``redis``, ``workers`` or ``waiting``.

    Args:
        queues: names; by default all that are declared.
        workers: whether each queue needs a worker. One that hasn't been heard from for 6 seconds (or
            ``KUE["LEASE"]``, if that's more) counts as gone; so does one that's stopping.
        oldest_waiting: for how long a job may have been ready to run, in seconds; paused queues don't count.
            ``None`` doesn't check that.

    Raises:
        LookupError: a queue isn't declared.

    >>> urlpatterns = [path("healthz/ready", ready(oldest_waiting=300))]
    """
    for name in queues or ():
        settings.queue(name)
    found = _Recently(lambda: list(_failing(queues, workers, oldest_waiting)))

    @never_cache
    @require_safe
    def page(request: HttpRequest) -> HttpResponse:
        failing = found()
        if not failing:
            return JsonResponse({"status": "ok"})
        return JsonResponse({"status": "error", "failing": failing}, status=503)

    return page


def _failing(queues: Collection[str] | None, workers: bool, oldest_waiting: float | None) -> Iterator[str]:
    try:
        seen = overview(settings.queues if queues is None else queues).queues
    except KueError:
        yield "redis"
        return
    if workers and not all(queue.workers for queue in seen):
        yield "workers"
    if oldest_waiting is not None and any(_waits_longer(queue, oldest_waiting) for queue in seen):
        yield "waiting"


def _waits_longer(queue: QueueOverview, seconds: float) -> bool:
    is_paused = queue.paused_since is not None
    return not is_paused and queue.oldest_waiting is not None and queue.oldest_waiting > seconds


class _Recently:
    """What a function returned within the last second. One thread calls it, the others wait for that."""

    def __init__(self, function: Callable[[], list[str]]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._found: list[str] = []
        self._until = float("-inf")

    def __call__(self) -> list[str]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self._function()
                self._until = time.monotonic() + FRESH
            return self._found
