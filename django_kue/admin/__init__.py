"""The admin pages for what's in Redis.

They're registered on the default site. To register them on a site of your own, or to base them on a theme's
``ModelAdmin``, call :func:`register_on` in an ``admin.py``::

    from django_kue.admin import register_on

    register_on(my_site, base=unfold.admin.ModelAdmin)
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model

from django_kue import models
from django_kue.admin.dashboard import DashboardAdminMixin
from django_kue.admin.index import show_failed_count
from django_kue.admin.jobs import JobAdminMixin
from django_kue.admin.outbox import OutboxAdminMixin
from django_kue.admin.queues import QueueAdminMixin
from django_kue.admin.schedules import ScheduleAdminMixin
from django_kue.admin.workers import WorkerAdminMixin

PAGES: dict[type[Model], type] = {
    models.Dashboard: DashboardAdminMixin,
    models.Job: JobAdminMixin,
    models.Queue: QueueAdminMixin,
    models.Worker: WorkerAdminMixin,
    models.Schedule: ScheduleAdminMixin,
    models.Outbox: OutboxAdminMixin,
}


def register_on(site: admin.AdminSite, base: type[Any] = admin.ModelAdmin) -> None:
    """Register the pages on a site, replacing those that are there.

    Args:
        base: the ``ModelAdmin`` class to base them on, such as a theme's.
    """
    for model, mixin in PAGES.items():
        if site.is_registered(model):
            site.unregister(model)
        site.register(model, type(f"{model.__name__}Admin", (mixin, base), {"__module__": __name__}))
    show_failed_count(site)


register_on(admin.site)

__all__ = [
    "DashboardAdminMixin",
    "JobAdminMixin",
    "OutboxAdminMixin",
    "QueueAdminMixin",
    "ScheduleAdminMixin",
    "WorkerAdminMixin",
    "register_on",
]
