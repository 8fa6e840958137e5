"""The API's description, and whether the API does what it says when made-up requests come.

``KUE_TEST_EXAMPLES`` says how many for each operation; without it they're few, and the same each time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.test import Client
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from ninja.responses import NinjaJSONEncoder
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from django_kue.api import streams
from django_kue.api.urls import api
from tests.test_admin.hands import one_of_each
from tests.test_api.conftest import TOKEN
from tests.test_api.hands import RECEIPT

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api_urls")]

MANY = int(os.environ.get("KUE_TEST_EXAMPLES", "0"))
DESCRIPTION: dict[str, Any] = json.loads(  # as programs get it
    json.dumps(api.get_openapi_schema(path_prefix="/kue/"), cls=NinjaJSONEncoder)
)
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
SCHEMA.app = get_wsgi_application()
OPERATIONS = {operation.ok().label: operation.ok() for operation in SCHEMA.get_all_operations()}
# Who's let in is tested in test_access.py; here all comes with a token. And that a function
# doesn't take some arguments, or that two options exclude each other, no schema says.
NOT_LOOKED_AT = {"POST /kue/jobs": [ignored_auth, positive_data_acceptance]}


@pytest.mark.parametrize("label", OPERATIONS)
def test_nothing_that_comes_in_is_an_error_of_ours_and_what_goes_out_is_as_described(
    label: str, robot: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(streams, "SECONDS", 0)
    settings.ALLOWED_HOSTS = ["*"]
    ids = one_of_each("email")

    @hypothesis(
        max_examples=min(MANY, 500) or 10,
        deadline=None,
        database=None,
        derandomize=not MANY,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(), data=st.data())
    def try_it(case: Any, data: Any) -> None:
        _aim(case, data, list(ids.values()))
        case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"},
            excluded_checks=NOT_LOOKED_AT.get(label, [ignored_auth]),
        )

    try_it()


def _aim(case: Any, data: Any, ids: list[str]) -> None:
    """Mostly at what there is: else there'd be 404 and nothing more."""
    if "job_id" in case.path_parameters and data.draw(st.integers(0, 4)):
        case.path_parameters["job_id"] = data.draw(st.sampled_from(ids))
    if "queue" in case.path_parameters and data.draw(st.integers(0, 2)):
        case.path_parameters["queue"] = data.draw(st.sampled_from(["email", "default"]))
    if isinstance(case.body, dict) and "name" in case.body and data.draw(st.integers(0, 2)):
        case.body |= {"name": RECEIPT, "args": [17], "kwargs": {}}


def test_the_description_is_valid_openapi_3_1() -> None:
    assert DESCRIPTION["openapi"].startswith("3.1")
    assert [str(error) for error in OpenAPIV31SpecValidator(DESCRIPTION).iter_errors()] == []


def test_each_operation_says_what_it_does() -> None:
    for label, operation in OPERATIONS.items():
        raw = operation.definition.raw
        assert raw["summary"], label
        assert len(raw["description"]) > 10, label
        assert {str(status) for status in raw["responses"]} >= {"401", "403", "503"}, label
        assert {name for one in raw["security"] for name in one} == {"Token", "Session"}, label


def test_headers_that_answers_have_are_described() -> None:
    listing = DESCRIPTION["paths"]["/kue/jobs"]["get"]
    enqueuing = DESCRIPTION["paths"]["/kue/jobs"]["post"]
    following = DESCRIPTION["paths"]["/kue/jobs/{job_id}/events"]["get"]

    assert set(listing["responses"]["200"]["headers"]) == {"ETag"}
    assert "304" in listing["responses"]
    assert "If-None-Match" in [one["name"] for one in listing["parameters"]]
    assert set(enqueuing["responses"]["201"]["headers"]) == {"Location"}
    assert set(enqueuing["responses"]["401"]["headers"]) == {"WWW-Authenticate"}
    assert set(enqueuing["responses"]["503"]["headers"]) == {"Retry-After"}
    assert "304" not in {*enqueuing["responses"], *following["responses"]}


def test_whatever_does_not_speak_for_itself_has_an_example() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    silent = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, one in schema.get("properties", {}).items()
        if "examples" not in one and not _speaks_for_itself(one)
    ]
    ways = [way for path in DESCRIPTION["paths"].values() for way in path.values()]
    addressed = [one for way in ways for one in way["parameters"] if one["in"] == "path"]

    assert silent == []
    assert all(one["schema"]["examples"] for one in addressed)


def _speaks_for_itself(schema: dict[str, Any]) -> bool:
    """A moment, a yes or no, one of a list of words, a number with a default; or it's described elsewhere."""
    text = json.dumps(schema)
    return "default" in schema or any(mark in text for mark in ("date-time", "boolean", '"enum"', "$ref"))


def test_examples_are_what_the_schemas_ask_for() -> None:
    examples = list(_examples(DESCRIPTION))

    assert len(examples) > 60
    for schema, example in examples:
        jsonschema_rs.validate({**schema, "components": DESCRIPTION["components"]}, example)


def _examples(part: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each schema of the description, with each of its examples."""
    if isinstance(part, list):
        for one in part:
            yield from _examples(one)
    elif isinstance(part, dict):
        if isinstance(named := part.get("examples"), dict):  # of a body
            yield from ((part["schema"], one["value"]) for one in named.values())
        elif isinstance(named, list):
            yield from ((part, one) for one in named)
        for one in part.values():
            yield from _examples(one)


def test_operation_ids_are_plain_names() -> None:
    ids = [way["operationId"] for path in DESCRIPTION["paths"].values() for way in path.values()]
    assert len(set(ids)) == len(ids)
    assert all(one.isidentifier() and "django" not in one for one in ids)
