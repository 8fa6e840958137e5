"""Context that travels with a job: the language, the time zone, and context variables, from the code that
enqueues it to its runs. ``KUE["CONTEXT"]`` names what travels; nothing else is sent.

It's a middleware, the outermost one. A language or time zone that's the settings' own isn't stored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from datetime import timedelta
from datetime import timezone as fixed_offset
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone, translation
from django.utils.module_loading import import_string

from django_kue.conf import settings
from django_kue.context import JobContext
from django_kue.middleware import Middleware, Order

logger = logging.getLogger("django_kue")

_NOTHING: Any = object()  # to send


class Traveller(Protocol):
    """One thing that travels, under its name in the headers."""

    def now(self) -> Any:
        """Its value here; ``_NOTHING`` if that needn't be sent."""

    def restored(self, value: Any) -> AbstractContextManager[Any]:
        """Inside the ``with`` block it has this value; ``_NOTHING`` if the headers have none."""


class Language:
    """The active language, as Django's translations have it. ``None``: they're switched off."""

    def now(self) -> Any:
        language = translation.get_language()
        return _NOTHING if language == django_settings.LANGUAGE_CODE else language

    def restored(self, value: Any) -> AbstractContextManager[Any]:
        if value is _NOTHING:
            value = django_settings.LANGUAGE_CODE
        elif value is not None and not translation.check_for_language(str(value)):
            logger.warning("no language %.40r is known here; the job runs in the default one", value)
            value = django_settings.LANGUAGE_CODE
        return translation.override(value)


class TimeZone:
    """The current time zone: the name of a zone, or the minutes of a fixed offset."""

    def now(self) -> Any:
        zone = timezone.get_current_timezone()
        if zone == timezone.get_default_timezone():
            return _NOTHING
        if isinstance(zone, ZoneInfo) and zone.key is not None:
            return zone.key
        offset = zone.utcoffset(None)
        if offset is None:
            raise ValueError(f"the time zone {zone!r} has no name that could travel; activate a ZoneInfo")
        return offset // timedelta(minutes=1)

    def restored(self, value: Any) -> AbstractContextManager[Any]:
        if value is _NOTHING:
            return timezone.override(timezone.get_default_timezone())
        zone = fixed_offset(timedelta(minutes=value)) if isinstance(value, int) else ZoneInfo(str(value))
        return timezone.override(zone)


class Variable:
    """A context variable, if it's set. Its value goes through the codec, as arguments do."""

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable

    def now(self) -> Any:
        return copy_context().get(self._variable, _NOTHING)  # its own get() might return a default

    @contextmanager
    def restored(self, value: Any) -> Iterator[None]:
        if value is _NOTHING:
            yield
            return
        token = self._variable.set(value)
        try:
            yield
        finally:
            self._variable.reset(token)


def travellers(names: tuple[str, ...]) -> Mapping[str, Traveller]:
    """What ``KUE["CONTEXT"]`` names.

    Raises:
        ImproperlyConfigured: a name doesn't lead to anything that can travel.
    """
    return {name: _traveller(name) for name in names}


def _traveller(name: str) -> Traveller:
    if name == "language":
        return Language()
    if name == "timezone":
        return TimeZone()
    try:
        found = import_string(name)
    except ImportError as error:
        raise ImproperlyConfigured(f'KUE["CONTEXT"]: {name} can\'t be imported: {error}') from error
    if not isinstance(found, ContextVar):
        raise ImproperlyConfigured(f'KUE["CONTEXT"]: {name} is {found!r:.80}, and not a ContextVar')
    return Variable(found)


class Travelling(Middleware):
    """Sends what ``KUE["CONTEXT"]`` names with each job, and restores it for each run."""

    def __init__(self) -> None:
        self._travellers = travellers(settings.CONTEXT)

    def enqueue(self, order: Order) -> Iterator[None]:
        for name, traveller in self._travellers.items():
            # A copy of another job has headers already.
            if name not in order.headers and (value := traveller.now()) is not _NOTHING:
                order.headers[name] = value
        yield

    def run(self, context: JobContext) -> Iterator[None]:
        # Only names from the settings are looked up: what's in Redis can't choose a variable.
        headers = context.headers
        with ExitStack() as stack:
            for name, traveller in self._travellers.items():
                stack.enter_context(traveller.restored(headers.get(name, _NOTHING)))
            yield
