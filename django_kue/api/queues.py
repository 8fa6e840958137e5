"""Queues, workers, and everything in a few numbers."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Path, Router
from ninja.errors import HttpError

from django_kue import history, models
from django_kue.api import streams
from django_kue.api.access import may
from django_kue.api.errors import CHANGING, READING
from django_kue.api.schemas import Problem, QueueList, QueueOut, StatsOut, WorkerList
from django_kue.listing import queue_names
from django_kue.overview import QueueOverview, overview
from django_kue.queue import Queue
from django_kue.workers import WorkerState, workers

router = Router(tags=["Queues and workers"])

SEE = may("view_queue", "change_queue")
CHANGE = may("change_queue")
QueueName = Annotated[str, Path(max_length=40, description="A queue's name.", examples=["email"])]
FOUND = {200: QueueOut, 404: Problem}


@router.get("/stats", auth=SEE, response={200: StatsOut, **READING}, summary="Get all numbers at a glance")
def get_stats(request: HttpRequest) -> Any:
    """The numbers of at most 500 queues, the declared ones first."""
    seen = overview(queue_names())
    counts: Counter[str] = Counter()
    for queue in seen.queues:
        counts.update(queue.counts)
    return {
        "counts": counts,
        "work_time": sum(queue.work_time for queue in seen.queues),
        "per_minute": sum(queue.per_minute for queue in seen.queues),
        "oldest_waiting": max((queue.oldest_waiting or 0 for queue in seen.queues), default=0) or None,
        "queues": len(seen.queues) + seen.others,
        "workers": sum(worker.state is WorkerState.RUNNING for worker in seen.workers),
    }


@router.get("/queues", auth=SEE, response={200: QueueList, **READING}, summary="List queues")
def list_queues(request: HttpRequest) -> Any:
    """Those that are declared or ever had jobs, at most 500."""
    return overview(queue_names())


@router.get("/queues/{queue}", auth=SEE, response={**FOUND, **READING}, summary="Get a queue")
def get_queue(request: HttpRequest, queue: QueueName) -> Any:
    """Its numbers, whether it's paused, and which workers serve it."""
    return _overview_of(queue)


@router.get(
    "/queues/{queue}/events",
    auth=may("view_job", "change_job"),
    response={404: Problem, **READING},
    summary="Follow a queue",
    openapi_extra=streams.OF_QUEUE,
)
def queue_events(request: HttpRequest, queue: QueueName) -> Any:
    """Server-sent events: first `queue`, with the queue's current state, then each event as it happens."""
    _overview_of(queue)
    return streams.respond(request, streams.QueueStory(queue))


@router.post("/queues/{queue}/pause", auth=CHANGE, response={**FOUND, **CHANGING}, summary="Pause a queue")
def pause_queue(request: HttpRequest, queue: QueueName) -> Any:
    """No worker takes its jobs any more; running ones finish. Nothing happens if it's paused already."""
    _overview_of(queue)
    if Queue(queue).pause():
        _note(request, queue, _("Paused: no worker takes its jobs; running ones finish."))
    return _overview_of(queue)


@router.post("/queues/{queue}/resume", auth=CHANGE, response={**FOUND, **CHANGING}, summary="Resume a queue")
def resume_queue(request: HttpRequest, queue: QueueName) -> Any:
    """Workers take its jobs again. Nothing happens if it isn't paused."""
    _overview_of(queue)
    if Queue(queue).resume():
        _note(request, queue, _("Resumed: workers take its jobs again."))
    return _overview_of(queue)


@router.get(
    "/workers",
    auth=may("view_worker", "change_worker"),
    response={200: WorkerList, **READING},
    summary="List workers",
)
def list_workers(request: HttpRequest) -> Any:
    """Those that are running, or were lost within the last hour; by when they were started."""
    return {"workers": workers()}


def _overview_of(name: str) -> QueueOverview:
    found = overview([name]).queues
    if not found:
        raise HttpError(404, f"No queue {name!r}: it isn't declared, and never had jobs.")
    return found[0]


def _note(request: HttpRequest, queue: str, message: str) -> None:
    history.note(request.user, models.Queue, message, models.Queue(name=queue))
