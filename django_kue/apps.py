"""The Django app: at startup, it imports every installed app's ``jobs.py`` and ``tasks.py``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.utils.module_loading import import_string, module_has_submodule


class KueConfig(AppConfig):
    name = "django_kue"
    verbose_name = "Jobs"

    def ready(self) -> None:
        from django_kue import bulk, checks  # noqa: F401 - registers a job, and the checks

        _adopt_tasks(list(_imported()))


def _imported() -> Iterator[ModuleType]:
    """The modules in which projects define jobs. This app's own ``tasks`` isn't one of them."""
    for app in apps.get_app_configs():
        for name in ("jobs", "tasks"):
            if app.name != KueConfig.name and app.module and module_has_submodule(app.module, name):
                yield import_module(f"{app.name}.{name}")


def _adopt_tasks(modules: list[ModuleType]) -> None:
    """Let our workers know the tasks of other backends, too: they may be enqueued on ours."""
    for alias, params in getattr(settings, "TASKS", {}).items():
        if _is_ours(params):
            from django_kue.tasks.api import task_backends  # only where there are tasks

            ours: Any = task_backends[alias]
            ours.adopt(modules)
            return


def _is_ours(params: Mapping[str, Any]) -> bool:
    """Whether a backend of TASKS is django-kue's. Django reports one that can't be imported."""
    try:
        backend = import_string(params["BACKEND"])
    except (ImportError, KeyError):
        return False
    ours = sys.modules.get("django_kue.tasks.backend")  # loaded, if TASKS names it
    return ours is not None and issubclass(backend, ours.KueBackend)
