"""A job as people see it: a frozen record, with verbs that read as sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from asgiref.sync import sync_to_async

from django_kue import codecs, ids, records, registry, signals
from django_kue.errors import IllegalTransition, JobDoesNotExist, JobFailed
from django_kue.priorities import priority_number
from django_kue.rows import (
    JobError,
    LogLine,
    Run,
    attempts_of,
    fields_of,
    fields_of_outcome,
    log_lines_from,
    moment,
    moment_or_none,
    runs_from,
)
from django_kue.states import State
from django_kue.store import aask, ask, moves, reads


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when it was read; :meth:`refresh` reads it anew.

    Times are aware, in UTC. ``attempts_made`` counts runs that ended, the good one too. Each verb
    that talks to Redis has a twin for asyncio whose name begins with ``a`` (``aretry``…).

    >>> Job.get("email.AY3w8kR2Sx6mTn0pQv4zWg").retry()  # doctest: +SKIP
    """

    id: str
    queue: str
    name: str
    state: State
    priority: int
    attempts_made: int
    attempts: int
    created_at: datetime
    run_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: float = 0
    progress_data: Any = None
    error: JobError | None = None
    worker: str = ""
    crashes: int = 0
    is_parked: bool = False  # no worker that saw it knows its function
    _options: Mapping[str, Any]
    _arguments: bytes = b""
    _result: bytes = b""

    # ── what it holds ──

    @property
    def key(self) -> str:
        """The part of the id after the queue."""
        return self.id.partition(".")[2]

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments. Model instances are read from the database at each call."""
        return records.decode_arguments(self._arguments)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return records.decode_arguments(self._arguments)[1]

    @property
    def result(self) -> Any:
        """What the function returned; ``None`` until the job is completed."""
        return codecs.loads(self._result) if self._result else None

    @property
    def title(self) -> str:
        """What people see in lists: the title, or the function's name."""
        if "title" in self._options:
            return str(self._options["title"])
        definition = registry.get(self.name)
        if definition is None:
            return self.name
        try:
            return definition.title_for(*records.decode_arguments(self._arguments, fetch=False))
        except (ValueError, TypeError, LookupError):  # written for another signature
            return self.name

    @property
    def is_finished(self) -> bool:
        """True when it's completed, failed or cancelled."""
        return self.state.is_finished

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return f"{self.title} ({self.id}, {self.state})"

    # ── reading ──

    @classmethod
    def get(cls, id: str) -> Job:
        """The job with this id.

        Raises:
            JobDoesNotExist: there's none (any more).
        """
        queue, key = ids.split(id)
        return cls._only(id, queue, ask(reads.rows(queue, [key])))

    @classmethod
    async def aget(cls, id: str) -> Job:
        queue, key = ids.split(id)
        return cls._only(id, queue, await aask(reads.rows(queue, [key])))

    def refresh(self) -> Job:
        """The job as it is now. The handle of a dropped duplicate leads to the first job."""
        return self.get(self.id)

    async def arefresh(self) -> Job:
        return await self.aget(self.id)

    def logs(self, most: int = 1000) -> list[LogLine]:
        """The newest ``most`` log lines, oldest first."""
        return log_lines_from(ask(self._lists(most)).logs)

    async def alogs(self, most: int = 1000) -> list[LogLine]:
        return log_lines_from((await aask(self._lists(most))).logs)

    def runs(self) -> list[Run]:
        """The runs that didn't complete, oldest first; only the last ``KUE["MAX_RUNS"]`` are kept."""
        return runs_from(ask(self._lists(1)).runs)

    async def aruns(self) -> list[Run]:
        return runs_from((await aask(self._lists(1))).runs)

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for the end, at most ``timeout`` seconds (``None``: as long as it takes); the result.

        It works however short the job is kept: the result travels with the event.

        Raises:
            JobFailed: it failed or was cancelled.
            TimeoutError: the time is over.
            JobDoesNotExist: it was removed.

        >>> send_receipt.enqueue(17).wait(timeout=30)  # doctest: +SKIP
        """
        from django_kue import events  # a floor above: events are made of jobs

        return events.wait_for(self, timeout)

    async def await_result(self, timeout: float | None = None) -> Any:
        """The twin of :meth:`wait`. It can be cancelled, and uses no thread."""
        from django_kue import events

        return await events.await_for(self, timeout)

    def events(self, timeout: float | None = None) -> Iterator[Any]:
        """The job's events from now on, until it's finished or ``timeout`` seconds pass without one."""
        from django_kue import events

        return events.of_job(self, timeout)

    def aevents(self, timeout: float | None = None) -> AsyncIterator[Any]:
        """The twin of :meth:`events`. It can be cancelled, and uses no thread."""
        from django_kue import events

        return events.aof_job(self, timeout)

    # ── verbs ──

    def retry(self) -> Job:
        """Run a finished job again, with fresh attempts.

        Raises:
            IllegalTransition: it isn't finished, or another job holds its unique key.
            JobDoesNotExist: it's gone.
        """
        return self._after("requeue", ask(self._verb("requeue"))[0])

    async def aretry(self) -> Job:
        return await self._aafter("requeue", await aask(self._verb("requeue")))

    def promote(self) -> Job:
        """Run a delayed job now. Raises as :meth:`retry`."""
        return self._after("promote", ask(self._verb("promote"))[0])

    async def apromote(self) -> Job:
        return await self._aafter("promote", await aask(self._verb("promote")))

    def cancel(self) -> Job:
        """Don't run it; a running one is asked to stop, and is cancelled when its run ends.

        Raises as :meth:`retry`.
        """
        return self._after("cancel", ask(self._verb("cancel"))[0])

    async def acancel(self) -> Job:
        return await self._aafter("cancel", await aask(self._verb("cancel")))

    def remove(self) -> None:
        """Forget it, whatever its state. A running one is asked to stop. Raises JobDoesNotExist."""
        self._after("remove", ask(self._verb("remove"))[0])

    async def aremove(self) -> None:
        await self._aafter("remove", await aask(self._verb("remove")))

    def set_priority(self, priority: int | str) -> Job:
        """Give it another priority: −100…100 or one of Kue's names. It joins the back of that one."""
        number = priority_number(priority)
        return self._after("set_priority", ask(self._verb("set_priority", number))[0], priority=number)

    async def aset_priority(self, priority: int | str) -> Job:
        number = priority_number(priority)
        return await self._aafter(
            "set_priority", await aask(self._verb("set_priority", number)), priority=number
        )

    # ── making ──

    @classmethod
    def enqueued(cls, queue: str, key: bytes, new: records.NewJob) -> Job:
        """The handle of a job that was just handed over."""
        created = ids.created_ms(new.key.decode())
        due = new.run_at if new.run_at is not None else created + (new.delay or 0)
        return cls(
            id=f"{queue}.{key.decode()}",
            queue=queue,
            name=new.name,
            state=State.DELAYED if due > created else State.WAITING,
            priority=new.priority,
            attempts_made=0,
            attempts=attempts_of(new.name, queue, new.options),
            created_at=moment(created),
            run_at=moment_or_none(due) if due > created else None,
            _options=new.options,
            _arguments=new.arguments,
        )

    @classmethod
    def from_row(cls, queue: str, row: reads.Row) -> Job:
        """A job from a row of the store; a record that can't be read gives a job without arguments."""
        return cls(**fields_of(queue, row))

    @classmethod
    def _only(cls, id: str, queue: str, rows: list[reads.Row]) -> Job:
        if not rows:
            raise JobDoesNotExist(
                f"No job {id}: it was removed, its keeping is over, or its transaction isn't committed."
            )
        return cls.from_row(queue, rows[0])

    def _lists(self, most: int) -> Any:
        return reads.lists(self.queue, self.key, max(1, most))

    def _verb(self, verb: str, argument: int | str = "") -> Any:
        return moves.verb(verb, self.queue, [self.key], argument)

    def _after(self, verb: str, answer: moves.Answer, **changes: Any) -> Job:
        """What's left of the job after a verb, and its signal."""
        after = self._changed(verb, answer, **changes)
        if signal := _signal_of(verb, answer):
            signals.emit(signal, registry.get(self.name), job=after)
        return after

    async def _aafter(self, verb: str, answers: list[moves.Answer], **changes: Any) -> Job:
        return await sync_to_async(self._after)(verb, answers[0], **changes)

    def _changed(self, verb: str, answer: moves.Answer, **changes: Any) -> Job:
        if answer.is_held:
            raise IllegalTransition(f"Can't {_WORDS[verb]} {self.id}: another job holds its unique key.")
        if answer.before is None:
            raise JobDoesNotExist(f"Can't {_WORDS[verb]} {self.id}: there's no such job (any more).")
        if not answer.is_done:
            legal = " or ".join(sorted(moves._LEGAL[verb]))
            raise IllegalTransition(
                f"Can't {_WORDS[verb]} {self.id}: it's {answer.before}, and that needs a job that's {legal}."
            )
        state = _TARGETS.get(verb, answer.before)
        if verb == "cancel" and answer.before is State.ACTIVE:
            state = State.ACTIVE
        if verb == "requeue":
            changes |= {"attempts_made": 0, "error": None, "_result": b"", "finished_at": None, "progress": 0}
        return replace(self, state=state, **changes)


