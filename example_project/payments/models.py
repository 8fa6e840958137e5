"""The ledger: which order was paid with which of the bank's charges."""

from __future__ import annotations

from django.db import models


class Payment(models.Model):
    """One recorded payment. An order has at most one: the database enforces it, whatever jobs do."""

    order = models.OneToOneField("storefront.Order", on_delete=models.PROTECT)
    reference = models.CharField(max_length=40, unique=True)  # our name for it, chosen before the first try
    charge = models.CharField(max_length=40, unique=True)  # the bank's name for it
    amount_cents = models.PositiveIntegerField()
    recorded_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.reference
