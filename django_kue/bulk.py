"""Applies one verb to many jobs: here and now, or in a job of its own that reports its progress.

A job that changes its state meanwhile is left alone: each is decided on its own, by the same script as
:meth:`Job.retry` and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django_kue import enqueueing, ids, records, registry
from django_kue.backoff import Backoff
from django_kue.context import JobContext
from django_kue.decorators import job
from django_kue.errors import EnqueueError, IllegalTransition, StoreUnavailable
from django_kue.jobs import Job
from django_kue.listing import TIMED, Listing
from django_kue.moments import milliseconds_up, moment
from django_kue.options import STORED
from django_kue.priorities import priority_number
from django_kue.queue import apply_verb
from django_kue.searching import readable
from django_kue.sources import Entry, all_waiting
from django_kue.states import FINISHED, State
from django_kue.store import ask, moves, reads
from django_kue.workers import WorkerState, workers

BATCH = 200  # jobs per call: a verb takes about 40 µs for each
INLINE = 5_000  # jobs that are worked through while somebody waits
NAMED = 101  # changed jobs whose ids are kept

RUN_AGAIN = "run_again"
_MOVES = {"retry": "requeue", "promote": "promote", "cancel": "cancel", "remove": "remove"}
VERBS = (*_MOVES, "set_priority", RUN_AGAIN)


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the jobs.

    Attributes:
        done: how many were changed, or copied.
        skipped: how many were left alone: their state, or another holder of their unique key, doesn't allow
            it, or they're gone.
        changed: the ids of the first 101 done: a caller that lists up to 100 sees whether there are more.
    """

    done: int = 0
    skipped: int = 0
    changed: tuple[str, ...] = field(default=(), compare=False)

    def __add__(self, other: Tally) -> Tally:
        changed = (self.changed + other.changed)[:NAMED]
        return Tally(self.done + other.done, self.skipped + other.skipped, changed)


Progress = Callable[[int, int], None]


def start(listing: Listing, verb: str, argument: Any = None, until: datetime | None = None) -> Tally | Job:
    """Apply a verb now, or have a job do it if there are more than 5,000 and a running worker can take it.

    Args:
        verb: one of :data:`VERBS`.
        argument: the priority, for ``set_priority``.
        until: aware; jobs that came later are left alone. Defaults to :func:`now`.

    Raises:
        ValueError: no such verb or priority.
        EnqueueError: the job that would do it can't be enqueued.
    """
    _check(verb, argument)
    until = until or now()
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
    """Apply a verb to each job of a list that was there at ``until`` (by default :func:`now`), at most once
    each.

    Args:
        on_progress: called after each batch with how many jobs it has been through, out of how many.

    Raises:
        ValueError: no such verb or priority.
        StoreUnavailable: Redis went away; what was done until then stays done.
    """
    _check(verb, argument)
    pin = milliseconds_up(until or now())
    listing = listing.but(is_patient=True)
    total, legal = listing.count(), legal_in(verb)
    tally = Tally(skipped=sum(count for state, count in listing.by_state().items() if state not in legal))
    copied: set[str] = set()
    for part in listing.parts(legal):  # from delayed to finished, as jobs move: none slips past
        for batch in _walked(part, verb, pin):
            to_do = [job_id for job_id in batch.to_do if job_id not in copied]
            batch.changed = _act(verb, to_do, argument)
            if verb == RUN_AGAIN:  # other verbs move the job away, or do no harm when repeated
                copied |= batch.changed
            changed = [job_id for job_id in to_do if job_id in batch.changed]
            tally += Tally(len(changed), len(to_do) - len(changed), tuple(changed[:NAMED]))
            if on_progress is not None:
                on_progress(min(tally.done + tally.skipped, total), total)
    return tally


def now() -> datetime:
    """Now, by whichever clock is ahead, this host's or Redis's: nothing that has finished so far is later.

    Raises:
        StoreUnavailable: Redis is away.
    """
    return max(datetime.now(UTC), moment(ask(reads.registry()).now_ms + 1))  # microseconds are cut off


