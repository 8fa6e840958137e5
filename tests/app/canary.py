"""Nobody imports this module: a name that came from Redis would have to."""

from __future__ import annotations

from tests.app.jobs import mark

mark("canary", "imported")


def boom(*args: object) -> None:
    mark("canary", "called")
