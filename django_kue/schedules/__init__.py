"""Schedules: jobs that run again and again. They're declared by ``@job(cron=…)``, ``@schedule`` and
``KUE["SCHEDULES"]``, or created at run time, here.

>>> from django_kue import schedules
>>> north = schedules.create("north", weekly_report, cron="30 2 * * mon", args=["north"])
>>> schedules.pause("north").is_paused
True
"""

from __future__ import annotations

from django_kue.schedules.schedule import Schedule, Tick
from django_kue.schedules.verbs import (
    aall,
    acreate,
    adelete,
    aget,
    all,
    apause,
    areset,
    aresume,
    arun_now,
    aupdate,
    create,
    delete,
    get,
    is_known,
    pause,
    reset,
    resume,
    run_now,
    update,
)

__all__ = [
    "Schedule", "Tick",
    "all", "get", "create", "update", "reset", "pause", "resume", "run_now", "delete", "is_known",
    "aall", "aget", "acreate", "aupdate", "areset", "apause", "aresume", "arun_now", "adelete",
]  # fmt: skip