_WORDS = {
    "requeue": "retry", "promote": "promote", "cancel": "cancel", "remove": "remove",
    "set_priority": "change the priority of",
}  # fmt: skip
_TARGETS = {"requeue": State.WAITING, "promote": State.WAITING, "cancel": State.CANCELLED}


def _signal_of(verb: str, answer: moves.Answer) -> Any:
    if verb == "cancel":  # of an active job its worker tells, when the run has ended
        return None if answer.before is State.ACTIVE else signals.job_cancelled
    return {
        "requeue": signals.job_enqueued, "promote": signals.job_promoted, "remove": signals.job_removed,
    }.get(verb)  # fmt: skip


def failure_of(job: Job) -> JobFailed:
    """The exception for who waited for a job that didn't complete."""
    what = f"{job.id} {'was cancelled' if job.state is State.CANCELLED else 'failed'}"
    return JobFailed(f"{what}: {job.error}" if job.error else what, job)


def ended(job: Job, outcome: bytes) -> Job:
    """A job as it ended, by its stored outcome."""
    state = {b"c": State.COMPLETED, b"f": State.FAILED}.get(outcome[:1], State.CANCELLED)
    return replace(job, state=state, **fields_of_outcome(outcome))


__all__ = ["Job", "JobError", "LogLine", "Run", "ended", "failure_of"]
