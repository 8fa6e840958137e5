"""``kue retry|cancel|promote|remove``: what can be done with single jobs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_kue import bulk
from django_kue.cli import arguments, progress
from django_kue.cli.arguments import Subcommand, queue_named
from django_kue.cli.screen import Screen
from django_kue.errors import IllegalTransition, JobDoesNotExist
from django_kue.jobs import Job
from django_kue.listing import Listing
from django_kue.states import State
from django_kue.words import many, one_line


def _ids(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID")
    arguments.add_json(parser)


def _retry_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--queue", metavar="QUEUE", help="with --all-failed: the queue")
    parser.add_argument("--all-failed", action="store_true", help="all failed jobs of the queue")
    arguments.add_choice(parser, "with --all-failed: ")
    arguments.add_json(parser)


def _each(
    screen: Screen, options: Namespace, verb: Callable[[Job], Any], done: str | Callable[[Any], str]
) -> int:
    """Apply a verb to each job, and say what became of it. Exit code 1 if one refused."""
    refusals: dict[str, str] = {}
    for job_id in options.ids:
        try:
            after = verb(Job.get(job_id))
            if not options.is_json:
                screen.line(f"{job_id} {done if isinstance(done, str) else done(after)}", "SUCCESS")
        except (JobDoesNotExist, IllegalTransition) as error:
            refusals[job_id] = str(error)
            screen.complain(one_line(error))
    if options.is_json:
        screen.json(orders_as_json(options.ids, refusals))
    elif len(options.ids) > 1:
        screen.line(f"{len(options.ids) - len(refusals)} of {many(len(options.ids), 'job')} done.")
    return 1 if refusals else 0


def orders_as_json(ids: Iterable[str], refusals: Mapping[str, str]) -> dict[str, Any]:
    """What became of an order to several jobs, workers or schedules."""
    return {
        "done": [one for one in ids if one not in refusals],
        "refused": [{"id": one, "reason": reason} for one, reason in refusals.items()],
    }


def _retry(screen: Screen, options: Namespace) -> int:
    chooses = bool(options.function or options.text)
    if bool(options.ids) == options.all_failed or bool(options.queue) != options.all_failed:
        raise arguments.misused("Give ids, or --queue QUEUE --all-failed.")
    if chooses and not options.all_failed:
        raise arguments.misused("--function and --text need --queue QUEUE --all-failed.")
    if options.all_failed:
        return _retry_some(screen, options) if chooses else _retry_all(screen, options)
    return _each(screen, options, Job.retry, "will run again")


def _retry_all(screen: Screen, options: Namespace) -> int:
    queue = queue_named(options.queue)
    failed = queue.counts()["failed"]
    retried = progress.summed(screen, "Retrying", failed, queue._retried())
    return _say_retried(screen, options, retried, max(0, failed - retried))


def _retry_some(screen: Screen, options: Namespace) -> int:
    queue = queue_named(options.queue)
    listing = Listing(
        state=State.FAILED, queue=queue.name, name=options.function, text=options.text or "", is_patient=True
    )
    looked, total, is_exact = listing.scope()
    with progress.Bar(screen, "Retrying") as bar:
        tally = bulk.apply(listing, "retry", on_progress=bar.show)
    if not is_exact:
        screen.complain(f"Only the newest {looked:,} of {many(total, 'failed job')} were looked at.")
    return _say_retried(screen, options, tally.done, tally.skipped)


def _say_retried(screen: Screen, options: Namespace, retried: int, stayed: int) -> int:
    if options.is_json:
        screen.json({"queue": options.queue, "retried": retried, "stayed": stayed})
    else:
        screen.line(
            f"{many(retried, 'job')} of {options.queue} will run again.", "SUCCESS" if retried else ""
        )
    if stayed:
        screen.complain(
            f"{many(stayed, 'job')} stayed: another job holds their unique key, or somebody else was faster."
        )
        return 1
    return 0


def _cancel(screen: Screen, options: Namespace) -> int:
    return _each(screen, options, Job.cancel, _cancelled)


def _cancelled(job: Job) -> str:
    is_running = job.state is State.ACTIVE
    return "is asked to stop, and is cancelled when its run ends" if is_running else "is cancelled"


def _promote(screen: Screen, options: Namespace) -> int:
    return _each(screen, options, Job.promote, "is due now")


def _remove(screen: Screen, options: Namespace) -> int:
    return _each(screen, options, Job.remove, "is removed")


SUBCOMMANDS = (
    Subcommand("retry", "Run finished jobs again, with fresh attempts", _retry_arguments, _retry),
    Subcommand("cancel", "Don't run these jobs; running ones are asked to stop", _ids, _cancel),
    Subcommand("promote", "Run delayed jobs now", _ids, _promote),
    Subcommand("remove", "Forget jobs, whatever their state", _ids, _remove),
)
