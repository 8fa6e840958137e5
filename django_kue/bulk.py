"""One verb on many jobs: here and now, or by a job of its own that says how far it is.

A job that changes its state meanwhile is left alone: each is decided on its own, by the same script as
:meth:`Job.retry` and its kin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django_kue import ids, records, registry, signals
from django_kue.codecs import CodecError
from django_kue.context import JobContext
from django_kue.decorators import job
from django_kue.errors import EnqueueError, IllegalTransition, JobDoesNotExist
from django_kue.jobs import Job
from django_kue.listing import Listing
from django_kue.priorities import priority_number
from django_kue.states import FINISHED
from django_kue.store import ask, moves, reads
from django_kue.workers import WorkerState, workers

BATCH = 500
INLINE = 5_000  # jobs that are worked through while somebody waits

RUN_AGAIN = "run_again"
_MOVES = {"retry": "requeue", "promote": "promote", "cancel": "cancel", "remove": "remove"}
VERBS = (*_MOVES, "set_priority", RUN_AGAIN)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the jobs."""

    done: int = 0
    skipped: int = 0  # their state, or another holder of their unique key, doesn't allow it; or they're gone

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.done + other.done, self.skipped + other.skipped)


Progress = Callable[[int, int], None]


def start(listing: Listing, verb: str, argument: Any = None, until: datetime | None = None) -> Tally | Job:
    """Do it now, or let a job do it, when there are more than 5,000 and a worker runs that can.

    Args:
        verb: one of :data:`VERBS`.
        argument: the priority, for ``set_priority``.
        until: aware; jobs that came later are left alone. Now, if not given.

    Raises:
        ValueError: no such verb or priority.
        EnqueueError: the job that was to do it can't be enqueued.
    """
    _check(verb, argument)
    until = until or datetime.now(UTC)
    count = listing.count()
    queue = _served_queue() if count > INLINE else None
    if queue is None:
        return apply(listing, verb, argument, until=until)
    title = f"{verb.replace('_', ' ').capitalize()} {count:,} jobs"
    return bulk_job.using(queue=queue, title=title, on_commit=False).enqueue(
        listing.as_dict(), verb, argument, until
    )


def apply(
    listing: Listing,
    verb: str,
    argument: Any = None,
    *,
    until: datetime | None = None,
    on_progress: Progress | None = None,
) -> Tally:
    """Do it to each job of a list that was there at ``until`` (now, if not given), each at most once.

    Args:
        on_progress: called after each batch with how many were worked through, of how many.

    Raises:
        ValueError: no such verb or priority.
        StoreUnavailable: Redis went away; what was done until then is done.
    """
    _check(verb, argument)
    pin = until or datetime.now(UTC)
    total, done = listing.count(), Tally()
    for part in listing.parts():
        for batch in _walked(_pinned(part, pin), verb):
            there = [job_id for job_id in batch if _was_made_by(pin, job_id)]
            answer = _act(verb, there, argument)
            batch.stayed = len(batch) - answer.done
            done += answer
            if on_progress is not None:
                on_progress(min(done.done + done.skipped, total), total)
    return done


class _Batch(list[str]):
    """Ids, and how many of them are in the list still after they were worked on."""

    stayed = 0


def _walked(part: Listing, verb: str) -> Iterator[_Batch]:
    """The jobs of one queue and state.

    Jobs leave the list while it's walked through. It's walked from its newest end, and what stayed there is
    skipped: new ones push that further in, and are seen instead, but none is missed. A verb that leaves jobs
    where they are, perhaps at another place, gets ids that were read before.
    """
    if part.is_snapshot or verb not in _MOVES:
        yield from [_Batch(keys) for keys in part.keys(BATCH)]
        return
    left, skip = part.count(), 0
    while left > 0 and (batch := _Batch(part.batch(skip, min(BATCH, left)))):
        yield batch
        left -= len(batch)
        skip += batch.stayed


def _pinned(part: Listing, pin: datetime) -> Listing:
    """Without what finished later: a job that's retried and fails again isn't retried once more."""
    if part.is_snapshot or part.state not in FINISHED:
        return part
    end = pin + timedelta(milliseconds=1)
    return replace(part, until=end if part.until is None else min(part.until, end), _memo={})


def _was_made_by(pin: datetime, job_id: str) -> bool:
    try:
        return ids.created_ms(ids.split(job_id)[1]) <= _ms(pin)
    except (JobDoesNotExist, ValueError):
        return True


