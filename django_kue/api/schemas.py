"""What comes in and goes out. Jobs' values are shown as in the admin: secrets masked, no database queried.

What goes out is read from the attributes of what the views return, or by ``resolve_…`` if those aren't shown
as they are.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import (
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from django_kue import display
from django_kue.jobs import Job
from django_kue.priorities import HIGHEST, LOWEST, PRIORITIES, priority_number
from django_kue.redaction import without_secrets
from django_kue.rows import JobError
from django_kue.states import State

MOST_JOBS = 1000  # of one request
LONGEST_PAGE = 100
FURTHEST = 10_000_000  # jobs to skip
EXAMPLE_ID = "email.AZ3wTqkR2Sx6mTn0pQv4zW"
EXAMPLE = "shop.jobs.send_receipt"
EXAMPLE_WORKER = "web-1:4711:a3f2"
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def _readable(text: Any) -> Any:
    """Lone surrogates, which only foreign data contains, are escaped: UTF-8 can't encode them."""
    return text.encode(errors="backslashreplace").decode() if isinstance(text, str) else text


def _written(moment: Any) -> Any:
    """Only text that looks like a date: a number, even as text, might be seconds or milliseconds."""
    if not isinstance(moment, str) or not _DATE.match(moment):
        raise PydanticCustomError("moment", "Input should be text such as 2031-05-01T09:30:00Z")
    return moment


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written)]
Text = Annotated[str, BeforeValidator(_readable)]


def _priority(value: Any) -> int:
    """In JSON 10.0 is a whole number, too."""
    try:
        return priority_number(int(value) if isinstance(value, float) and value.is_integer() else value)
    except ValueError as error:
        raise PydanticCustomError("priority", "{why}", {"why": str(error)}) from error


Priority = Annotated[
    int,
    PlainValidator(_priority),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST},
                {"type": "string", "enum": list(PRIORITIES)},
            ],
            "description": "Higher runs sooner. Names stand for some of the numbers.",
            "examples": [10, "high"],
        }
    ),
]


class Strict(Schema):
    """What comes in: a misspelt name is an error, and text isn't taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


# ── errors ──


class Mistake(Schema):
    """One thing that's wrong in a request."""

    where: str = Field(examples=["body.options.delay"])
    what: Text = Field(examples=["Input should be greater than or equal to 0"])


class Problem(Schema):
    """Why a request was refused."""

    detail: Text = Field(examples=["Why it was refused, in words."])
    errors: list[Mistake] = []
    enqueued: list[str] = Field(
        [], description="Of many jobs, the ids of those enqueued before that.", examples=[[EXAMPLE_ID]]
    )


# ── jobs ──


class ErrorOut(Schema):
    """What went wrong."""

    type: Text = Field(examples=["smtplib.SMTPServerDisconnected"])
    message: Text = Field(examples=["Connection unexpectedly closed"])
    traceback: Text = Field("", examples=["Traceback (most recent call last):\n  …"])


class JobOut(Schema):
    """A job as it is now. Times are in UTC."""

    id: Text = Field(examples=[EXAMPLE_ID])
    queue: str = Field(examples=["email"])
    name: Text = Field(description="Its function.", examples=[EXAMPLE])
    title: Text = Field(examples=["Receipt 17"])
    state: State
    priority: int = Field(examples=[10])
    arguments: dict[str, Any] = Field(
        description="By name; secret ones are masked.", examples=[{"order_id": 17}]
    )
    result: Any = Field(None, description="What the function returned.", examples=["sent"])
    progress: float = Field(description="0 to 100.", examples=[40])
    progress_data: Any = Field(None, description="What the job reported with it.", examples=[{"page": 4}])
    error: ErrorOut | None = None
    attempts_made: int = Field(description="Runs that ended, successful or not.", examples=[1])
    attempts: int = Field(description="How often it may run in total.", examples=[5])
    crashes: int = Field(description="Runs whose process died.", examples=[0])
    created_at: datetime
    run_at: datetime | None = Field(None, description="When it may run, if it's delayed.")
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: Text = Field("", examples=[f"{EXAMPLE_WORKER}/2"])
    is_cancelling: bool = Field(description="It's running, and was asked to stop.")
    is_parked: bool = Field(description="No worker that saw it can run it.")
    is_encrypted: bool

    @staticmethod
    def resolve_arguments(job: Job) -> dict[str, Any]:
        return {str(_readable(name)): value for name, value in display.shown_arguments(job).items()}

    @staticmethod
    def resolve_result(job: Job) -> Any:
        return display.shown_result(job)

    @staticmethod
    def resolve_progress_data(job: Job) -> Any:
        return without_secrets(job.progress_data)


