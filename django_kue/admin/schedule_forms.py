"""The forms for a schedule: when it runs and, for one that's made here, what it calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_kue import bulk, registry, schedules, ticks
from django_kue.admin import arguments
from django_kue.admin.arguments import Definition, arguments_field
from django_kue.conf import settings
from django_kue.errors import ScheduleDoesNotExist
from django_kue.ids import SCHEDULE_NAME
from django_kue.kinds import DAY, HOUR, MINUTE
from django_kue.schedules import Schedule
from django_kue.ticks import Cron, Every, Rule

UNITS = [
    (1, gettext_lazy("seconds")), (MINUTE, gettext_lazy("minutes")), (HOUR, gettext_lazy("hours")),
    (DAY, gettext_lazy("days")),
]  # fmt: skip
CATCH_UP = [
    ("last", gettext_lazy("run once, for the newest missed tick")),
    ("all", gettext_lazy("run once for each missed tick")),
    ("none", gettext_lazy("run for none of them")),
]


@cache
def zones() -> list[str]:
    """The time zones that this machine knows."""
    return sorted(available_timezones())


class RuleForm(forms.Form):
    """When it runs: a cron expression in a time zone, or an interval. Once valid, its data has ``rule``."""

    cron = forms.CharField(
        label=gettext_lazy("Cron expression"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("Minute, hour, day of month, month, day of week; or leave it empty."),
        widget=forms.TextInput({"placeholder": "30 2 * * mon", "spellcheck": "false", "autocomplete": "off"}),
    )
    timezone = forms.CharField(
        label=gettext_lazy("Time zone"),
        max_length=100,
        required=False,
        help_text=gettext_lazy("That of the cron expression."),
        widget=forms.TextInput({"list": "kue-zones", "spellcheck": "false", "autocomplete": "off"}),
    )
    every = forms.FloatField(
        label=gettext_lazy("Or every"),
        required=False,
        help_text=gettext_lazy("An interval, in place of a cron expression."),
        widget=forms.NumberInput({"min": 0, "step": "any"}),
    )
    unit = forms.TypedChoiceField(
        label=gettext_lazy("Unit"), coerce=int, choices=UNITS, initial=MINUTE, required=False
    )

    def clean_timezone(self) -> str:
        zone = self.cleaned_data["timezone"].strip() or django_settings.TIME_ZONE
        try:
            ticks.read_zone(zone)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return str(zone)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if {"cron", "timezone", "every", "unit"} <= cleaned.keys():
            self._read_rule(cleaned)
        return cleaned

    def _read_rule(self, cleaned: dict[str, Any]) -> None:
        cron, every, unit = cleaned["cron"], cleaned["every"], cleaned["unit"] or 1
        if bool(cron) == (every is not None):
            self.add_error("cron", _("Write either a cron expression or an interval, not both."))
            return
        try:
            cleaned["rule"] = Cron.of(cron, cleaned["timezone"]) if cron else Every.of(every * unit)
        except ValueError as error:
            self.add_error("cron" if cron else "every", str(error))


class WhenForm(RuleForm):
    """Everything that can be changed about a declared schedule."""

    catch_up = forms.ChoiceField(
        label=gettext_lazy("After an outage"),
        choices=CATCH_UP,
        initial="last",
        help_text=gettext_lazy("When no worker was running at the time, or for a while."),
    )
    overlap = forms.BooleanField(
        label=gettext_lazy("A run may start while the previous one is still running"),
        required=False,
        initial=True,
    )

    def __init__(self, data: Any = None, *, schedule: Schedule | None = None) -> None:
        initial: dict[str, Any] = {"timezone": django_settings.TIME_ZONE}
        if schedule is not None:
            initial |= _initial_of(schedule.rule)
            initial |= {"catch_up": schedule.catch_up, "overlap": schedule.overlap}
        super().__init__(data, initial=initial)

    @property
    def wish(self) -> dict[str, Any]:
        """The arguments for ``schedules.update``, if the form is valid."""
        rule = self.cleaned_data["rule"]
        return _said(rule) | {name: self.cleaned_data[name] for name in ("catch_up", "overlap")}


class EditForm(WhenForm):
    """What can be changed about a schedule that was made at run time: its arguments, too."""

    arguments = arguments_field()

    def __init__(self, data: Any, *, schedule: Schedule, definition: Definition) -> None:
        super().__init__(data, schedule=schedule)
        # Templates call what's callable, which would run the job. They can't reach names that begin with "_".
        self._definition = definition
        self.stored = arguments.stored_arguments(schedule._arguments, definition)
        self.is_complete = arguments.is_complete(schedule._arguments, definition)
        self.signature = str(definition.signature)
        self.initial["arguments"] = arguments.shown(self.stored)

    def clean_arguments(self) -> Mapping[str, Any] | None:
        """The call's args and kwargs; ``None`` if nobody changed them, so that what can't be read stays."""
        edited = arguments.read_object(self.cleaned_data["arguments"])
        if arguments.is_same(edited, arguments.read_object(self.initial["arguments"])):
            return None
        return _call(self._definition, arguments.values_of(edited, self.stored))

    @property
    def wish(self) -> dict[str, Any]:
        return super().wish | (self.cleaned_data["arguments"] or {})


class AddForm(WhenForm):
    """A new schedule."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=200)
    function = forms.ChoiceField(label=gettext_lazy("Function"))
    queue = forms.ChoiceField(
        label=gettext_lazy("Queue"),
        required=False,
        help_text=gettext_lazy("Leave it empty for the function’s own."),
    )
    arguments = arguments_field()

    field_order = ("name", "function", "arguments", "queue")

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.initial["arguments"] = "{}"
        self._choose("function", ((name, name) for name in functions()))
        self._choose("queue", ((name, name) for name in settings.queues))

    def _choose(self, field: str, choices: Iterator[tuple[str, str]]) -> None:
        chooser = self.fields[field]
        assert isinstance(chooser, forms.ChoiceField)
        chooser.choices = [("", "---------"), *choices]

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if not SCHEDULE_NAME.fullmatch(name):
            raise ValidationError(_("Write 1 to 200 printable characters, without commas and |."))
        try:
            schedules.get(name)
        except ScheduleDoesNotExist:
            return name
        raise ValidationError(_("There’s a schedule with this name already."))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        definition = registry.get(cleaned.get("function", ""))
        if definition is not None and "arguments" in cleaned:
            try:
                values = arguments.values_of(arguments.read_object(cleaned["arguments"]), {})
                cleaned["call"] = _call(definition, values)
            except ValidationError as error:
                self.add_error("arguments", error)
        return cleaned

    @property
    def wish(self) -> dict[str, Any]:
        """The arguments for ``schedules.create``, besides name and function."""
        call: dict[str, Any] = self.cleaned_data["call"]
        return super().wish | call | {"queue": self.cleaned_data["queue"] or None}


