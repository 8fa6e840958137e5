"""What customers buy: orders."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """One order. Its status is set by the receivers in ``payments/receivers.py``."""

    class Status(models.TextChoices):
        PLACED = "placed", "placed, payment under way"
        PAID = "paid", "paid"
        PAYMENT_FAILED = "payment failed", "payment failed"

    customer = models.EmailField()
    total_cents = models.PositiveIntegerField()
    status = models.CharField(max_length=20, choices=Status, default=Status.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"Order {self.pk}"

    @property
    def total(self) -> str:
        """The price as people read it: ``49.90``."""
        return f"{self.total_cents // 100}.{self.total_cents % 100:02}"
