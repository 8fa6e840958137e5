"""The queues: is somebody serving them, and are there jobs that nobody can run?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches

from django_kue import encryption, registry
from django_kue.conf import settings
from django_kue.doctor.findings import Finding, Level, unseen
from django_kue.errors import StoreError
from django_kue.jobs import Job
from django_kue.kinds import listed
from django_kue.overview import Overview, QueueOverview
from django_kue.queue import Queue
from django_kue.states import FINISHED, State
from django_kue.store import ask, reads
from django_kue.words import many, span

COMING = (State.WAITING, State.DELAYED)
LOOK = 200  # jobs of each state that are examined: those that are due first


def examine(seen: Overview, broken: Mapping[str, StoreError]) -> list[Finding]:
    """Findings about the queues. ``broken``: those that can't be read."""
    hidden = [name for name, error in broken.items() if error.is_forbidden]
    found = [_broken(name, error) for name, error in broken.items() if name not in hidden]
    if hidden:
        found.append(unseen(f"the queues {listed(hidden)}"))
    for queue in seen.queues:
        try:
            found += list(_one(queue))
        except StoreError as error:
            found.append(_broken(queue.name, error))
    busy = sum(
        queue.counts["waiting"] + queue.counts["delayed"] + queue.counts["active"] for queue in seen.queues
    )
    if not any(finding.level in (Level.WARNING, Level.ERROR) for finding in found):
        what = (
            f"{many(len(seen.queues), 'queue')} with {many(busy, 'unfinished job')}, none of them in trouble."
        )
        found.insert(0, Finding(Level.OK, "queue.good", what))
    return found


def _broken(name: str, error: StoreError) -> Finding:
    return Finding(
        Level.ERROR,
        "queue.broken",
        f"Queue {name} can't be read: {error}",
        f"Has another program written under its keys? manage.py kue doctor --deep --queue {name} says which; "
        "with --repair it puts them aside.",
    )


def _one(queue: QueueOverview) -> Iterator[Finding]:
    coming = [
        job
        for state in COMING
        if queue.counts[state]
        for job in Queue(queue.name).jobs(state, limit=LOOK, newest_first=False)
    ]
    yield from _undeclared(queue)
    yield from _paused(queue)
    yield from _unserved(queue, coming)
    yield from _stuck(queue)
    yield from _unknown(queue, coming)


def _undeclared(queue: QueueOverview) -> Iterator[Finding]:
    if queue.is_declared:
        return
    kept = {state: count for state, count in queue.counts.items() if count}
    if not kept:
        yield Finding(
            Level.INFO,
            "queue.undeclared",
            f"Queue {queue.name} had jobs once and isn't declared any more. It's empty.",
            "Nothing needs to be done.",
        )
        return
    parts = ", ".join(f"{count:,} {state}" for state, count in kept.items())
    is_stranded = any(state in COMING for state in kept) and not queue.workers
    clearing = [f"manage.py kue clean {queue.name} {state}" for state in kept if state in FINISHED]
    if any(state in COMING for state in kept):
        clearing.insert(0, f"manage.py kue empty {queue.name}")
    yield Finding(
        Level.ERROR if is_stranded else Level.WARNING,
        "queue.undeclared",
        f"Queue {queue.name} isn't declared any more{', no worker serves it,' if is_stranded else ''} and it "
        f"still has jobs: {parts}.",
        'Declare it in KUE["QUEUES"] again and restart the workers'
        + (f", or clear it: {', '.join(clearing)}" if clearing else "."),
    )


def _paused(queue: QueueOverview) -> Iterator[Finding]:
    if queue.paused_since is not None:
        ago = span(max(0.0, (datetime.now(UTC) - queue.paused_since).total_seconds()))
        yield Finding(
            Level.WARNING,
            "queue.paused",
            f"Queue {queue.name} has been paused for {ago}; {many(queue.counts['waiting'], 'job')} waiting.",
            f"When the reason is gone: manage.py kue resume {queue.name}",
        )


