"""Housekeeping: work that runs by itself, every night."""

from __future__ import annotations

from django.contrib.sessions.models import Session
from django.utils import timezone
from django_kue import current_job, job


# The workers that have declared it fire it; with ten workers it still runs once. The admin's page "Schedules"
# shows when it runs next, and how it went.
@job(cron="10 4 * * *", timeout=60)
def forget_old_sessions() -> int:
    """Delete expired sessions. Returns how many there were."""
    deleted, _ = Session.objects.filter(expire_date__lt=timezone.now()).delete()
    current_job().log("%d sessions had expired", deleted)
    return deleted
