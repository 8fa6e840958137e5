"""``django.tasks`` on django-kue: ``TASKS = {"default": {"BACKEND": "django_kue.tasks.KueBackend"}}``."""

from __future__ import annotations

from django_kue.tasks.backend import KueBackend

__all__ = ["KueBackend"]
