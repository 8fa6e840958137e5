from __future__ import annotations

from django.contrib import admin

from storefront.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("pk", "customer", "total", "status", "placed_at")
