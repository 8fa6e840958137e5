"""Enqueuing from outside: only functions declared with ``@job(api=True)``, with arguments checked."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Annotated, Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Body, Router, Status

from django_kue import enqueueing, registry
from django_kue.api import jobs
from django_kue.api.access import may
from django_kue.api.arguments import Definition, checked, schemas
from django_kue.api.errors import CHANGING, READING, Refused, SomeEnqueued
from django_kue.api.schemas import EXAMPLE, FunctionOut, JobRef, NewJob, OneOrMany, Problem
from django_kue.batch import Batch
from django_kue.errors import EnqueueError
from django_kue.jobs import Job

logger = logging.getLogger("django_kue.api")
router = Router(tags=["Jobs"])

_ONE = {"name": EXAMPLE, "args": [17], "options": {"queue": "email", "priority": "high"}}
_TWO = {"name": EXAMPLE, "kwargs": {"order_id": 18, "copy_to": "me@example.org"}, "options": {"delay": 60}}
EXAMPLES = {
    "requestBody": {
        "content": {
            "application/json": {
                "examples": {
                    "one": {"summary": "One job", "value": _ONE},
                    "many": {"summary": "Many jobs", "value": [_ONE, _TWO]},
                }
            }
        }
    }
}


class _Order(NamedTuple):
    """A job that's about to be enqueued."""

    definition: Definition  # with the options that were asked for
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@router.get(
    "/functions",
    auth=may("view_job", "change_job", "enqueue_job"),
    response={200: list[FunctionOut], **READING},
    summary="List functions",
)
def list_functions(request: HttpRequest) -> Any:
    """What can run as a job, and the arguments it takes."""
    return [_portrait(function) for function in registry.functions()]


@jobs.router.post(
    "",
    auth=may("enqueue_job"),
    response={201: JobRef | list[JobRef], 404: Problem, **CHANGING},
    summary="Enqueue one job or many",
    openapi_extra=EXAMPLES,
)
def enqueue_jobs(request: HttpRequest, response: HttpResponse, payload: Annotated[OneOrMany, Body()]) -> Any:
    """An object enqueues one job, an array up to 1,000, in order; the answer has the same shape.

    If one of many is invalid, none is enqueued. If Redis goes away in the middle, the answer is 503, and
    `enqueued` has the ids of those that are certainly there. A request that's sent twice enqueues twice,
    unless the function is `unique`.
    """
    if isinstance(payload, list):
        orders = [_ordered(item, f"Job {index}: ") for index, item in enumerate(payload)]
    else:
        orders = [_ordered(payload)]
    new = _enqueued(orders)
    logger.info("%s enqueued %d jobs, the first is %s", request.user, len(new), new[0].id)
    if isinstance(payload, list):
        return Status(201, new)
    response["Location"] = reverse("kue-api:get_job", args=[new[0].id])
    return Status(201, new[0])


def _ordered(item: NewJob, where: str = "") -> _Order:
    """What's asked for, if it's valid. An error about one of many jobs begins with ``where`` it is."""
    try:
        definition = _definition(item)
        args, kwargs = checked(definition, item.args, item.kwargs)
        Batch(definition, [(args, kwargs)], is_many=False)  # refuses what can't be stored before others are
    except Refused as error:
        raise Refused(error.status, f"{where}{error}", error.mistakes) from error
    except EnqueueError as error:
        raise Refused(422, f"{where}{error}") from error
    return _Order(definition, args, kwargs)


def _definition(item: NewJob) -> Definition:
    """The function, with the options that are asked for."""
    definition = registry.get(item.name)
    if definition is None or not definition.options.api:
        text = f"No function {item.name!r} may be enqueued here. That takes @job(api=True); GET /functions "
        raise Refused(404, f"{text}lists what there is.")
    given: Any = item.options.model_dump(exclude_none=True)
    try:
        # At once, even if the request runs in a transaction: the answer tells the outcome.
        return definition.original.using(**given, on_commit=False)
    except (TypeError, ValueError) as error:
        raise Refused(422, str(error)) from error


def _enqueued(orders: list[_Order]) -> list[Job]:
    new: list[Job] = []
    for definition, calls in _alike(orders):
        try:
            new += enqueueing.enqueue(definition, calls, is_many=len(calls) > 1)
        except EnqueueError as error:
            if new:
                raise SomeEnqueued([job.id for job in new]) from error
            raise
    return new


def _alike(orders: list[_Order]) -> Iterator[tuple[Definition, list[Any]]]:
    """Consecutive jobs of one function with the same options, which go to Redis together."""
    for _, group in groupby(orders, key=lambda order: (order.definition.name, order.definition.options)):
        some = list(group)
        yield some[0].definition, [(order.args, order.kwargs) for order in some]


def _portrait(function: Definition) -> FunctionOut:
    doc = inspect.getdoc(function.function) or ""
    return FunctionOut(
        name=function.name,
        queue=function.options.queue,
        doc=doc.partition("\n")[0],
        api=function.options.api,
        signature=str(function.signature),
        arguments=schemas(function) if function.options.api else None,
    )
