"""``kue retry|cancel|promote|remove``: what can be asked of single jobs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError

from django_kue.cli.arguments import Subcommand, queue_named
from django_kue.cli.screen import Screen
from django_kue.cli.text import one_line
from django_kue.errors import IllegalTransition, JobDoesNotExist
from django_kue.jobs import Job
from django_kue.words import many


def _ids(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID")


def _retry_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--queue", metavar="QUEUE", help="with --all-failed: the queue")
    parser.add_argument("--all-failed", action="store_true", help="all jobs of the queue that are failed now")


def _each(screen: Screen, ids: list[str], verb: Callable[[Job], Any], done: str) -> int:
    """Ask each job; say what became of it. Exit code 1 when one refused."""
    refused = 0
    for job_id in ids:
        try:
            verb(Job.get(job_id))
            screen.line(f"{job_id} {done}", "SUCCESS")
        except (JobDoesNotExist, IllegalTransition) as error:
            refused += 1
            screen.complain(one_line(error))
    if len(ids) > 1:
        screen.line(f"{len(ids) - refused} of {many(len(ids), 'job')} done.")
    return 1 if refused else 0


def _retry(screen: Screen, options: Namespace) -> int:
    if bool(options.ids) == options.all_failed or bool(options.queue) != options.all_failed:
        raise CommandError("Give ids, or --queue QUEUE --all-failed.")
    if options.all_failed:
        return _retry_all(screen, options.queue)
    return _each(screen, options.ids, Job.retry, "will run again")


def _retry_all(screen: Screen, name: str) -> int:
    queue = queue_named(name)
    failed = queue.counts()["failed"]
    retried = queue.retry_failed()
    screen.line(f"{many(retried, 'job')} of {queue} will run again.", "SUCCESS" if retried else "")
    if retried < failed:
        screen.complain(
            f"{many(failed - retried, 'job')} stayed: another job holds their unique key, or somebody "
            "else was faster."
        )
        return 1
    return 0


def _cancel(screen: Screen, options: Namespace) -> int:
    return _each(screen, options.ids, Job.cancel, "is cancelled, or will be when its run ends")


def _promote(screen: Screen, options: Namespace) -> int:
    return _each(screen, options.ids, Job.promote, "runs now")


def _remove(screen: Screen, options: Namespace) -> int:
    return _each(screen, options.ids, Job.remove, "is removed")


SUBCOMMANDS = (
    Subcommand("retry", "Run finished jobs again, with fresh attempts", _retry_arguments, _retry),
    Subcommand("cancel", "Don't run these jobs; running ones are asked to stop", _ids, _cancel),
    Subcommand("promote", "Run delayed jobs now", _ids, _promote),
    Subcommand("remove", "Forget jobs, whatever their state", _ids, _remove),
)
