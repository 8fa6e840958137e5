"""What the admin's index and sidebar show: how many jobs failed, and whether there are schedules."""

from __future__ import annotations

import logging
import time
from functools import wraps
from typing import Any, NamedTuple

from django.contrib.admin import AdminSite
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.utils.translation import ngettext

from django_kue.conf import settings
from django_kue.errors import KueError
from django_kue.models import Job
from django_kue.store import reads, ticking, transport

logger = logging.getLogger("django_kue.admin")

FRESH = 5.0  # seconds that a count is good for
SILENT = 10.0  # seconds until Redis is asked again after it didn't answer
PATIENCE = 0.25  # seconds that the index waits for Redis


def show_failed_count(site: AdminSite) -> None:
    """Make ``site`` show "Jobs (3 failed)" to people who may see jobs.

    Django has no hook for what the index says about a model, but calls the site's ``get_app_list`` for both
    index and sidebar. So that's wrapped on this one site; the project's class stays as it is. Calling this
    again changes nothing.
    """
    get_app_list = site.get_app_list
    if getattr(get_app_list, "counts_failed_jobs", False):
        return

    @wraps(get_app_list)
    def with_failed_count(request: HttpRequest, app_label: str | None = None) -> list[Any]:
        apps = get_app_list(request, app_label)
        for app in apps:
            for model in app["models"]:
                if model.get("model") is Job and model["perms"].get("view"):
                    model["name"] = _with_count(model["name"], failed_count())
        return apps

    with_failed_count.counts_failed_jobs = True  # type: ignore[attr-defined]
    site.get_app_list = with_failed_count  # type: ignore[method-assign]


def failed_count() -> int | None:
    """How many failed jobs all queues have, as of the last few seconds; ``None`` when unknown."""
    known = _asked()
    return None if known is None else known.failed


def has_schedules() -> bool | None:
    """Whether any queue has, or had, schedules, as of the last few seconds; ``None`` when unknown."""
    known = _asked()
    return None if known is None else known.has_schedules


class _Known(NamedTuple):
    failed: int
    has_schedules: bool


def _asked() -> _Known | None:
    global _known, _until
    if time.monotonic() >= _until:
        try:
            _known, _until = _counted(), time.monotonic() + FRESH
        except Exception as error:  # a missing number is no reason to lose the whole admin
            is_away = isinstance(error, (KueError, OSError))
            logger.warning("The admin's index can't read from Redis: %s", error, exc_info=not is_away)
            _known, _until = None, time.monotonic() + SILENT
    return _known


_known: _Known | None = None
_until = 0.0


def forget(**kwargs: Any) -> None:
    """Count again on the next page, for example because the settings changed."""
    global _until
    if kwargs.get("setting") in (None, "KUE", "CACHES"):
        _until = 0.0


setting_changed.connect(forget, dispatch_uid="django_kue.admin.index")


def _counted() -> _Known:
    link = transport.borrow()
    deadline = time.monotonic() + PATIENCE
    try:
        registry, scheduled = link.send(reads.registry(), ticking.scheduled(), timeout=PATIENCE)
        names = sorted({*settings.queues, *registry.queues})
        counts = link.send(*map(reads.counts, names), timeout=max(deadline - time.monotonic(), 0.01))
    finally:
        transport.give_back(link)
    return _Known(sum(count["failed"] for count in counts), bool(scheduled))


def _with_count(name: str, failed: int | None) -> str:
    if not failed:
        return name
    return ngettext("%(jobs)s (%(count)d failed)", "%(jobs)s (%(count)d failed)", failed) % {
        "jobs": name,
        "count": failed,
    }
