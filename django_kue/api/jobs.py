"""Jobs: looking at them, and acting on one. Enqueuing is in ``enqueueing.py``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Body, Path, Query, Router, Schema, Status
from ninja.errors import HttpError
from pydantic import Field

from django_kue import bulk, history, models
from django_kue.api import streams
from django_kue.api.access import may, require
from django_kue.api.errors import CHANGING, READING
from django_kue.api.schemas import (
    EXAMPLE,
    EXAMPLE_ID,
    FURTHEST,
    LONGEST_PAGE,
    JobChange,
    JobList,
    JobOut,
    LogOut,
    Moment,
    Problem,
    RunsOut,
)
from django_kue.jobs import Job
from django_kue.listing import LOOKED_AT, Listing
from django_kue.queue import get_queue
from django_kue.states import State

router = Router(tags=["Jobs"])

SEE = may("view_job", "change_job")  # as in the admin, whoever may change may see
CHANGE = may("change_job")
GONE = {404: Problem}
MOVED = {200: JobOut, 404: Problem, 409: Problem, **CHANGING}
JobId = Annotated[str, Path(max_length=63, description="A job's id.", examples=[EXAMPLE_ID])]


class Wanted(Schema):
    """Which jobs, and in what order."""

    state: State | None = Field(None, description="Only in this state.")
    queue: str | None = Field(None, max_length=40, description="Only in this queue.", examples=["email"])
    name: str | None = Field(None, max_length=200, description="Only of this function.", examples=[EXAMPLE])
    q: str = Field(
        "",
        max_length=200,
        description="Only with this in the title, the function's name or the error, ignoring case. "
        "An id finds its job; `order_id=17`, or a bare value, also finds jobs with such a search key.",
        examples=["order_id=17"],
    )
    since: Moment | None = Field(
        None, description="Only from then on: when they finished, are due, were started, or were enqueued."
    )
    until: Moment | None = Field(None, description="Only before then.")
    order: Literal["newest", "oldest"] = Field(
        "newest",
        description="Which come first. For one queue's waiting jobs, `oldest` is the order they run in.",
    )
    offset: int = Field(0, ge=0, le=FURTHEST, description="How many to skip.")
    limit: int = Field(25, ge=0, le=LONGEST_PAGE, description="How many at most; 0 only counts.")


@router.get(
    "", auth=SEE, response={200: JobList, 404: Problem, **READING}, summary="List, filter and search jobs"
)
def list_jobs(request: HttpRequest, wanted: Query[Wanted]) -> Any:
    """Jobs in one state of one queue, and failed jobs of one function, are listed exactly, however many.

    For anything else, the newest 10,000 jobs are looked at, within a fifth of a second; `scope` says how far
    that went. Offsets count from the newest (or oldest) job there is, so if jobs come and go between two
    pages, a job may be seen twice or not at all.
    """
    if wanted.queue is not None:
        known_queue(wanted.queue)
    listing = Listing(
        state=wanted.state,
        queue=wanted.queue,
        name=wanted.name,
        text=wanted.q.strip(),
        since=wanted.since,
        until=wanted.until,
        newest_first=wanted.order == "newest",
    )
    jobs, count, scope = listing.jobs(wanted.offset, wanted.limit), listing.count(), listing.scope()
    reachable = count if scope.is_exact else min(count, LOOKED_AT)
    after = wanted.offset + wanted.limit
    return {
        "jobs": jobs,
        "count": count,
        "offset": wanted.offset,
        "limit": wanted.limit,
        "next_offset": after if wanted.limit > 0 and after < reachable else None,
        "scope": scope,
    }


@router.get("/{job_id}", auth=SEE, response={200: JobOut, **GONE, **READING}, summary="Get a job")
def get_job(request: HttpRequest, job_id: JobId) -> Any:
    """Everything that's known about it, except its log and its earlier runs."""
    return Job.get(job_id)


@router.get("/{job_id}/log", auth=SEE, response={200: LogOut, **GONE, **READING}, summary="Get a job's log")
def get_log(
    request: HttpRequest,
    job_id: JobId,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many of the newest lines.")] = 1000,
) -> Any:
    """What it wrote with `log()`. Only the newest `KUE["MAX_LOG_LINES"]` lines are kept."""
    return {"lines": Job.get(job_id).logs(limit)}


@router.get(
    "/{job_id}/runs", auth=SEE, response={200: RunsOut, **GONE, **READING}, summary="Get a job's failed runs"
)
def get_runs(request: HttpRequest, job_id: JobId) -> Any:
    """Its runs that didn't complete, the last `KUE["MAX_RUNS"]` of them."""
    return {"runs": Job.get(job_id).runs()}


@router.get(
    "/{job_id}/events",
    auth=SEE,
    response={**GONE, **READING},
    summary="Follow a job",
    openapi_extra=streams.OF_JOB,
)
def job_events(request: HttpRequest, job_id: JobId) -> Any:
    """Server-sent events: first `job`, with the job's current state, then each event as it happens."""
    return streams.respond(request, streams.JobStory(Job.get(job_id)))


@router.post("/{job_id}/retry", auth=CHANGE, response=MOVED, summary="Run a finished job again")
def retry_job(request: HttpRequest, job_id: JobId) -> Any:
    """With fresh attempts. 409 if it isn't finished, or another job holds its unique key."""
    job = Job.get(job_id)
    if job.name == bulk.bulk_job.name:  # it can do all this to other jobs
        require(request, "change_job", "delete_job", "enqueue_job")
    return _noted(request, job.retry(), _("Retried."))


@router.post("/{job_id}/promote", auth=CHANGE, response=MOVED, summary="Run a delayed job now")
def promote_job(request: HttpRequest, job_id: JobId) -> Any:
    """409 if it isn't delayed."""
    return _noted(request, Job.get(job_id).promote(), _("Promoted."))


@router.post("/{job_id}/cancel", auth=CHANGE, response=MOVED, summary="Cancel a job")
def cancel_job(request: HttpRequest, job_id: JobId) -> Any:
    """A running job is asked to stop: it's still `active` in the answer, and cancelled when its run ends.
    409 if it's finished."""
    return _noted(request, Job.get(job_id).cancel(), _("Cancelled."))


@router.patch("/{job_id}", auth=CHANGE, response=MOVED, summary="Change a job's priority")
def change_job(request: HttpRequest, job_id: JobId, payload: Annotated[JobChange, Body()]) -> Any:
    """A waiting job joins the back of its new priority; for others it counts once they wait again."""
    changed = Job.get(job_id).set_priority(payload.priority)
    return _noted(request, changed, _("Changed priority to %(priority)d.") % {"priority": changed.priority})


@router.delete(
    "/{job_id}", auth=may("delete_job"), response={204: None, **GONE, **CHANGING}, summary="Remove a job"
)
def remove_job(request: HttpRequest, job_id: JobId) -> Any:
    """It's forgotten, with its result and its log, whatever its state. A running one is asked to stop."""
    job = Job.get(job_id)
    job.remove()
    _noted(request, job, "", history.DELETION)
    return Status(204, None)


def known_queue(name: str) -> Any:
    """A queue that's declared or ever had jobs.

    Raises:
        HttpError: 404, naming those that are declared.
    """
    try:
        return get_queue(name)
    except LookupError as error:
        raise HttpError(404, str(error)) from error


def _noted(request: HttpRequest, job: Job, message: str, flag: int = history.CHANGE) -> Job:
    """The job, after recording in the admin's history who did what with it."""
    history.note(request.user, models.Job, message, models.Job(id=job.id, title=job.title), flag)
    return job
