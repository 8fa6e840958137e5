"""Housekeeping: work that comes by itself, each night."""

from __future__ import annotations

from django.contrib.sessions.models import Session
from django.utils import timezone
from django_kue import current_job, job


# The worker that has declared it fires it; with ten workers it still comes once. The admin's page "Schedules"
# tells when it comes next, and how it went.
@job(cron="10 4 * * *", timeout=60)
def forget_old_sessions() -> int:
    """Delete sessions that have run out. Returns how many there were."""
    deleted, _ = Session.objects.filter(expire_date__lt=timezone.now()).delete()
    current_job().log("%d sessions had run out", deleted)
    return deleted
