"""What the pages show of schedules: their last ticks as a strip and as a table, and which ones to list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import localize
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from django_kue import schedules, ticks
from django_kue.jobs import Job
from django_kue.schedules import Schedule, Tick
from django_kue.schedules.schedule import REMOVED
from django_kue.templatetags.kue import full_date, label

# What a tick's square shows besides its colour, which not everybody can see.
SIGNS = {
    "completed": "✓", "failed": "✕", "cancelled": "⊘", "active": "▸", "waiting": "…", "delayed": "…",
    "missed": "–", "overlapped": "‖", "duplicate": "=", "removed": "·",
}  # fmt: skip
LABELS = {
    "missed": pgettext_lazy("tick", "missed"),
    "overlapped": pgettext_lazy("tick", "overlapped"),
    "duplicate": pgettext_lazy("tick", "duplicate"),
    "removed": pgettext_lazy("tick", "job removed"),
}
STATES: Mapping[str, tuple[Any, Callable[[Schedule], bool]]] = {
    "failing": (gettext_lazy("last run failed"), lambda one: _last_outcome(one) == "failed"),
    "late": (gettext_lazy("overdue"), lambda one: one.is_late),
    "paused": (pgettext_lazy("schedule", "paused"), lambda one: one.is_paused),
    "undeclared": (gettext_lazy("no longer declared"), lambda one: one.undeclared_since is not None),
    "changed": (gettext_lazy("changed here"), lambda one: bool(one.overrides)),
}


@dataclass(frozen=True, slots=True)
class TickView:
    """A tick as a square and as a row."""

    tick: Tick
    label: str
    sign: str
    took: timedelta | None  # the run of its job, while that's kept

    @property
    def has_job(self) -> bool:
        """Whether its job may have a page: nobody removed the job, but retention may have."""
        return bool(self.tick.job_id) and self.tick.outcome != REMOVED

    @property
    def words(self) -> str:
        """All of it, as one line of text."""
        how = _(" (run now)") if self.tick.is_manual else ""
        return f"{self.label}{how}, {full_date(self.tick.at)}"


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule with everything that a page shows about it."""

    schedule: Schedule
    ticks: tuple[TickView, ...]  # the newest first

    @property
    def strip(self) -> Sequence[TickView]:
        """Its ticks as they're drawn: the newest at the end."""
        return self.ticks[::-1]

    @property
    def summary(self) -> str:
        """The strip in words: ``Last ticks: 18 completed, 2 failed``."""
        counted = Counter(view.label for view in self.ticks)
        found = ", ".join(f"{localize(count)} {label}" for label, count in counted.most_common())
        return _("Last ticks: %s") % (found or _("none yet"))

    @property
    def next_run(self) -> datetime | None:
        """When it runs next, in the time zone that its times are shown in."""
        at = self.schedule.next_run
        return None if at is None else at.astimezone(ticks.read_zone(self.zone))

    @property
    def zone(self) -> str:
        """The time zone of its cron expression. An interval has none: its times are shown in the reader's."""
        return self.schedule.timezone if self.schedule.cron else timezone.get_current_timezone_name()

    @property
    def last(self) -> TickView | None:
        """The newest tick that made a job."""
        return next((view for view in self.ticks if view.tick.job_id), None)

    @property
    def is_known(self) -> bool:
        """Whether its function is known in this process."""
        return schedules.is_known(self.schedule)

    @property
    def may_be_deleted(self) -> bool:
        return not self.schedule.is_declared or self.schedule.undeclared_since is not None


def view_of(schedule: Schedule, jobs: Mapping[str, Job] | None = None) -> ScheduleView:
    """A schedule's view; ``jobs`` are its ticks' jobs that are still kept, which tell how long they took."""
    views = [_view_of(tick, (jobs or {}).get(tick.job_id)) for tick in schedule.last_runs]
    return ScheduleView(schedule, tuple(views))


def _view_of(tick: Tick, job: Job | None) -> TickView:
    word = str(LABELS.get(tick.outcome) or label(tick.outcome))
    if tick.count > 1:
        ticks_left_out = ngettext("%(word)s (%(count)s tick)", "%(word)s (%(count)s ticks)", tick.count)
        word = ticks_left_out % {"word": word, "count": localize(tick.count)}
    is_over = job is not None and job.started_at is not None and job.finished_at is not None
    took = job.finished_at - job.started_at if is_over else None  # type: ignore[union-attr, operator]
    return TickView(tick, word, SIGNS.get(tick.outcome, "?"), took)


@dataclass(frozen=True, slots=True)
class Coming:
    """A run that's to come."""

    at: datetime  # in the schedule's zone
    here: datetime | None  # in the reader's zone, if its clock shows another time


def coming(schedule: Schedule) -> list[Coming]:
    """The next runs, even if the schedule is paused."""
    if schedule.cron is None:
        return [Coming(timezone.localtime(at), None) for at in schedule.next_runs()]
    return [Coming(at, _elsewhere(at)) for at in schedule.next_runs()]


def _elsewhere(at: datetime) -> datetime | None:
    local = timezone.localtime(at)
    return None if local.replace(tzinfo=None) == at.replace(tzinfo=None) else local


def chosen(found: Iterable[Schedule], text: str, state: str, queue: str) -> list[Schedule]:
    """The schedules that match a search and the filters."""
    holds = STATES[state][1] if state in STATES else None
    return [
        one
        for one in found
        if (holds is None or holds(one))
        and queue in ("", one.queue)
        and text.casefold() in f"{one.name} {one.function}".casefold()
    ]


def _last_outcome(schedule: Schedule) -> str:
    return "" if schedule.last_run is None else schedule.last_run.outcome
