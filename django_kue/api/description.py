"""Adds what django-ninja leaves out of the API's description, and fixes what OpenAPI 3.1 wants otherwise."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_ETAG = {
    "ETag": {
        "description": "Changes when the answer does.",
        "schema": _TEXT,
        "example": '"3326e779f7ef17d7e675b92b41ca7e8d"',
    }
}
_KNOWN = {
    "in": "header",
    "name": "If-None-Match",
    "description": "The `ETag` of an answer that you have: if it's still the same, you get 304 instead.",
    "schema": _TEXT,
}
_UNCHANGED = {"description": "Nothing has changed since the answer with that `ETag`", "headers": _ETAG}

# By status.
_HEADERS: dict[int, dict[str, Any]] = {
    201: {
        "Location": {
            "description": "Where the job can be read, if it was a single one.",
            "schema": {"type": "string", "format": "uri-reference"},
            "example": "/kue/jobs/email.AZ3wTqkR2Sx6mTn0pQv4zW",
        }
    },
    401: {
        "WWW-Authenticate": {
            "description": "Says that a token is accepted.",
            "schema": _TEXT,
            "example": 'Bearer realm="django-kue"',
        }
    },
    503: {
        "Retry-After": {
            "description": "Seconds after which to try again.",
            "schema": {"type": "integer"},
            "example": 5,
        }
    },
}


def complete(description: dict[str, Any]) -> None:
    """Add headers and 304 to each operation, and keep the examples of parameters only in their schemas.

    In OpenAPI a parameter's own ``examples`` are named objects; django-ninja copies a schema's list there.
    """
    for ways in description["paths"].values():
        for method, operation in ways.items():
            operation["parameters"] = [_without_examples(one) for one in operation["parameters"]]
            _tell_of_headers(operation["responses"])
            if method == "get" and "application/json" in operation["responses"][200]["content"]:
                _tell_of_etags(operation)


def _without_examples(parameter: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameter.items() if key != "examples"}


def _tell_of_headers(responses: dict[int, dict[str, Any]]) -> None:
    for status, headers in _HEADERS.items():
        if status in responses:
            responses[status] = responses[status] | {"headers": headers}


def _tell_of_etags(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses[200] = responses[200] | {"headers": _ETAG}
    responses[304] = _UNCHANGED
    operation["parameters"].append(_KNOWN)
