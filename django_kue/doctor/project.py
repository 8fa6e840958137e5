"""The settings: what the system checks say, in the doctor's words."""

from __future__ import annotations

from django.core import checks

from django_kue.doctor.findings import Finding, Level

TAG = "django_kue"


def examine() -> list[Finding]:
    """What's wrong in ``KUE``; doesn't connect to anything."""
    return _said(_messages()) or [Finding(Level.OK, "settings.good", "The settings are good.")]


def examine_server() -> list[Finding]:
    """What only ``manage.py check --deploy`` reports, because it asks Redis."""
    told = _messages()
    return _said([message for message in _messages(deploy=True) if message not in told])


def _messages(*, deploy: bool = False) -> list[checks.CheckMessage]:
    return checks.run_checks(tags=[TAG], include_deployment_checks=deploy)


def _said(messages: list[checks.CheckMessage]) -> list[Finding]:
    """These messages as findings, except those that the project silences."""
    return [_finding(message) for message in messages if not message.is_silenced()]


def _finding(message: checks.CheckMessage) -> Finding:
    if message.level >= checks.ERROR:
        level = Level.ERROR
    else:
        level = Level.WARNING if message.level >= checks.WARNING else Level.INFO
    return Finding(level, message.id or TAG, str(message.msg), message.hint or "")
