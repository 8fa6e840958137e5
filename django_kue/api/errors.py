"""Errors as answers: each of the engine's errors has its status, and all have one shape, :class:`Problem`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from django_kue.api.schemas import TAGS, Mistake, Problem
from django_kue.errors import (
    EnqueueError,
    IllegalTransition,
    JobDoesNotExist,
    KueError,
    StoreError,
    StoreUnavailable,
)

logger = logging.getLogger("django_kue.api")

AWAY = "Redis can't be reached, or refuses work for now. Try again later."
RETRY_AFTER = "5"  # seconds

# What any operation may answer; each adds answers of its own.
ANY = {401: Problem, 403: Problem, 503: Problem}
READING = {**ANY, 400: Problem}
CHANGING = {**ANY, 400: Problem, 413: Problem, 415: Problem, 422: Problem}


class Refused(Exception):
    """A request that's refused, with this status and for this reason."""

    def __init__(self, status: int, detail: str, mistakes: Iterable[Mistake] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.mistakes = mistakes


class SomeEnqueued(KueError):
    """Only the first of many jobs could be enqueued; the cause says why the next one couldn't."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(f"{len(ids)} jobs were enqueued, and then no more.")
        self.ids = ids


def answer(status: int, detail: str, mistakes: Iterable[Mistake] = (), **more: Any) -> HttpResponse:
    """A response that says why a request failed."""
    problem = Problem(detail=detail, errors=list(mistakes), **more)
    response = HttpResponse(
        problem.model_dump_json(exclude_defaults=True), content_type="application/json", status=status
    )
    if status == 503:
        response["Retry-After"] = RETRY_AFTER
    return response


def register_on(api: NinjaAPI) -> None:
    """Have the API answer errors as this module says. What isn't named here is a bug: Django answers 500."""
    api.add_exception_handler(AuthenticationError, stranger)
    api.add_exception_handler(HttpError, turned_away)
    api.add_exception_handler(ValidationError, _mistaken)
    api.add_exception_handler(Refused, _refused)
    api.add_exception_handler(JobDoesNotExist, lambda request, error: answer(404, str(error)))
    api.add_exception_handler(IllegalTransition, lambda request, error: answer(409, str(error)))
    api.add_exception_handler(EnqueueError, _not_enqueued)
    api.add_exception_handler(SomeEnqueued, _some_enqueued)
    api.add_exception_handler(StoreUnavailable, _away)
    api.add_exception_handler(StoreError, _away)


def stranger(request: HttpRequest, error: Any) -> HttpResponse:
    said = error.message
    text = "Log in, or send a token: Authorization: Bearer …" if said == "Unauthorized" else said
    response = answer(401, text)
    response["WWW-Authenticate"] = 'Bearer realm="django-kue"'
    return response


def turned_away(request: HttpRequest, error: Any) -> HttpResponse:
    return answer(error.status_code, error.message)


def _refused(request: HttpRequest, error: Any) -> HttpResponse:
    return answer(error.status, str(error), error.mistakes)


def _mistaken(request: HttpRequest, error: Any) -> HttpResponse:
    """400 for what's wrong in the address, 422 for what's wrong in the body."""
    mistakes = [mistake_of(one) for one in error.errors]
    is_in_body = any(one["loc"][0] == "body" for one in error.errors)
    return answer(422 if is_in_body else 400, "The request is invalid.", mistakes)


def mistake_of(error: Mapping[str, Any], *before: str) -> Mistake:
    """One of pydantic's errors, in our form; names that only the views use are left out of its path."""
    path = [str(part) for part in (*before, *error["loc"]) if part not in ("payload", *TAGS)]
    return Mistake(where=".".join(path), what=error["msg"])


def _not_enqueued(request: HttpRequest, error: Any, **more: Any) -> HttpResponse:
    if not is_away(error):
        return answer(422, str(error), **more)
    logger.warning("a job couldn't be enqueued: %s", error)
    unknown = (
        "It may have been enqueued all the same: look before you try again. " if error.may_be_stored else ""
    )
    return answer(503, f"{unknown}{AWAY}", **more)


def _some_enqueued(request: HttpRequest, error: Any) -> HttpResponse:
    return _not_enqueued(request, error.__cause__, enqueued=error.ids)


def is_away(error: EnqueueError) -> bool:
    """Whether it was Redis's fault, and not that of the request."""
    return error.may_be_stored or isinstance(error.__cause__, StoreUnavailable | StoreError)


def _away(request: HttpRequest, error: Any) -> HttpResponse:
    logger.warning("Redis can't be used: %s", error)
    return answer(503, AWAY)
