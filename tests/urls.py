"""Two sites: Django's default one, and one of another name, as projects have them."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from django_kue.admin import register_on

ops = admin.AdminSite("ops")
register_on(ops)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("ops/", ops.urls),
]
