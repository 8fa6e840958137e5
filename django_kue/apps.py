"""The app: at start every installed app's ``jobs.py`` and ``tasks.py`` is imported."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class KueConfig(AppConfig):
    name = "django_kue"
    verbose_name = "Jobs"

    def ready(self) -> None:
        from django_kue import bulk, checks  # noqa: F401 - they register a job, and the checks

        autodiscover_modules("jobs", "tasks")
