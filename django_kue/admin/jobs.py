"""The list of jobs."""

from __future__ import annotations

from django_kue.admin.pages import KuePages


class JobAdminMixin(KuePages):
    """What makes a ``ModelAdmin`` (Django's, or a theme's) the jobs' pages."""
