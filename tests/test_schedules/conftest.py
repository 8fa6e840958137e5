"""Schedules of a test's own, and the audit of the engine's tests: no key may be left behind or be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_kue import declared, job, registry
from django_kue.decorators import JobFunction
from tests.test_engine.conftest import pytest_configure, sound_keys  # noqa: F401

Make = Callable[..., JobFunction[Any, Any]]


@pytest.fixture
def make_job() -> Iterator[Make]:
    """Makes jobs that are forgotten after the test: ``make_job(function, cron=…)``."""
    made: list[JobFunction[Any, Any]] = []

    def make(function: Callable[..., Any], **options: Any) -> JobFunction[Any, Any]:
        name = options.pop("name", f"tests.{function.__name__}")
        made.append(job(name=name, **options)(function))
        return made[-1]

    yield make
    for one in made:
        declared.forget(one)
        registry.unregister(one)
