"""Records who did what to which job or queue, where Django's admin shows it as an object's history."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models import Model

CHANGE = 2  # LogEntry's flag; its module can't be imported where the admin isn't installed
DELETION = 3


def note(user: Any, model: type[Model], message: str, obj: Any = None, flag: int = CHANGE) -> None:
    """Add an entry for one object of a model, or for many at once; do nothing without the admin installed."""
    if not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import LogEntry
    from django.contrib.admin.options import get_content_type_for_model

    LogEntry.objects.create(
        user_id=user.pk,
        content_type_id=get_content_type_for_model(model).pk,
        object_id=None if obj is None else str(obj.pk),
        object_repr=str(message if obj is None else obj)[:200],
        action_flag=flag,
        change_message=message,
    )
