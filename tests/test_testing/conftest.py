"""Jobs of a test's own, and no Redis unless it's asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from django_kue import job, registry


@pytest.fixture(autouse=True)
def _forget_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests define jobs of their own; each starts from what was known before."""
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))


@pytest.fixture(autouse=True)
def _no_redis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test mode needs none: whoever connects fails."""
    if "kue_redis_url" not in request.fixturenames and not getattr(request.module, "NEEDS_REDIS", False):
        from django_kue.store import connections, forget_links

        def refuse(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError("the test mode connected to Redis")

        monkeypatch.setattr(connections, "new_connection", refuse)
        monkeypatch.setattr(connections, "new_async_connection", refuse)
        forget_links()


Define = Callable[..., Any]


@pytest.fixture
def define() -> Define:
    """A job of a test's own: ``define(function, attempts=3)``."""

    def define(function: Callable[..., Any], **options: Any) -> Any:
        return job(name=options.pop("name", f"shop.{function.__name__}"), **options)(function)

    return define