def _unserved(queue: QueueOverview, coming: Iterable[Job]) -> Iterator[Finding]:
    if queue.workers or queue.paused_since is not None or not queue.is_declared:
        return
    now = datetime.now(UTC)
    overdue = sum(
        job.state is State.DELAYED and job.run_at is not None and job.run_at < now for job in coming
    )
    ready = queue.counts["waiting"] + overdue
    if not ready:
        return
    waited = f", the oldest for {span(queue.oldest_waiting)}" if queue.oldest_waiting else ""
    yield Finding(
        Level.ERROR,
        "queue.no_worker",
        f"{many(ready, 'job')} of queue {queue.name} could run{waited}, and no worker serves it.",
        f"Start one: manage.py runworker --queues {queue.name}",
    )


def _stuck(queue: QueueOverview) -> Iterator[Finding]:
    if not queue.counts["active"]:
        return
    now_ms, holders = ask(reads.holders(queue.name))
    lease_ms = settings.LEASE * 1000
    for holder in holders:
        if holder.deadline_ms is None:
            since = "isn't watched by anybody"
        elif holder.deadline_ms + lease_ms < now_ms:
            since = f"has been gone for {span((now_ms - holder.deadline_ms) / 1000)}"
        else:
            continue
        yield Finding(
            Level.ERROR,
            "queue.stuck",
            f"{holder.owner}, which {since}, still holds {many(holder.active, 'active job')} of queue "
            f"{queue.name}.",
            "Workers of the queue take such jobs back. Is one running? "
            f"manage.py runworker --queues {queue.name}",
        )


def _unknown(queue: QueueOverview, coming: Iterable[Job]) -> Iterator[Finding]:
    """Jobs that a worker has put aside, or that this process wouldn't know either."""
    coming = list(coming)
    at_least = "at least " if len(coming) >= LOOK else ""
    yield from _locked(queue, [job for job in coming if _is_locked(job)], at_least)
    names = Counter(
        job.name
        for job in coming
        if registry.get(job.name) is None or (job.is_parked and not _is_locked(job))
    )
    for name, count in sorted(names.items()):
        if registry.get(name) is not None:
            remedy = (
                "It's known here, so the workers are older than this code. Restart them: they see the jobs "
                "within half a minute."
            )
        else:
            remedy = _remedy_for(name)
        yield Finding(
            Level.WARNING,
            "job.unknown",
            f"Function {name} isn't known {'to the workers' if registry.get(name) else 'here'}. Waiting for "
            f"a worker that knows it: {at_least}{many(count, 'job')} of queue {queue.name}.",
            remedy,
        )


def _is_locked(job: Job) -> bool:
    """Whether a worker that knows the function put the job aside because of its encryption."""
    strange = job.is_encrypted or (settings.ONLY_ENCRYPTED and encryption.is_on(job.queue))
    return job.is_parked and strange and registry.get(job.name) is not None


def _locked(queue: QueueOverview, jobs: Collection[Job], at_least: str) -> Iterator[Finding]:
    if jobs:
        yield Finding(
            Level.WARNING,
            "job.locked",
            f"Workers can't open the arguments of {at_least}{many(len(jobs), 'job')} of queue {queue.name}, "
            "and leave them alone.",
            'Do all workers have the same KUE["ENCRYPTION_KEYS"], old keys included? Their log says what '
            "they found. If somebody else wrote these jobs into Redis: manage.py kue cancel.",
        )


def _last_part(name: str) -> str:
    """The function's own name: the module's name would make any two functions of a module similar."""
    return name.rpartition(".")[2]


def _remedy_for(name: str) -> str:
    known: dict[str, list[str]] = {}
    for function in registry.functions():
        known.setdefault(_last_part(function.name), []).append(function.name)
    close = get_close_matches(_last_part(name), known, 1, cutoff=0.75)
    close = get_close_matches(name, known[close[0]], 1, cutoff=0.0) if close else []
    hint = f"Was it renamed to {close[0]}? Then write" if close else "Was it renamed? Then write"
    return (
        f'{hint} @job(aliases=["{name}"]) on the new one. Or is its module not imported (only jobs.py and '
        "tasks.py of installed apps are)? To drop jobs that nobody needs: manage.py kue cancel."
    )
