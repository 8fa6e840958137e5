"""For ``path("kue/", include("django_kue.api.urls"))``."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest
from django.urls import URLPattern
from ninja import NinjaAPI
from ninja.parser import Parser

import django_kue
from django_kue.api import enqueueing, errors, jobs, queues
from django_kue.api.access import may
from django_kue.api.description import complete
from django_kue.api.docs import SwaggerPage, for_readers
from django_kue.api.guard import guarded

DESCRIPTION = """\
Jobs, queues and workers of django-kue.

**Access.** A person uses the site's session, and sends `X-CSRFToken` with whatever changes something; a
program sends `Authorization: Bearer …` with a token from `KUE["API_TOKENS"]`. Each operation takes a Django
permission, the same as in the admin.

**Errors** are JSON with `detail`, and with `errors` if several things are wrong. 400: wrong in the address;
401: not authenticated; 403: not permitted; 404: not found; 409: the job's state doesn't allow it; 413: too
large; 415: not JSON; 422: wrong in the body; 503: Redis is away.

**Times** are ISO 8601, in UTC. **Priorities** are −100 to 100; higher runs sooner. **ETags**: send what you
got as `If-None-Match`, and as long as nothing has changed the answer is 304, without a body.
"""


class StrictParser(Parser):
    """Refuses what isn't JSON: ``NaN`` and the like."""

    def parse_body(self, request: HttpRequest) -> Any:
        return json.loads(request.body, parse_constant=_refuse)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class KueAPI(NinjaAPI):
    """An API whose operations are named like their views, and fully described."""

    def get_openapi_operation_id(self, operation: Any) -> str:
        return str(operation.view_func.__name__)

    def get_openapi_schema(self, **address: Any) -> Any:
        description = super().get_openapi_schema(**address)
        complete(description)
        return description


app_name = "kue-api"

api = KueAPI(
    title="django-kue",
    version=django_kue.__version__,
    description=DESCRIPTION,
    urls_namespace=app_name,
    auth=may(),  # an operation that names no permission is open to nobody
    docs=SwaggerPage(),
    docs_decorator=for_readers,
    parser=StrictParser(),
)
errors.register_on(api)
api.add_router("/jobs", jobs.router)
api.add_router("", enqueueing.router)
api.add_router("", queues.router)

urlpatterns: list[URLPattern] = []
for _pattern in api.urls[0]:
    assert isinstance(_pattern, URLPattern)
    _pattern.callback = guarded(_pattern.callback)
    urlpatterns.append(_pattern)
