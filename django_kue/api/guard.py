"""What wraps every view of the API: how much may come in, and what every answer says."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from hashlib import blake2b
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import quote_etag

from django_kue.api.errors import answer
from django_kue.conf import settings

View = Callable[..., HttpResponseBase]
JSON = "application/json"


def guarded(view: View) -> View:
    """A view whose answers nobody may cache, and that's sent no more than is allowed.

    It's exempt from ``ATOMIC_REQUESTS``: no rollback would undo what it does in Redis. And it's exempt from
    Django's ``LoginRequiredMiddleware``, which doesn't know about tokens.
    """

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = _refusal(request) or view(request, *args, **kwargs)
        if response.status_code == 405:
            response = _not_allowed(response)
        response["Cache-Control"] = "private, no-store"
        response["X-Content-Type-Options"] = "nosniff"
        return _conditional(request, response)

    return login_not_required(transaction.non_atomic_requests(answered))


def _refusal(request: HttpRequest) -> HttpResponse | None:
    body = _body(request)
    if body is None:
        return answer(413, f"The body is larger than {settings.API_MAX_BODY} bytes.")
    if body and request.content_type != JSON:
        return answer(415, f"Send JSON: Content-Type: {JSON}")
    return None


def _body(request: HttpRequest) -> bytes | None:
    """The body, read no further than is allowed; ``None`` when there's more."""
    if not hasattr(request, "_body"):  # else somebody has read it before us
        if _announced(request) > settings.API_MAX_BODY:
            return None
        request._body = request.read(settings.API_MAX_BODY + 1)
    return None if len(request.body) > settings.API_MAX_BODY else request.body


def _announced(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _not_allowed(response: HttpResponseBase) -> HttpResponseBase:
    """A 405 in JSON: django-ninja's is HTML."""
    refused = answer(405, f"Allowed here: {response['Allow']}.")
    refused["Allow"] = response["Allow"]
    return refused


def _conditional(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """304 without a body, if the client has it already."""
    if request.method != "GET" or response.status_code != 200 or not isinstance(response, HttpResponse):
        return response
    etag = quote_etag(blake2b(response.content, digest_size=16).hexdigest())
    response["ETag"] = etag
    return get_conditional_response(request, etag=etag, response=response) or response
