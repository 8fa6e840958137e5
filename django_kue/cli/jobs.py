"""``kue jobs``: a page of jobs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django_kue import registry
from django_kue.cli import arguments
from django_kue.cli.arguments import Subcommand, queue_named
from django_kue.cli.screen import Screen
from django_kue.cli.tables import Cell, Column, Dotted, Painted
from django_kue.display import shown_arguments, shown_result
from django_kue.jobs import Job
from django_kue.listing import Listing
from django_kue.queue import Queue, queues
from django_kue.redaction import without_secrets
from django_kue.states import State
from django_kue.words import NONE, ago, many, span

ORDER = (State.ACTIVE, State.WAITING, State.DELAYED, State.FAILED, State.CANCELLED, State.COMPLETED)
ROLES = {
    State.ACTIVE: "MIGRATE_HEADING", State.FAILED: "ERROR", State.CANCELLED: "WARNING",
    State.COMPLETED: "SUCCESS",
}  # fmt: skip
COLUMNS = (
    Column("ID"),
    Column("STATE"),
    Column("PRIO", is_number=True, rank=5),
    Column("RUNS", is_number=True, rank=4),
    Column("WHEN", is_number=True, rank=2),
    Column("TITLE", least=12, rank=1),
    Column("NOTE", least=12, rank=3),
)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--queue", metavar="QUEUE", help="default: all")
    parser.add_argument(
        "--state", type=arguments.state, metavar="STATE", help=f"one of {', '.join(State)}; default: all"
    )
    arguments.add_choice(parser)
    parser.add_argument(
        "--limit", type=arguments.whole(1, 1000), default=25, metavar="N", help="show at most N jobs (25)"
    )
    parser.add_argument(
        "--offset", type=arguments.whole(0, 10**9), default=0, metavar="N", help="jobs to skip (0)"
    )
    parser.add_argument(
        "--find",
        type=arguments.search_pair,
        action="append",
        metavar="NAME=VALUE",
        help="jobs whose search key has this value; a value that is JSON is read as JSON: order_id=17, "
        "code='\"17\"'. May be repeated",
    )
    arguments.add_json(parser)


def _jobs(screen: Screen, options: Namespace) -> int:
    if options.find and (options.function or options.text):
        raise arguments.misused("--find can't be combined with --function or --text.")
    chosen = [queue_named(options.queue)] if options.queue else queues()
    if options.find:
        total, jobs = _found(chosen, options)
    elif options.function or options.text:
        total, jobs = _chosen(screen, options)
    else:
        total, jobs = _listed(chosen, options)
    if options.is_json:
        screen.json({"total": total, "offset": options.offset, "jobs": [as_json(job) for job in jobs]})
        return 0
    if jobs:
        screen.table(COLUMNS, [_row(job) for job in jobs])
    screen.line(_summary(options, total, len(jobs)))
    return 0


def _found(chosen: Sequence[Queue], options: Namespace) -> tuple[int, list[Job]]:
    wanted = dict(options.find)
    try:
        found = [job for queue in chosen for job in queue.find(**wanted)]
    except ValueError as error:
        raise arguments.misused(str(error)) from error
    found = [job for job in found if options.state in (None, job.state)]
    return len(found), found[options.offset : options.offset + options.limit]


def _chosen(screen: Screen, options: Namespace) -> tuple[int, list[Job]]:
    """Jobs chosen by function or text, newest first."""
    listing = Listing(
        state=options.state,
        queue=options.queue,
        name=options.function,
        text=options.text or "",
        is_patient=True,
    )
    jobs = listing.jobs(options.offset, options.limit)
    looked, total, is_exact = listing.scope()
    if not is_exact:
        screen.complain(f"Only the newest {looked:,} of {many(total, 'job')} were looked at.")
    return listing.count(), jobs


def _listed(chosen: Sequence[Queue], options: Namespace) -> tuple[int, list[Job]]:
    """A page of all lists in a row: by state, and within a state by queue. Counts are cheap."""
    counts = {queue: queue.counts() for queue in chosen}
    total, skip = 0, options.offset
    jobs: list[Job] = []
    for state in [options.state] if options.state else ORDER:
        for queue in chosen:
            here = counts[queue][state]
            left = options.limit - len(jobs)
            if skip < here and left:
                newest_first = state.is_finished  # other jobs are listed in the order of their turn
                jobs += queue.jobs(state, offset=skip, limit=left, newest_first=newest_first)
            skip = max(0, skip - here)
            total += here
    return total, jobs


def _why_none(wanted: Mapping[str, Any]) -> str:
    """A hint at what may be wrong with a search that found nothing."""
    known = {key for function in registry.functions() for key in function.options.search_keys}
    if strangers := [name for name in wanted if name not in known]:
        keys = ", ".join(repr(name) for name in strangers)
        return f" No @job here has search_keys=[{keys}]."
    return " A value like 17 is read as a number; for text write name='\"17\"'."


def _row(job: Job) -> list[Cell]:
    return [
        job.id,
        Painted(job.state, ROLES.get(job.state, "")),
        job.priority,
        f"{job.attempts_made}/{job.attempts}",
        _when(job),
        Dotted(job.name) if job.title == job.name else job.title,
        _note(job),
    ]


def _when(job: Job) -> str:
    if job.state is State.ACTIVE and job.started_at:
        return f"for {span(max(0.0, (datetime.now(UTC) - job.started_at).total_seconds()))}"
    if job.state is State.DELAYED:
        return ago(job.run_at)
    return ago(job.finished_at or job.created_at)


def _note(job: Job) -> Cell:
    if job.is_parked:
        why = "no worker can open it" if job.is_encrypted else "no worker knows its function"
        return Painted(why, "WARNING")
    if job.is_cancelling:
        return Painted("asked to stop", "WARNING")
    if job.state is State.ACTIVE and job.progress:
        return f"{job.progress:g} %"
    if job.error:
        return Painted(job.error.summary, "ERROR" if job.state is State.FAILED else "WARNING")
    if job.state is State.COMPLETED and job.started_at and job.finished_at:
        return f"ran {span((job.finished_at - job.started_at).total_seconds())}"
    return NONE


def _summary(options: Namespace, total: int, shown: int) -> str:
    if not total:
        hint = _why_none(dict(options.find)) if options.find else ""
        chooses = options.find or options.state or options.queue or options.function or options.text
        return f"No such jobs.{hint}" if chooses else "No jobs."
    if shown == total:
        return many(total, "job") + "."
    first, last = options.offset + 1, options.offset + shown
    if not shown:
        return f"There are only {many(total, 'job')}."
    more = f"; more with --offset {last}" if last < total else ""
    return f"{first:,}–{last:,} of {many(total, 'job')}{more}."


def as_json(job: Job) -> dict[str, Any]:
    """A job as JSON, for programs. Arguments are redacted as they are for people."""
    return {
        "id": job.id,
        "queue": job.queue,
        "name": job.name,
        "title": job.title,
        "state": job.state,
        "priority": job.priority,
        "attempts_made": job.attempts_made,
        "attempts": job.attempts,
        "crashes": job.crashes,
        "is_cancelling": job.is_cancelling,
        "is_parked": job.is_parked,
        "is_encrypted": job.is_encrypted,
        "created_at": job.created_at,
        "run_at": job.run_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "progress": job.progress,
        "progress_data": without_secrets(job.progress_data),
        "worker": job.worker,
        "schedule": job.schedule,
        "arguments": shown_arguments(job),
        "result": shown_result(job),
        "error": None
        if job.error is None
        else {"type": job.error.type, "message": job.error.message, "traceback": job.error.traceback},
    }


SUBCOMMANDS = (Subcommand("jobs", "A page of jobs", _arguments, _jobs),)