def legal_in(verb: str) -> frozenset[State]:
    """The states of the jobs that a verb changes, or copies."""
    return frozenset(State) if verb == RUN_AGAIN else moves.LEGAL[_MOVES.get(verb, verb)]


# ── walking ──


@dataclass(slots=True)
class _Batch:
    """Some jobs of a list: which of them a verb is for, and which it changed."""

    entries: list[Entry]
    pin: int  # ms; what came later is left alone
    changed: set[str] = field(default_factory=set)

    @property
    def to_do(self) -> list[str]:
        return [entry.id for entry in self.entries if self._was_there(entry)]

    def _was_there(self, entry: Entry) -> bool:
        """By this, a job that's retried and fails again isn't retried once more, and a copy isn't copied."""
        return (entry.at_ms if entry.state in FINISHED else _made_ms(entry)) <= self.pin


def _walked(part: Listing, verb: str, pin: int) -> Iterator[_Batch]:
    """The jobs of one queue and state, or those that were found, in batches.

    While it's walked through, jobs leave the list, by this verb or for other reasons, and new ones join it.
    """
    if part.state in TIMED and not part.is_snapshot:
        return _falling(part, pin, leaves=verb in _MOVES)
    return _listed(part, pin)


def _falling(part: Listing, pin: int, *, leaves: bool) -> Iterator[_Batch]:
    """A set sorted by time, from its newest end. Each batch begins at the time where the last one ended, and
    skips what stayed there: whatever comes or goes, no job is missed, and the walk ends at the oldest. Jobs
    that finished after ``pin`` are at the newest end, and are skipped."""
    end, passed = None, set[str]()  # what stayed at the time where the last batch ended
    while entries := _from_end(part, passed, leaves=leaves):
        batch = _Batch(entries, pin)
        yield batch
        last = entries[-1].at_ms
        here = {entry.id for entry in entries if entry.at_ms == last}
        passed = here | passed if last == end else here
        if leaves:
            passed -= batch.changed
        part, end = _until(part, last), last


def _from_end(part: Listing, passed: set[str], *, leaves: bool) -> list[Entry]:
    """The next entries of a set sorted by time. If jobs leave it, few have stayed; these are recognised by
    their ids, since some may be gone by now. If not, they're as many as were passed."""
    if not leaves:
        return part.entries(len(passed), BATCH)
    return [entry for entry in part.entries(0, BATCH + len(passed)) if entry.id not in passed]


def _listed(part: Listing, pin: int) -> Iterator[_Batch]:
    """Jobs that were found; or waiting and active jobs, whose places change: all their ids are read first
    (300 MB for a million)."""
    is_waiting = part.state is State.WAITING and not part.is_snapshot
    entries = all_waiting(str(part.queue)) if is_waiting else part.entries(0, part.count())
    rest = iter(dict.fromkeys(entries))  # a job that moved further back because others joined comes twice
    while batch := list(islice(rest, BATCH)):
        yield _Batch(batch, pin)


def _until(part: Listing, last_ms: int) -> Listing:
    if last_ms >= reads.LAST_MS:
        return part  # its times may be later than the value they're read as
    end = moment(last_ms + 1)
    return part.but(until=end if part.until is None else min(part.until, end))


def _made_ms(entry: Entry) -> int:
    try:
        return ids.created_ms(entry.key.decode())
    except ValueError:  # not a key of ours
        return 0


# ── acting ──


def _act(verb: str, some: list[str], argument: Any) -> set[str]:
    """The ids of those that were changed."""
    by_queue: dict[str, list[str]] = {}
    for job_id in some:
        queue, _, key = job_id.partition(".")
        by_queue.setdefault(queue, []).append(key)
    act = _run_again if verb == RUN_AGAIN else _move
    return {f"{queue}.{key}" for queue, keys in by_queue.items() for key in act(verb, queue, keys, argument)}


