from __future__ import annotations

from django.contrib import admin

from webhooks.models import Delivery


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin):
    list_display = ("order", "partner", "answer", "delivered_at")