class ScopeOut(Schema):
    """How far a list has looked. If no index can answer, that's at the newest 10,000 jobs."""

    looked: int = Field(description="How many of the newest jobs were looked at …", examples=[10_000])
    total: int = Field(description="… out of how many.", examples=[214_000])
    is_exact: bool = Field(description="Nothing was left out, and every page can be reached.")


class JobList(Schema):
    """A page of jobs."""

    jobs: list[JobOut]
    count: int = Field(description="How many there are, as far as the list has looked.", examples=[3])
    offset: int = Field(examples=[25])
    limit: int = Field(examples=[25])
    next_offset: int | None = Field(
        description="Where the next page begins; null on the last one.", examples=[50]
    )
    scope: ScopeOut


class LineOut(Schema):
    """A line that a job wrote."""

    at: datetime
    text: Text = Field(examples=["sent to me@example.org"])


class LogOut(Schema):
    """The newest lines of a job's log, oldest first."""

    lines: list[LineOut]


class RunOut(Schema):
    """A run that didn't complete."""

    attempt: int = Field(examples=[1])
    outcome: Text = Field(examples=["retried"])
    started_at: datetime | None = None
    finished_at: datetime
    worker: Text = Field(examples=[EXAMPLE_WORKER])
    error: ErrorOut | None = None
    delay: float = Field(description="Seconds until the next try.", examples=[60])


class RunsOut(Schema):
    """The newest runs that didn't complete, oldest first."""

    runs: list[RunOut]


class JobChange(Strict):
    """What can be changed of a job."""

    priority: Priority


# ── enqueuing ──


class NewOptions(Strict):
    """When it runs, and where. The rest is the function's own: ``attempts``, ``timeout``, ``unique`` …"""

    queue: str | None = Field(None, description="One that's declared.", examples=["email"])
    priority: Priority | None = None
    delay: float | None = Field(None, ge=0, le=315_360_000, description="Seconds from now.", examples=[60])
    run_at: Moment | None = Field(None, description="Instead of `delay`.")
    expires: float | None = Field(
        None,
        ge=0.001,
        le=315_360_000,
        description="Seconds after which it's not worth starting any more.",
        examples=[3600],
    )
    title: str | None = Field(None, min_length=1, max_length=200, examples=["Receipt 17"])


class NewJob(Strict):
    """A job to enqueue."""

    name: str = Field(
        min_length=1, max_length=200, description="A function with `@job(api=True)`.", examples=[EXAMPLE]
    )
    args: list[Any] = Field([], description="Positional arguments.", examples=[[17]])
    kwargs: dict[str, Any] = Field(
        {}, description="Keyword arguments.", examples=[{"copy_to": "me@example.org"}]
    )
    options: NewOptions = Field(default_factory=lambda: NewOptions.model_validate({}))


TAGS = ONE, MANY = "one", "many"
OneOrMany = Annotated[
    Annotated[NewJob, Tag(ONE)]
    | Annotated[list[NewJob], Tag(MANY), Field(min_length=1, max_length=MOST_JOBS)],
    Discriminator(lambda value: MANY if isinstance(value, list) else ONE),
]


class JobRef(Schema):
    """A job that was enqueued; or the one that's there already, if the function is ``unique``."""

    id: str = Field(examples=[EXAMPLE_ID])
    queue: str = Field(examples=["email"])
    name: str = Field(examples=[EXAMPLE])
    state: State
    created_at: datetime


