"""Sales, and the reports made from them."""

from __future__ import annotations

from django.db import models


class Sale(models.Model):
    """One line of a receipt. Amounts are whole cents, so that sums are exact on every database."""

    sold_on = models.DateField(db_index=True)
    product = models.CharField(max_length=40)
    quantity = models.PositiveIntegerField()
    amount_cents = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product} on {self.sold_on}"


class Report(models.Model):
    """A year's sales as a table and as a chart."""

    year = models.PositiveIntegerField(unique=True)
    rows = models.PositiveIntegerField()
    total_cents = models.PositiveBigIntegerField()
    table = models.FileField()
    chart = models.FileField()
    made_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"Sales of {self.year}"
