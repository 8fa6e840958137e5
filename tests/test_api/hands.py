"""Every operation of the API, and how to ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from django.test import Client

RECEIPT = "tests.app.api_jobs.send_receipt"
BODIES = {"/jobs": {"name": RECEIPT, "args": [17]}, "/jobs/{job_id}": {"priority": 5}}


class Asked(NamedTuple):
    """An operation of the API, as a request for it."""

    name: str
    method: str
    url: str
    body: Any
    permissions: frozenset[str]  # one of them is enough

    def ask(self, client: Client, **headers: str) -> Any:
        return call(client, self.method, self.url, self.body, **headers)


def operations(job_id: str = "email.AAAAAAAAAAAAAAAAAAAAAA", queue: str = "email") -> Iterator[Asked]:
    """All that the API's routers know."""
    from django_kue.api.urls import api

    for router in api._get_bound_routers():
        for path, view in router.path_operations.items():
            full = router.prefix + path
            for operation in view.operations:
                [method] = operation.methods
                permissions = {name for auth in operation.auth_callbacks for name in auth.permissions}
                url = "/kue" + full.format(job_id=job_id, queue=queue)
                body = BODIES.get(full) if method in ("POST", "PATCH") else None
                yield Asked(operation.view_func.__name__, method, url, body, frozenset(permissions))


def call(client: Client, method: str, url: str, body: Any = None, **headers: str) -> Any:
    """A request as programs send it."""
    sent = (
        {} if method == "GET" else {"data": "" if body is None else body, "content_type": "application/json"}
    )
    return getattr(client, method.lower())(url, headers=headers, **sent)


def enqueued(client: Client, name: str = RECEIPT, *args: Any, **options: Any) -> Any:
    """The answer to an enqueue."""
    body = {"name": name, "args": list(args), "options": options}
    return call(client, "POST", "/kue/jobs", body)
