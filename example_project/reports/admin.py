from __future__ import annotations

from django.contrib import admin

from reports.models import Report, Sale


@admin.register(Sale)
class SaleAdmin(admin.ModelAdmin):
    list_display = ("sold_on", "product", "quantity", "amount_cents")


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):
    list_display = ("year", "rows", "total_cents", "made_at")
