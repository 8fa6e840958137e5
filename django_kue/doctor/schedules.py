"""The schedules: is each one fired, and if not, why not?"""

from __future__ import annotations

from collections.abc import Iterator

from django_kue import declared, schedules
from django_kue.declared import Plan
from django_kue.doctor.findings import Finding, Level, unseen
from django_kue.errors import StoreError
from django_kue.overview import Overview
from django_kue.schedules import Schedule
from django_kue.words import ago, many


def examine(seen: Overview) -> list[Finding]:
    """Findings about the schedules; none if there are no schedules."""
    served = {queue.name for queue in seen.queues if queue.workers}
    try:
        every = schedules.all()
    except StoreError as error:
        if not error.is_forbidden:
            raise
        return [unseen("the schedules")]
    found = [finding for schedule in every for finding in _one(schedule, schedule.queue in served)]
    untaken = declared.untaken({schedule.name for schedule in every})
    found += [_untaken(plan, plan.queue in served) for plan in untaken]
    if every and not any(finding.level is Level.ERROR for finding in found):
        what = f"{many(len(every), 'schedule')}, none of them late."
        found.insert(0, Finding(Level.OK, "schedule.good", what))
    return found


def _one(schedule: Schedule, is_served: bool) -> Iterator[Finding]:
    if schedule.undeclared_since is not None:
        yield Finding(
            Level.INFO,
            "schedule.undeclared",
            f"Schedule {schedule.name!r} isn't declared any more, and was switched off "
            f"{ago(schedule.undeclared_since)}.",
            f"If that's intended: manage.py kue schedules --delete {schedule.name!r}",
        )
    elif schedule.is_late:
        yield Finding(
            Level.ERROR,
            "schedule.late",
            f"Schedule {schedule.name!r} should have run {ago(schedule.next_run)}.",
            _remedy(schedule, is_served),
        )


def _untaken(plan: Plan, is_served: bool) -> Finding:
    return Finding(
        Level.WARNING,
        "schedule.untaken",
        f"Schedule {plan.name!r} is declared, and no worker has taken it up.",
        "The workers of its queue run a release that has no such schedule: start workers of this release."
        if is_served
        else _serve(plan.queue),
    )


def _serve(queue: str) -> str:
    return f"No worker serves its queue, {queue}. Start one: manage.py runworker --queues {queue}"


def _remedy(schedule: Schedule, is_served: bool) -> str:
    if not is_served:
        return _serve(schedule.queue)
    if not schedules.is_known(schedule):
        return (
            f"Its job {schedule.function} isn't known here. If it was renamed, give it @job(aliases=…); if "
            f"it's gone: manage.py kue schedules --delete {schedule.name!r}"
        )
    return (
        "Workers log why they can't fire it. If it's declared, a worker of the release with exactly this "
        "declaration has to run."
    )