def _move(verb: str, queue: str, keys: list[str], argument: Any) -> Iterator[str]:
    name = _MOVES.get(verb, verb)
    if verb == "retry":
        keys = _without_bulk_jobs(queue, keys)
    number = priority_number(argument) if verb == "set_priority" else ""
    return (key.decode() for key in apply_verb(name, queue, keys, number))


def _without_bulk_jobs(queue: str, keys: list[str]) -> list[str]:
    """Leaves out bulk jobs: what they do takes a permission that somebody who retries jobs may not have."""
    records = (readable(record) for record, _ in ask(reads.lights(queue, keys)))
    return [key for key, record in zip(keys, records, strict=True) if record.name != bulk_job.name]


# ── running again ──


def _run_again(verb: str, queue: str, keys: list[str], argument: Any) -> Iterator[str]:
    for row in ask(reads.rows(queue, _without_bulk_jobs(queue, keys))):
        try:
            copy_of(Job.from_row(queue, row))
        except (EnqueueError, IllegalTransition) as error:
            if isinstance(error.__cause__, StoreUnavailable):
                raise error.__cause__ from None
            continue  # its function or the arguments it takes have changed
        yield row.key


def copy_of(
    job: Job, *, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
) -> Job:
    """Enqueue a job like this one at once: same function, arguments, queue, priority, title, headers and the
    other options of its record. The function's own ``unique`` applies to the copy, too.

    Args:
        args, kwargs: replace the job's own arguments, if either is given.
        options: those of ``.using()``; they override the job's.

    Raises:
        IllegalTransition: its function isn't known here, or its arguments or options can't be read.
        EnqueueError: the arguments don't fit the function, or the job can't be stored.
    """
    definition = registry.get(job.name)
    if definition is None:
        raise IllegalTransition(f"Can't run {job.id} again: no function {job.name!r} is known here.")
    if args is None and kwargs is None:
        try:
            args, kwargs = records.decode_arguments(job._arguments, fetch=False)
        except ValueError as error:
            raise IllegalTransition(f"Can't run {job.id} again: its arguments can't be read.") from error
    given = {"queue": job.queue, "priority": job.priority, "on_commit": False}
    try:
        copier = definition.original.using(**{**given, **_stored_options(job), **options})
    except (TypeError, ValueError) as error:
        raise IllegalTransition(f"Can't run {job.id} again: {error}") from error
    [copy] = enqueueing.enqueue(copier, [(tuple(args or ()), kwargs or {})], headers=job.headers)
    return copy


def _stored_options(job: Job) -> dict[str, Any]:
    stored = {name: job._options[name] for name in STORED if name in job._options}
    if stored.get("backoff") is not None:
        stored["backoff"] = Backoff.from_json(stored["backoff"])
    return stored


# ── as a job ──


@job(name="django_kue.bulk", title="Work on many jobs", takes_context=True, attempts=3, backoff=10)
def bulk_job(
    context: JobContext, listing: dict[str, Any], verb: str, argument: Any, until: datetime
) -> dict[str, int]:
    """The job that :func:`start` enqueues. After a crash it goes on with what's left; only ``run_again`` may
    then copy some jobs a second time."""

    def tell(done: int, total: int) -> None:
        context.raise_if_cancelled()
        context.progress(done, total or 1, data={"done": done, "of": total})

    done = apply(Listing.from_dict(listing), verb, argument, until=until, on_progress=tell)
    context.log("%d done, %d left alone", done.done, done.skipped)
    return {"done": done.done, "skipped": done.skipped}


def _served_queue() -> str | None:
    """A queue that a worker takes jobs from, preferably the default one."""
    served = {queue for worker in workers() if worker.state is WorkerState.RUNNING for queue in worker.queues}
    return "default" if "default" in served else min(served, default=None)


def _check(verb: str, argument: Any) -> None:
    if verb not in VERBS:
        raise ValueError(f"no verb {verb!r}; there are {', '.join(VERBS)}")
    if verb == "set_priority":
        priority_number(argument)


__all__ = ["INLINE", "VERBS", "Tally", "apply", "bulk_job", "copy_of", "legal_in", "now", "start"]
