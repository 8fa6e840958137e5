"""The settings: what the system checks say, in the doctor's words."""

from __future__ import annotations

from django.core import checks

from django_kue.doctor.findings import Finding, Level

TAG = "django_kue"


def examine() -> list[Finding]:
    """What's wrong in ``KUE``. Nothing is connected to."""
    return said_by_checks(deploy=False) or [Finding(Level.OK, "settings.good", "The settings are good.")]


def said_by_checks(*, deploy: bool) -> list[Finding]:
    """The messages of django-kue's system checks, those apart that the project silences."""
    found = checks.run_checks(tags=[TAG], include_deployment_checks=deploy)
    return [_finding(message) for message in found if not message.is_silenced()]


def _finding(message: checks.CheckMessage) -> Finding:
    if message.level >= checks.ERROR:
        level = Level.ERROR
    else:
        level = Level.WARNING if message.level >= checks.WARNING else Level.INFO
    return Finding(level, message.id or TAG, str(message.msg), message.hint or "")
