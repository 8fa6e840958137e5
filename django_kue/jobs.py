"""A job as people see it: a frozen record, with verbs that read as sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from django_kue import codecs, encryption, ids, records, registry, signals, verbs
from django_kue.errors import JobDoesNotExist
from django_kue.kinds import whole_number
from django_kue.moments import moment, moment_or_none
from django_kue.priorities import priority_number
from django_kue.rows import (
    JobError,
    LogLine,
    Run,
    arguments_of,
    attempts_of,
    fields_of,
    log_lines_from,
    runs_from,
)
from django_kue.signatures import shortened
from django_kue.states import State
from django_kue.store import aask, ask, moves, reads


class _Unread:
    """A :class:`Job` whose fields aren't made yet: of most jobs that signals carry, only two fields are read,
    and making all twenty costs more than the rest of an enqueue.

    Reading a field that isn't there yet makes all of them from ``_source``, once. Two threads may both do it:
    they write the same values, and clear ``_source`` last.
    """

    __slots__ = ("_source",)
    _source: Callable[[], Mapping[str, Any]] | records.NewJob | None

    if not TYPE_CHECKING:  # otherwise a misspelt name wouldn't be a type error

        def __getattr__(self, name: str) -> Any:
            if name in _SETTERS:
                _read_all(self)
            return object.__getattribute__(self, name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job(_Unread):
    """A job as it was when it was read; :meth:`refresh` reads it again.

    Times are aware, in UTC. ``attempts_made`` counts runs that ended, including the successful one. Each verb
    that talks to Redis has a twin for asyncio whose name begins with ``a`` (``aretry``…). Verbs and reading
    raise :class:`~django_kue.StoreUnavailable` when Redis is away.

    Two are equal if they're the same job, whenever each was read, just like model instances.

    >>> Job.get("email.AY3w8kR2Sx6mTn0pQv4zWg").retry().state
    <State.WAITING: 'waiting'>
    """

    id: str  #: ``<queue>.<key>``; it says where the job is, and grants nothing
    queue: str  #: the queue's name
    name: str  #: the function's stored name
    state: State  #: a text: delayed, waiting, active, completed, failed or cancelled
    priority: int  #: −100…100, higher runs sooner
    attempts_made: int  #: runs that ended, including the successful one
    attempts: int  #: how often it may run in total
    created_at: datetime  #: by the clock of the host that enqueued it
    run_at: datetime | None = None  #: when a delayed job is due
    started_at: datetime | None = None  #: when its run began; for a finished job, its last run
    finished_at: datetime | None = None  #: when it completed, failed or was cancelled
    progress: float = 0  #: 0 to 100
    progress_data: Any = field(default=None, repr=False)  #: what the job reported with its progress
    error: JobError | None = None  #: why it didn't complete; while it waits again, why its last run didn't
    worker: str = ""  #: which one runs it; for a finished job, which ran it last
    crashes: int = 0  #: how many processes died running it
    is_cancelling: bool = False  #: it's running, and was asked to stop: it's cancelled when its run ends
    is_parked: bool = False  #: no worker that saw it knows its function, or has the key for its arguments
    is_encrypted: bool = False  #: its arguments are stored encrypted
    schedule: str = ""  #: the name of the schedule whose tick it is
    # A repr lands in logs and on error pages, where a job's own data doesn't belong.
    _options: Mapping[str, Any] = field(repr=False)
    _arguments: bytes = field(default=b"", repr=False)
    _result: bytes = field(default=b"", repr=False)

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
    def headers(self) -> Mapping[str, Any]:
        """What middleware sent along with the job."""
        headers: Mapping[str, Any] = self._options.get(records.HEADERS, {})
        return headers

    @property
    def title(self) -> str:
        """What people see in lists: the title, or the function's name."""
        if "title" in self._options:
            return shortened(str(self._options["title"]))  # whatever was written there
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

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Job) else NotImplemented

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
        """The job as it is now. For the handle of a dropped duplicate, that's the first job."""
        return self.get(self.id)

    async def arefresh(self) -> Job:
        return await self.aget(self.id)

    def logs(self, most: int = 1000) -> list[LogLine]:
        """The newest ``most`` (1 or more) log lines, oldest first."""
        return self._log_lines(ask(self._lists(most)))

    async def alogs(self, most: int = 1000) -> list[LogLine]:
        return self._log_lines(await aask(self._lists(most)))

    def runs(self) -> list[Run]:
        """The runs that didn't complete, oldest first; only the last ``KUE["MAX_RUNS"]`` are kept."""
        return self._runs(ask(self._lists(1)))

    async def aruns(self) -> list[Run]:
        return self._runs(await aask(self._lists(1)))

    def wait(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the end, at most ``timeout`` seconds or a timedelta (``None``: as long as it takes), and
        return the result.

        The result travels with the event, so it doesn't matter how briefly the job is kept. A wait that
        begins after the end reads it from the job; if the job isn't kept, a small result is available for
        10 s.

        Raises:
            JobFailed: it failed or was cancelled.
            TimeoutError: the time is up. If the job is still waiting, the text says why, where that's known.
            JobDoesNotExist: it was removed.
            StoreUnavailable: the time is up, and Redis is away. Until then, Redis is asked again and again.

        >>> send_receipt.enqueue(17).wait(timeout=30)
        'sent'
        """
        from django_kue import following  # a layer above: events are made of jobs

        return following.wait_for(self, timeout)

    async def await_result(self, timeout: float | timedelta | None = None) -> Any:
        """The twin of :meth:`wait`. It can be cancelled, and uses no thread."""
        from django_kue import following

        return await following.await_for(self, timeout)

    def events(self, timeout: float | timedelta | None = None) -> Iterator[Any]:
        """The job's events from now on, until it's finished or ``timeout`` seconds pass without one."""
        from django_kue import following

        return following.of_job(self, timeout)

    def aevents(self, timeout: float | timedelta | None = None) -> AsyncIterator[Any]:
        """The twin of :meth:`events`. It can be cancelled, and uses no thread."""
        from django_kue import following

        return following.aof_job(self, timeout)

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
        """Run a delayed job now.

        Raises:
            IllegalTransition: it isn't delayed.
            JobDoesNotExist: it's gone.
        """
        return self._after("promote", ask(self._verb("promote"))[0])

    async def apromote(self) -> Job:
        return await self._aafter("promote", await aask(self._verb("promote")))

    def cancel(self) -> Job:
        """Don't run it; a running one is asked to stop, and is cancelled when its run ends.

        Raises:
            IllegalTransition: it's finished.
            JobDoesNotExist: it's gone.
        """
        return self._after("cancel", ask(self._verb("cancel"))[0])

    async def acancel(self) -> Job:
        return await self._aafter("cancel", await aask(self._verb("cancel")))

    def remove(self) -> None:
        """Remove it, whatever its state. A running one is asked to stop.

        Raises:
            JobDoesNotExist: it's gone already.
        """
        self._after("remove", ask(self._verb("remove"))[0])

    async def aremove(self) -> None:
        await self._aafter("remove", await aask(self._verb("remove")))

    def set_priority(self, priority: int | str) -> Job:
        """Give it another priority: −100…100 or one of Kue's names. A waiting job goes to the back of that
        priority; other jobs get it when they wait again.

        Raises:
            TypeError, ValueError: it isn't a priority.
            JobDoesNotExist: it's gone.
        """
        number = priority_number(priority)
        return self._after("set_priority", ask(self._verb("set_priority", number))[0], priority=number)

    async def aset_priority(self, priority: int | str) -> Job:
        number = priority_number(priority)
        return await self._aafter(
            "set_priority", await aask(self._verb("set_priority", number)), priority=number
        )

    # ── making ──

    @classmethod
    def _lazy(cls, id: str, queue: str, source: Callable[[], Mapping[str, Any]]) -> Job:
        """A job whose other fields come from ``source``, when the first of them is read. It may leave out
        those that have a default, and must return the same each time."""
        job = _new(cls)
        _set_id(job, id)
        _set_queue(job, queue)
        _set_source(job, source)
        return job

    @classmethod
    def enqueued(cls, queue: str, key: bytes, arguments: bytes, template: records.NewJob) -> Job:
        """The handle of a job that's being sent; ``template`` has everything that isn't the job's own, and
        its arguments show whether they're stored sealed. No other object is made for it: with many jobs, the
        garbage collector has to look at each one."""
        job = _new(cls)
        _set_id(job, f"{queue}.{key.decode()}")
        _set_queue(job, queue)
        _set_arguments(job, arguments)
        _set_source(job, template)
        return job

    @classmethod
    def of_new(cls, queue: str, new: records.NewJob) -> Job:
        """The handle of a job as it's sent: its arguments may be sealed."""
        return cls.enqueued(queue, new.key, arguments_of(new, queue, new.key.decode()), new)

    @classmethod
    def from_row(cls, queue: str, row: reads.Row) -> Job:
        """A job from a row of the store; a record that can't be read gives a job without arguments."""
        return cls._lazy(f"{queue}.{row.key}", queue, partial(fields_of, queue, row))

    @classmethod
    def _only(cls, id: str, queue: str, rows: list[reads.Row]) -> Job:
        if not rows:
            raise JobDoesNotExist(f"No job {id}: {verbs.GONE}.")
        return cls.from_row(queue, rows[0])

    def _lists(self, most: int) -> Any:
        return reads.lists(self.queue, self.key, whole_number("most", most, 1))

    def _log_lines(self, lists: reads.Lists) -> list[LogLine]:
        return log_lines_from(lists.logs, self.queue, lists.key)

    def _runs(self, lists: reads.Lists) -> list[Run]:
        return runs_from(lists.runs, self.queue, lists.key)

    def _verb(self, verb: str, argument: int | str = "") -> Any:
        return moves.verb(verb, self.queue, [self.key], argument)

    def _after(self, verb: str, answer: moves.Answer, **changes: Any) -> Job:
        """The job as a verb left it; the verb's signal is sent."""
        after = verbs.after(self, verb, answer, **changes)
        if signal := verbs.signal_of(verb, answer):
            signals.emit(signal, registry.get(self.name), job=after)
        return after

    async def _aafter(self, verb: str, answers: list[moves.Answer], **changes: Any) -> Job:
        signal = verbs.signal_of(verb, answers[0])
        if signal is None or not signal.receivers:  # nothing that may block
            return self._after(verb, answers[0], **changes)
        return await sync_to_async(self._after)(verb, answers[0], **changes)


# These set a slot even of a frozen object.
_SETTERS: Mapping[str, Callable[[Job, Any], None]] = {
    one.name: vars(Job)[one.name].__set__ for one in fields(Job)
}
_DEFAULTS = {one.name: one.default for one in fields(Job) if one.default is not MISSING}
_new, _set_id, _set_queue = object.__new__, _SETTERS["id"], _SETTERS["queue"]
_set_arguments = _SETTERS["_arguments"]
_get_source, _set_source = vars(_Unread)["_source"].__get__, vars(_Unread)["_source"].__set__


def _read_all(job: Any) -> None:
    """Make a job's fields, unless they're there already."""
    try:
        source = _get_source(job)
    except AttributeError:  # it was made by the constructor
        return
    if source is not None:
        found = _fields_of_new(job, source) if isinstance(source, records.NewJob) else source()
        for name, value in {**_DEFAULTS, **found}.items():
            _SETTERS[name](job, value)
        _set_source(job, None)


def _fields_of_new(job: Job, template: records.NewJob) -> dict[str, Any]:
    created = ids.created_ms(job.key)
    due = template.run_at if template.run_at is not None else created + (template.delay or 0)
    return {
        "name": template.name,
        "state": State.DELAYED if due > created else State.WAITING,
        "priority": template.priority,
        "attempts_made": 0,
        "attempts": attempts_of(template.name, job.queue, template.options),
        "created_at": moment(created),
        "run_at": moment_or_none(due) if due > created else None,
        "_options": template.options,
        "is_encrypted": encryption.is_sealed(template.arguments),
        "_arguments": job._arguments,
    }


__all__ = ["Job", "JobError", "LogLine", "Run"]
