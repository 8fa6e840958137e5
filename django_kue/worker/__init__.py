"""The worker: a supervisor and its child processes. ``docs/explanation/internals.md`` walks through it."""

from __future__ import annotations

from django_kue.worker.options import WorkerOptions
from django_kue.worker.supervisor import supervise

__all__ = ["WorkerOptions", "supervise"]
