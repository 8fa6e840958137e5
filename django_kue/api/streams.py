"""Server-sent events: what happens to a job or on a queue, as it happens.

A stream begins with the current state, so that a client that connects late, or again, has missed nothing that
matters: events themselves are sent at most once, and none is kept. It lasts 25 seconds at most. A process of
the site holds at most ``KUE["API_STREAMS"]`` of them at once, so that they can't take all its threads; beyond
that it's 503. Browsers' ``EventSource`` reconnects by itself. Under ASGI, a stream uses no thread.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from threading import Lock
from typing import Any, Protocol

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from ninja.responses import NinjaJSONEncoder

from django_kue import events
from django_kue.api.errors import answer
from django_kue.api.schemas import EventOut, JobOut, QueueOut
from django_kue.conf import settings
from django_kue.errors import JobDoesNotExist, StoreError, StoreUnavailable
from django_kue.events import LAST, Event
from django_kue.jobs import Job
from django_kue.overview import overview

logger = logging.getLogger("django_kue.api")

SECONDS = 25.0  # that a stream lasts at most: gunicorn kills a process that's busy for 30
_RETRY = "retry: 2000\n\n"  # milliseconds after which a browser reconnects
OVER = "over"  # the id of a last event: a client that has it needs no other stream
_EVENT = (
    'event: completed\ndata: {"event": "completed", "queue": "email", "at": "2031-05-01T09:30:00.250Z", '
    '"job": {"id": "email.AZ3wTqkR2Sx6mTn0pQv4zW", "name": "shop.jobs.send_receipt", "state": "completed"}, '
    '"data": {"result": "sent"}}\n\n'
)
_STREAM = {
    "description": "A stream of at most 25 seconds; a comment every three seconds keeps it open",
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "properties": {
                    "event": {"type": "string", "description": "First `job` or `queue`, then its events"},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                    "id": {"type": "string"},
                },
                "required": ["event", "data"],
            },
            "example": _EVENT,
        }
    },
}
# What the description says of a queue's stream, and of a job's, which has an end.
OF_QUEUE: dict[str, Any] = {"responses": {200: _STREAM}}
OF_JOB: dict[str, Any] = {
    "parameters": [
        {
            "in": "header",
            "name": "Last-Event-ID",
            "description": f"`{OVER}` after a job's last event: there's nothing left to follow, "
            "and the answer is 204. Events have no other ids, since none is kept.",
            "schema": {"type": "string"},
        }
    ],
    "responses": {
        200: _STREAM,
        204: {"description": "The job has ended, and the client knows"},
    },
}


class Story(Protocol):
    """What a stream sends."""

    queue: str
    is_over: bool

    def begin(self) -> str:
        """The current state, which is read from Redis."""

    def tell(self, event: Event) -> str:
        """The text for an event; empty if it's about another job."""


class JobStory:
    """The story of one job, to its end."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.queue = job.queue
        self.is_over = False

    def begin(self) -> str:
        try:
            job = self.job.refresh()
        except JobDoesNotExist:
            self.is_over = True
            return message("removed", {"id": self.job.id}, OVER)
        self.is_over = job.is_finished
        return message("job", JobOut.model_validate(job).model_dump(), OVER if self.is_over else "")

    def tell(self, event: Event) -> str:
        if event.job is None or event.job.id != self.job.id:
            return ""
        self.is_over = event.name in LAST
        return message(event.name, EventOut.model_validate(event).model_dump(), OVER if self.is_over else "")


class QueueStory:
    """The story of all jobs of a queue."""

    is_over = False

    def __init__(self, queue: str) -> None:
        self.queue = queue

    def begin(self) -> str:
        [now] = overview([self.queue]).queues
        return message("queue", QueueOut.model_validate(now).model_dump())

    def tell(self, event: Event) -> str:
        return message(event.name, EventOut.model_validate(event).model_dump())


def message(name: str, data: dict[str, Any], id: str = "") -> str:
    """An event of a stream, as text. JSON has no line breaks, which would end it."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {name}\ndata: {json.dumps(data, cls=NinjaJSONEncoder)}\n\n"


def respond(request: HttpRequest, story: Story) -> HttpResponseBase:
    """The stream, or a response that says why there's none."""
    if request.headers.get("Last-Event-ID") == OVER and isinstance(story, JobStory) and story.job.is_finished:
        return HttpResponse(status=204)  # tells an EventSource not to reconnect
    if not slots.take():
        return answer(
            503, "Too many event streams are open. Ask for the job itself instead, or try again later."
        )
    stream: Any = AsyncStream(story) if isinstance(request, ASGIRequest) else Stream(story)
    response = StreamingHttpResponse(stream, content_type="text/event-stream")
    response["X-Accel-Buffering"] = "no"  # or else nginx buffers it
    return response


# ── how ──


class _Slots:
    """Counts the streams that this process holds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.taken = 0

    def take(self) -> bool:
        """Take one; false if there's none left."""
        with self._lock:
            if self.taken >= settings.API_STREAMS:
                return False
            self.taken += 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self.taken -= 1


slots = _Slots()


class _Slotted:
    """Gives its slot back when the response is closed, whether it was ever read or not."""

    _is_open = True

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            slots.give_back()


class Stream(_Slotted):
    """The text of a stream under WSGI; it takes the thread."""

    def __init__(self, story: Story) -> None:
        self._texts = _texts(_Teller(story))

    def __iter__(self) -> Iterator[str]:
        return self._texts

    def close(self) -> None:
        self._texts.close()
        super().close()


class AsyncStream(_Slotted):
    """The text of a stream under ASGI."""

    def __init__(self, story: Story) -> None:
        self._texts = _atexts(_Teller(story))

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts


class _Teller:
    """Turns what :func:`django_kue.events.heard` yields into text."""

    def __init__(self, story: Story) -> None:
        self.queue = story.queue
        self._story = story
        self._until = time.monotonic() + SECONDS
        self.has_begun = False

    def text(self, event: Event | None) -> str:
        """What to send. The story begins once events are being heard, so that none is missed in between."""
        if not self.has_begun:
            self.has_begun = True
            return self._story.begin()
        return ":\n\n" if event is None else self._story.tell(event)

    @property
    def is_over(self) -> bool:
        return self._story.is_over or time.monotonic() >= self._until


def _texts(teller: _Teller) -> Generator[str, None, None]:
    yield _RETRY
    try:
        for event in events.heard(teller.queue):
            yield teller.text(event)
            if teller.is_over:
                return
    except (StoreUnavailable, StoreError) as error:  # the client reconnects, and gets 503
        logger.warning("an event stream ends: %s", error)


async def _atexts(teller: _Teller) -> AsyncGenerator[str, None]:
    yield _RETRY
    try:
        async for event in events.aheard(teller.queue):
            yield teller.text(event) if teller.has_begun else await sync_to_async(teller.text)(event)
            if teller.is_over:
                return
    except (StoreUnavailable, StoreError) as error:
        logger.warning("an event stream ends: %s", error)
