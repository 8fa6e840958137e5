"""What partners are told about our orders."""

from __future__ import annotations

import uuid

from django.db import models


class Delivery(models.Model):
    """One message for one partner, stored before it's sent, so that we know what's still owed."""

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    order = models.ForeignKey("storefront.Order", on_delete=models.CASCADE, related_name="deliveries")
    partner = models.CharField(max_length=40)
    answer = models.PositiveSmallIntegerField(null=True, blank=True)  # the last HTTP status
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["order", "partner"], name="one_delivery_a_partner")]

    def __str__(self) -> str:
        return f"{self.order} to {self.partner}"