class FunctionOut(Schema):
    """A function that can run as a job."""

    name: str = Field(examples=[EXAMPLE])
    queue: str = Field(examples=["email"])
    doc: str = Field(description="The first line of its docstring.", examples=["Mail a receipt."])
    api: bool = Field(description="Whether it can be enqueued here.")
    signature: str = Field(examples=["(order_id: int, *, copy_to: str | None = None) -> str"])
    arguments: dict[str, Any] | None = Field(
        None,
        description="A JSON Schema for each argument, if it can be enqueued here.",
        examples=[{"order_id": {"type": "integer"}}],
    )


# ── queues, workers ──


class QueueOut(Schema):
    """A queue's numbers, all taken at one moment."""

    name: Text = Field(examples=["email"])
    is_declared: bool = Field(description="It's declared in the settings.")
    counts: dict[State, int] = Field(examples=[{"waiting": 12, "active": 3, "failed": 1}])
    paused_since: datetime | None = None
    oldest_waiting: float | None = Field(
        description="Seconds that the oldest has been ready to run.", examples=[0.4]
    )
    work_time: float = Field(description="Seconds that its jobs have run, in total.", examples=[1234.5])
    per_minute: float = Field(description="Runs that ended in the last minute, estimated.", examples=[230.0])
    workers: tuple[Text, ...] = Field(description="Those that serve it.", examples=[[EXAMPLE_WORKER]])


class QueueList(Schema):
    """All queues; if there are more than 500, the declared ones take precedence."""

    queues: tuple[QueueOut, ...]
    others: int = Field(description="How many more queues there are.", examples=[0])


class StatsOut(Schema):
    """All queues together."""

    counts: dict[State, int] = Field(examples=[{"waiting": 12, "active": 3, "failed": 1}])
    work_time: float = Field(description="Seconds that jobs have run, in total.", examples=[98_765.4])
    per_minute: float = Field(description="Runs that ended in the last minute, estimated.", examples=[230.0])
    oldest_waiting: float | None = Field(
        description="Seconds that the oldest has been ready to run.", examples=[0.4]
    )
    queues: int = Field(examples=[3])
    workers: int = Field(description="Those that are running.", examples=[2])


class WorkerOut(Schema):
    """A worker as it was at its last heartbeat."""

    id: Text = Field(examples=[EXAMPLE_WORKER])
    state: str = Field(examples=["running"])
    host: Text = Field(examples=["web-1"])
    pid: int = Field(examples=[4711])
    version: Text = Field(description="The release of django-kue.", examples=["0.1.0"])
    queues: tuple[Text, ...] = Field(examples=[["default", "email"]])
    busy: int = Field(description="Jobs that it's running now.", examples=[3])
    slots: int = Field(description="Jobs that it could run at once.", examples=[16])
    done: int = Field(description="Runs that ended since it was started.", examples=[1200])
    memory: int | None = Field(
        None, description="Resident bytes; null where that can't be known.", examples=[66_000_000]
    )
    started_at: datetime | None = None
    seen_at: datetime
    jobs: tuple[Text, ...] = Field(description="The ids of the jobs it's running.", examples=[[EXAMPLE_ID]])


class WorkerList(Schema):
    """Workers that are running, or were lost within the last hour."""

    workers: list[WorkerOut]


# ── events ──


class JobNow(Schema):
    """Which job an event is about, and its state after it."""

    id: Text
    name: Text
    state: State


class EventOut(Schema):
    """Something that happened, as the data of an event stream's event."""

    event: str = Field(examples=["progressed"])
    queue: str = Field(examples=["email"])
    at: datetime
    job: JobNow | None = None
    data: dict[str, Any] = Field(examples=[{"progress": 40, "data": {"page": 4}}])

    @staticmethod
    def resolve_event(event: Any) -> str:
        return str(event.name)

    @staticmethod
    def resolve_data(event: Any) -> dict[str, Any]:
        return {name: _plain(value) for name, value in event.data.items()}


def _plain(value: Any) -> Any:
    return (
        ErrorOut.model_validate(value).model_dump() if isinstance(value, JobError) else without_secrets(value)
    )
