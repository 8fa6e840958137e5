"""``kue listen``: events as they come, and as signals for the receivers of this project."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django_kue import events
from django_kue.cli.arguments import Subcommand, queue_named
from django_kue.cli.screen import Screen, as_text
from django_kue.conf import settings
from django_kue.events import Event
from django_kue.jobs import JobError
from django_kue.redaction import without_secrets
from django_kue.store import ask, reads
from django_kue.words import clock, one_line, span

ROLES = {
    "completed": "SUCCESS",
    "failed": "ERROR",
    "retrying": "WARNING",
    "stalled": "WARNING",
    "paused": "WARNING",
}


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("queue", nargs="?", metavar="QUEUE", help="default: all that are declared")
    parser.add_argument(
        "--as-signals",
        action="store_true",
        help="send each event as the signal of its name, too: receivers in this project hear what happens in "
        "other processes",
    )
    parser.add_argument("--json", action="store_true", dest="is_json", help="print one JSON object per line")


class _Ended(BaseException):
    """SIGINT or SIGTERM arrived. Not an Exception, so that no handler can swallow it."""


class _Interruption:
    """A signal handler that ends waiting for events at once, but never interrupts work on one."""

    def __init__(self) -> None:
        self._is_working = False
        self._is_asked = False

    def __call__(self, number: int, frame: Any) -> None:
        self._is_asked = True
        if not self._is_working:
            raise _Ended

    @contextmanager
    def held_back(self) -> Iterator[None]:
        self._is_working = True
        try:
            yield
        finally:
            self._is_working = False
        if self._is_asked:
            raise _Ended


def _listen(screen: Screen, options: Namespace) -> int:
    queue = queue_named(options.queue).name if options.queue else None
    ask(reads.registry())  # if Redis is away now, say so; later on, wait for it
    with _interruptible() as interruption:
        screen.complain(f"Listening to {queue or ', '.join(settings.queues)}. Ctrl-C ends it.", "NOTICE")
        for event in events.listen(queue):
            with interruption.held_back():
                _tell(screen, event, is_json=options.is_json)
                if options.as_signals:
                    events.send_as_signals(event)
    return 0


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    interruption = _Interruption()
    before = {number: signal.signal(number, interruption) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    except _Ended:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(screen: Screen, event: Event, *, is_json: bool) -> None:
    if is_json:
        screen.json(_as_json(event), is_compact=True)
    else:
        name = screen.paint(f"{event.name:<10}", ROLES.get(event.name, "SQL_FIELD"))
        what = f"{event.job.id}  {event.job.name}" if event.job else event.queue
        details = "  ".join(f"{key}={_detail(key, value)}" for key, value in event.data.items())
        screen.line(f"{clock(event.at, '%H:%M:%S')}  {name}  {one_line(what)}  {one_line(details)}".rstrip())
    screen.flush()


def _detail(key: str, value: Any) -> str:
    if key == "delay":
        return span(float(value))
    text = str(value) if isinstance(value, JobError) else as_text(without_secrets(value))
    return text if len(text) <= 200 else f"{text[:199]}…"


def _as_json(event: Event) -> dict[str, Any]:
    job = event.job
    return {
        "event": event.name,
        "queue": event.queue,
        "at": event.at,
        "job": None if job is None else {"id": job.id, "name": job.name, "state": job.state},
        "data": {key: _plain(value) for key, value in event.data.items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, JobError):
        return {"type": value.type, "message": value.message, "traceback": value.traceback}
    return without_secrets(value)


SUBCOMMANDS = (Subcommand("listen", "Print events as they come, until Ctrl-C", _arguments, _listen),)