def functions() -> list[str]:
    """Names of the functions that may be chosen. Not the bulk job: its arguments say what it does to which
    jobs, and starting one takes that verb's permission."""
    return [one.name for one in registry.functions() if one.name != bulk.bulk_job.name]


def form_of(schedule: Schedule, data: Any = None) -> WhenForm:
    """The form for what may be changed about a schedule here."""
    definition = registry.get(schedule.function)
    if schedule.is_declared or definition is None or definition.name not in functions():
        return WhenForm(data, schedule=schedule)
    return EditForm(data, schedule=schedule, definition=definition)


def _call(definition: Definition, values: Mapping[str, Any]) -> dict[str, Any]:
    args, kwargs = arguments.called_with(definition, values)
    return {"args": args, "kwargs": kwargs}


def _said(rule: Rule) -> dict[str, Any]:
    """A rule as the functions in ``schedules`` take it."""
    if isinstance(rule, Cron):
        return {"cron": rule.text, "timezone": rule.zone}
    return {"every": timedelta(milliseconds=rule.ms)}


def _initial_of(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, Cron):
        return {"cron": rule.text, "timezone": rule.zone}
    unit = max(size for size, _word in UNITS if size == 1 or rule.ms % (1000 * size) == 0)
    amount = rule.ms / (1000 * unit)
    return {"every": int(amount) if amount == int(amount) else amount, "unit": unit}