def _act(verb: str, some: list[str], argument: Any) -> Tally:
    by_queue: dict[str, list[str]] = {}
    for job_id in some:
        try:
            queue, key = ids.split(job_id)
        except JobDoesNotExist:
            continue
        by_queue.setdefault(queue, []).append(key)
    act = _run_again if verb == RUN_AGAIN else _move
    done = Tally()
    for queue, keys in by_queue.items():
        done += act(verb, queue, keys, argument)
    return done + Tally(0, len(some) - sum(map(len, by_queue.values())))


def _move(verb: str, queue: str, keys: list[str], argument: Any) -> Tally:
    name = _MOVES.get(verb, verb)
    is_heard = any(signal.receivers for signal in _SIGNALS.get(name, ()))
    # Read before: a removed one can't be read afterwards, and a retried one may be over by then.
    jobs = [Job.from_row(queue, row) for row in ask(reads.rows(queue, keys))] if is_heard else []
    number = priority_number(argument) if verb == "set_priority" else ""
    replies = ask(moves.verb(name, queue, keys, number))
    answers = dict(zip(keys, replies, strict=True))
    for one in jobs:
        answer = answers.get(one.key)
        if answer is not None and answer.is_done:
            one._after(name, answer)
    done = sum(answer.is_done for answer in replies)
    return Tally(done, len(keys) - done)


_SIGNALS = {
    "requeue": (signals.job_enqueued,),
    "promote": (signals.job_promoted,),
    "cancel": (signals.job_cancelled,),
    "remove": (signals.job_removed,),
}


# ── running again ──


def _run_again(verb: str, queue: str, keys: list[str], argument: Any) -> Tally:
    done = 0
    for row in ask(reads.rows(queue, keys)):
        try:
            copy_of(Job.from_row(queue, row))
        except (EnqueueError, IllegalTransition):  # its function or its arguments are others by now
            continue
        done += 1
    return Tally(done, len(keys) - done)


def copy_of(
    job: Job, *, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
) -> Job:
    """Enqueue a job like this one, at once: same function, arguments, queue, priority and title.

    Args:
        args, kwargs: other arguments than its own, if either is given.
        options: as of ``.using()``; they win over the job's.

    Raises:
        IllegalTransition: its function isn't known here, or its arguments can't be read.
        EnqueueError: the arguments don't fit the function, or the job can't be stored.
    """
    definition = registry.get(job.name)
    if definition is None:
        raise IllegalTransition(f"Can't run {job.id} again: no function {job.name!r} is known here.")
    if args is None and kwargs is None:
        try:
            args, kwargs = records.decode_arguments(job._arguments, fetch=False)
        except (ValueError, CodecError) as error:
            raise IllegalTransition(f"Can't run {job.id} again: its arguments can't be read.") from error
    given: dict[str, Any] = {"queue": job.queue, "priority": job.priority, "on_commit": False}
    if "title" in job._options:
        given["title"] = str(job._options["title"])
    return definition.original.using(**(given | options)).enqueue(*(args or ()), **(kwargs or {}))


# ── as a job ──


@job(name="django_kue.bulk", title="Work on many jobs", takes_context=True, attempts=3, backoff=10)
def bulk_job(
    context: JobContext, listing: dict[str, Any], verb: str, argument: Any, until: datetime
) -> dict[str, int]:
    """What :func:`start` enqueues. After a crash it goes on with what's left; only ``run_again`` may then
    copy some jobs a second time."""

    def tell(done: int, total: int) -> None:
        context.raise_if_cancelled()
        context.progress(done, total or 1, data={"done": done, "of": total})

    done = apply(Listing.from_dict(listing), verb, argument, until=until, on_progress=tell)
    context.log("%d done, %d left alone", done.done, done.skipped)
    return {"done": done.done, "skipped": done.skipped}


def _served_queue() -> str | None:
    """A queue that a worker takes jobs of, best the default one."""
    served = {queue for worker in workers() if worker.state is WorkerState.RUNNING for queue in worker.queues}
    return "default" if "default" in served else min(served, default=None)


def _check(verb: str, argument: Any) -> None:
    if verb not in VERBS:
        raise ValueError(f"no verb {verb!r}; there are {', '.join(VERBS)}")
    if verb == "set_priority":
        priority_number(argument)


def _ms(at: datetime) -> int:
    return -(-(at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


__all__ = ["INLINE", "VERBS", "Tally", "apply", "bulk_job", "copy_of", "start"]
