"""What the tests' settings name."""

from __future__ import annotations

from collections.abc import Iterator

from django_kue.middleware import Middleware, Order


class Stamped(Middleware):
    """Sends a header along."""

    def enqueue(self, order: Order) -> Iterator[None]:
        order.headers["stamp"] = "here"
        yield
