"""The addresses of other pages, on the site that's in use."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from django_kue import models

# What the list of jobs calls its filters, see ``filters.py``.
_PARAMETERS = {"state": "state__exact", "queue": "queue__exact", "name": "name__exact", "text": "q"}


def jobs_url(site: str, **filters: str) -> str:
    """The list of jobs, filtered: by ``state``, ``queue``, ``name`` (of the function) or ``text``.

    >>> jobs_url("admin", state="failed", queue="email")
    '/admin/django_kue/job/?state__exact=failed&queue__exact=email'
    """
    return _list_of("job", site) + jobs_query(**filters)


def jobs_query(**filters: str) -> str:
    """What :func:`jobs_url` appends to the list's address; "" without filters."""
    query = urlencode({_PARAMETERS[name]: value for name, value in filters.items() if value})
    return f"?{query}" if query else ""


def job_url(site: str, id: str) -> str:
    """A job's own page."""
    return reverse("admin:django_kue_job_change", args=[quote(id)], current_app=site)


def queue_url(site: str, name: str) -> str:
    """A queue's own page."""
    return reverse("admin:django_kue_queue_change", args=[quote(name)], current_app=site)


def queues_url(site: str) -> str:
    """The list of queues."""
    return _list_of("queue", site)


def worker_url(site: str, id: str) -> str:
    """A worker's own page."""
    return reverse("admin:django_kue_worker_change", args=[quote(id)], current_app=site)


def workers_url(site: str) -> str:
    """The list of workers."""
    return _list_of("worker", site)


def schedule_url(site: str, name: str, view: str = "change") -> str:
    """A page of a schedule."""
    return reverse(f"admin:django_kue_schedule_{view}", args=[quote(name)], current_app=site)


def schedules_url(site: str) -> str:
    """The list of schedules."""
    return _list_of("schedule", site)


def leads_to(request: HttpRequest, site: AdminSite, model: type[Model]) -> bool:
    """Whether the site has pages for a model, and this person may see them; if not, nothing links to them."""
    return site.is_registered(model) and site.get_model_admin(model).has_view_permission(request)


def worker_url_or_none(request: HttpRequest, site: AdminSite, id: str) -> str | None:
    """A worker's own page, for people who may see it."""
    return worker_url(site.name, id) if id and leads_to(request, site, models.Worker) else None


def workers_url_or_none(request: HttpRequest, site: AdminSite) -> str | None:
    """The list of workers, for people who may see it."""
    return workers_url(site.name) if leads_to(request, site, models.Worker) else None


def jobs_url_or_none(request: HttpRequest, site: AdminSite) -> str | None:
    """The list of jobs, for people who may see it."""
    return jobs_url(site.name) if leads_to(request, site, models.Job) else None


def _list_of(model: str, site: str) -> str:
    return reverse(f"admin:django_kue_{model}_changelist", current_app=site)
