"""``kue show``: everything that's known about one job."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django_kue import registry
from django_kue.cli import arguments
from django_kue.cli.arguments import Subcommand
from django_kue.cli.jobs import ROLES, as_json
from django_kue.cli.screen import Screen, as_text
from django_kue.cli.tables import Cell, Column, Painted
from django_kue.display import shown_arguments, shown_result
from django_kue.jobs import Job, JobError, LogLine, Run
from django_kue.redaction import without_secrets
from django_kue.states import State
from django_kue.words import NONE, ago, clock, lines, one_line, span

BAR = 30  # columns of the progress bar
WHY_CUT_OFF = {
    "stopped": "its worker had to stop",
    "stalled": "its process died or was ended; it isn't blamed",
}
WITH_ITS_WORKER = "ran, nobody knows for how long"  # all that's known of a run that ended with its worker


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID")
    parser.add_argument(
        "--logs",
        type=arguments.whole(0, 1_000_000),
        default=20,
        metavar="N",
        help="the last N log lines (20)",
    )
    arguments.add_json(parser)


def _show(screen: Screen, options: Namespace) -> int:
    job = Job.get(options.id)
    runs = job.runs()
    logs = job.logs(options.logs) if options.logs else []
    if options.is_json:
        screen.json(
            as_json(job)
            | {
                "runs": [_run_as_json(run) for run in runs],
                "logs": [{"at": line.at, "text": line.text} for line in logs],
            }
        )
        return 0
    _head(screen, job)
    _facts(screen, job)
    _values(screen, "Arguments", shown_arguments(job))
    if job.state is State.COMPLETED:
        _value(screen, "Result", shown_result(job))
    _timeline(screen, job, runs)
    _error(screen, job.error)
    _logs(screen, logs, options.logs)
    return 0


def _head(screen: Screen, job: Job) -> None:
    screen.line(f"{screen.paint(one_line(job.title), 'MIGRATE_LABEL')}  {_state(screen, job)}")
    if job.progress and job.state is not State.COMPLETED:
        full = round(BAR * job.progress / 100)
        screen.line(f"{'█' * full}{'░' * (BAR - full)} {job.progress:g} %")
    if job.is_cancelling:
        screen.line("It was asked to stop: it's cancelled when its run has ended.", "WARNING")
    if job.is_parked and job.is_encrypted and registry.get(job.name):
        screen.line("No worker that saw it could open its arguments: it waits for one that can.", "WARNING")
    elif job.is_parked:
        known = "" if registry.get(job.name) else ", and neither does this process"
        screen.line(
            f"No worker that saw it knows {one_line(job.name)}{known}: it waits for one that does.", "WARNING"
        )


def _state(screen: Screen, job: Job) -> str:
    return screen.paint(job.state, ROLES.get(job.state, "SQL_FIELD"))


def _facts(screen: Screen, job: Job) -> None:
    facts: dict[str, Any] = {
        "id": job.id,
        "function": job.name,
        "queue": job.queue,
        "priority": job.priority,
        "attempts": f"{job.attempts_made} of {job.attempts}",
    }
    if job.crashes:
        facts["crashes"] = job.crashes
    if job.schedule:
        facts["schedule"] = job.schedule
    if job.worker:
        facts["worker"] = job.worker
    if job.progress_data is not None:
        facts["progress"] = as_text(without_secrets(job.progress_data))
    for name, value in facts.items():
        screen.line(f"  {name:<9} {one_line(value)}")


def _values(screen: Screen, title: str, values: dict[str, Any]) -> None:
    if not values:
        return
    _heading(screen, title)
    broad = max(len(one_line(name)) for name in values)
    for name, value in values.items():
        screen.line(f"  {one_line(name):<{broad}}  {one_line(as_text(value))}")


def _value(screen: Screen, title: str, value: Any) -> None:
    _heading(screen, title)
    for line in lines(json.dumps(value, ensure_ascii=False, indent=2, default=str)):
        screen.line(f"  {line}")


def _timeline(screen: Screen, job: Job, runs: list[Run]) -> None:
    _heading(screen, "Timeline")
    moments = sorted(_moments(job, runs), key=lambda row: row[0])
    rows: list[list[Cell]] = [[clock(at), ago(at), what, note] for at, what, note in moments]
    columns = (Column("AT"), Column("AGE", is_number=True, rank=1), Column("WHAT"), Column("NOTE", least=12))
    screen.table(columns, rows)


def _moments(job: Job, runs: list[Run]) -> Iterator[tuple[datetime, Cell, Cell]]:
    yield job.created_at, "enqueued", ""
    for run in runs:
        is_final = run is runs[-1] and run.outcome != "retried" and not run.is_cut_off
        is_the_end = is_final and run.finished_at == job.finished_at
        if not is_the_end:  # that row comes below
            yield run.finished_at, Painted(f"attempt {run.attempt} {run.outcome}", "WARNING"), _note(run)
    if job.run_at is not None and job.state is State.DELAYED:
        yield job.run_at, "due", ""
    if job.started_at is not None:
        yield job.started_at, "started", f"on {job.worker}" if job.worker else ""
    if job.finished_at is not None:
        note = _ran(job.started_at, job.finished_at, _without_start(job)) + (
            f": {job.error.summary}" if job.error else ""
        )
        yield job.finished_at, Painted(job.state, ROLES.get(job.state, "")), note


def _note(run: Run) -> str:
    if run.outcome in WHY_CUT_OFF:
        since = f" since {clock(run.started_at)}" if run.started_at else ""
        often = f"{run.times} times, the last on" if run.times > 1 else "on"
        return f"{often} {run.worker}{since}: {WHY_CUT_OFF[run.outcome]}"
    again = f", again in {span(run.delay)}" if run.outcome == "retried" else ""
    ran = _ran(run.started_at, run.finished_at, WITH_ITS_WORKER)
    return f"{ran}{again}: {run.error.summary if run.error else NONE}"


def _ran(started: datetime | None, finished: datetime, otherwise: str) -> str:
    return f"ran {span((finished - started).total_seconds())}" if started else otherwise


def _without_start(job: Job) -> str:
    """The note for a job that's over, but whose start wasn't recorded."""
    if job.state is not State.CANCELLED:
        return WITH_ITS_WORKER
    return "was with a worker; whether it ran isn't known" if job.worker else "never started"


def _error(screen: Screen, error: JobError | None) -> None:
    if error is None:
        return
    _heading(screen, "Error")
    screen.line(f"  {one_line(error)}", "ERROR")
    for line in lines(error.traceback.rstrip()) if error.traceback.strip() else ():
        screen.line(f"  {line}")


def _logs(screen: Screen, logs: list[LogLine], most: int) -> None:
    if not logs:
        return
    _heading(screen, f"Log (the last {most} lines)" if len(logs) == most else "Log")
    for line in logs:
        screen.line(f"  {screen.paint(clock(line.at, '%H:%M:%S'), 'SQL_FIELD')}  {one_line(line.text)}")


def _heading(screen: Screen, title: str) -> None:
    screen.line()
    screen.line(title, "MIGRATE_HEADING")


def _run_as_json(run: Run) -> dict[str, Any]:
    return {
        "attempt": run.attempt,
        "outcome": run.outcome,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "worker": run.worker,
        "delay": run.delay,
        "times": run.times,
        "error": None
        if run.error is None
        else {"type": run.error.type, "message": run.error.message, "traceback": run.error.traceback},
    }


SUBCOMMANDS = (Subcommand("show", "Everything that's known about one job", _arguments, _show),)
