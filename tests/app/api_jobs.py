"""Jobs that may be enqueued from outside, and one that may not. They're imported by the API's tests alone."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from django.contrib.auth.models import User

from django_kue import job


@job(api=True, queue="email", title="Receipt {order_id}", search_keys=["order_id"])
def send_receipt(order_id: int, *, copy_to: str | None = None) -> str:
    """Mail a receipt.

    And say so.
    """
    return "sent"


@job(api=True)
def pay(amount: Decimal, due: date, *notes: str, password: str = "", **more: int) -> None:
    """Pay."""


@job(api=True)
def greet(user: User) -> None:
    """It takes what has no form in JSON."""


@job(api=True, unique=True)
def tidy(anything, depth=1):  # type: ignore[no-untyped-def]
    pass


@job(api=True, takes_context=True)
def told(context, topic: str) -> None:  # type: ignore[no-untyped-def]
    pass


@job
def internal(order_id: int) -> None:
    """Nobody's business."""
