"""The URLs of the project with a theme."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from unfold.admin import ModelAdmin

from django_kue.admin import register_on

register_on(admin.site, base=ModelAdmin)

urlpatterns = [path("admin/", admin.site.urls)]
