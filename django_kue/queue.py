"""Queues as people see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async

from django_kue import encryption, ids, records, registry, signals
from django_kue.backoff import LONGEST
from django_kue.codecs import CodecError, search_hash
from django_kue.conf import settings
from django_kue.errors import JobDoesNotExist
from django_kue.jobs import Job
from django_kue.kinds import number_of_seconds, whole_number
from django_kue.states import FINISHED, State
from django_kue.store import aask, asend, ask, moves, reads, send
from django_kue.verbs import SIGNALS

BATCH = 500  # jobs per call, where many are processed
MOST_FOUND = 1000  # jobs


@dataclass(frozen=True, slots=True)
class MinuteRate:
    """How many jobs ended in one minute."""

    minute: datetime
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue by name. Made by :func:`get_queue`; each method that talks to Redis has an ``a…`` twin, and
    raises :class:`~django_kue.StoreUnavailable` when Redis is away.

    >>> get_queue("email").counts()["failed"]
    3
    """

    name: str

    def __post_init__(self) -> None:
        _check_text(self.name)
        if not ids.QUEUE_NAME.fullmatch(self.name):
            raise ValueError(f"a queue's name is 1 to 40 letters, digits, _ and -, not {self.name!r:.80}")

    # ── reading ──

    def counts(self) -> dict[str, int]:
        """How many jobs are in each of the six states, exactly."""
        return ask(reads.counts(self.name))

    async def acounts(self) -> dict[str, int]:
        return await aask(reads.counts(self.name))

    def jobs(
        self, state: State | str, *, offset: int = 0, limit: int = 25, newest_first: bool = True
    ) -> list[Job]:
        """A page of the jobs in a state.

        Finished jobs are ordered by when they finished, delayed ones by when they're due, active ones by
        when they were claimed. Waiting jobs come in the order in which they'll be claimed, or its
        reverse when ``newest_first``.

        Args:
            state: one of the six states, or Kue's ``inactive`` and ``complete``.
            offset: jobs to skip, ≥ 0.
            limit: jobs at most, 0 to 1000.

        Raises:
            TypeError, ValueError: no such state, or no number in these ranges.
        """
        return self._made(ask(self._page(state, offset, limit, newest_first)))

    async def ajobs(
        self, state: State | str, *, offset: int = 0, limit: int = 25, newest_first: bool = True
    ) -> list[Job]:
        return self._made(await aask(self._page(state, offset, limit, newest_first)))

    def get(self, id: str) -> Job:
        """The job with this id, if it's on this queue. Raises JobDoesNotExist."""
        return Job.get(self._own(id))

    async def aget(self, id: str) -> Job:
        return await Job.aget(self._own(id))

    def find(self, **search_keys: Any) -> list[Job]:
        """The jobs (at most 1000) whose arguments named in ``search_keys`` have these values, oldest first.

        Values are compared exactly, types too: 17 isn't ``"17"``. A job is found by the arguments that were
        ``search_keys`` of its function, or of its ``.using()``, when it was enqueued.

        Raises:
            ValueError: no key, a name that isn't an argument of any function here, or an impossible value.

        >>> receipts = get_queue("email").find(order_id=17)
        """
        return self._newest(send(*self._searches(search_keys)))

    async def afind(self, **search_keys: Any) -> list[Job]:
        return self._newest(await asend(*self._searches(search_keys)))

    @property
    def is_paused(self) -> bool:
        """True while no worker takes jobs of this queue."""
        return ask(reads.facts(self.name)).paused_since_ms is not None

    async def ais_paused(self) -> bool:
        return (await aask(reads.facts(self.name))).paused_since_ms is not None

    def oldest_waiting(self) -> float | None:
        """How many seconds the longest waiting job has been ready to run; ``None`` if nothing is waiting.
        Only the job that's next in each priority is looked at."""
        return _oldest(ask(reads.oldest(self.name)))

    async def aoldest_waiting(self) -> float | None:
        return _oldest(await aask(reads.oldest(self.name)))

    def work_time(self) -> float:
        """Seconds that jobs of this queue have run in total, since the beginning."""
        return ask(reads.facts(self.name)).totals.get("work_ms", 0) / 1000

    async def awork_time(self) -> float:
        return (await aask(reads.facts(self.name))).totals.get("work_ms", 0) / 1000

    def rates(self, minutes: int = 60) -> list[MinuteRate]:
        """How many jobs completed and failed in each of the last ``minutes`` (1 to 1440), oldest first.

        The last entry is the current minute.
        """
        return _rates(ask(self._minutes(minutes)), minutes)

    async def arates(self, minutes: int = 60) -> list[MinuteRate]:
        return _rates(await aask(self._minutes(minutes)), minutes)

    # ── steering ──

    def pause(self) -> bool:
        """Keep workers from taking jobs of this queue; running ones finish. True if that changed anything."""
        return self._switched(ask(moves.pause(self.name, paused=True)), signals.queue_paused)

    async def apause(self) -> bool:
        changed = await aask(moves.pause(self.name, paused=True))
        return await sync_to_async(self._switched)(changed, signals.queue_paused)

    def resume(self) -> bool:
        """Undo :meth:`pause`. True if that changed anything."""
        return self._switched(ask(moves.pause(self.name, paused=False)), signals.queue_resumed)

    async def aresume(self) -> bool:
        changed = await aask(moves.pause(self.name, paused=False))
        return await sync_to_async(self._switched)(changed, signals.queue_resumed)

    def empty(self) -> int:
        """Remove all waiting and delayed jobs, without signals; returns how many were removed.

        While producers are busy, it removes as many as there were when it began.
        """
        return sum(self._emptied())

    def _emptied(self) -> Iterator[int]:
        """How many were removed, batch by batch."""
        counts = self.counts()
        left = counts["waiting"] + counts["delayed"]
        while left > 0:
            removed, passed = ask(moves.empty(self.name, min(moves.BULK, left)))
            if not removed and not passed:
                break
            left -= removed
            yield removed

    async def aempty(self) -> int:
        return await sync_to_async(self.empty, thread_sensitive=False)()

    def clean(self, state: State | str, older_than: float | timedelta = 0) -> int:
        """Remove finished jobs of a state that finished more than ``older_than`` seconds ago.

        Sends no signals. Returns how many were removed.

        Raises:
            ValueError: the state isn't a finished one (:meth:`empty` removes waiting and delayed jobs),
                or the time isn't from 0 to ten years.
        """
        return sum(self._cleaned(state, older_than))

    def _cleaned(self, state: State | str, older_than: float | timedelta = 0) -> Iterator[int]:
        """How many were removed, batch by batch."""
        state = _state(state)
        if state not in FINISHED:
            raise ValueError(
                f"clean() takes completed, failed or cancelled, not {state}; empty() removes the rest"
            )
        seconds = number_of_seconds("older_than", older_than)
        if not 0 <= seconds <= LONGEST:
            raise ValueError(f"older_than is from 0 to ten years, not {older_than!r}")
        before = ask(reads.facts(self.name)).now_ms - int(seconds * 1000) + 1
        while removed := ask(moves.clean(self.name, state, before)):
            yield removed

    async def aclean(self, state: State | str, older_than: float | timedelta = 0) -> int:
        return await sync_to_async(self.clean, thread_sensitive=False)(state, older_than)

    def retry_failed(self) -> int:
        """Run all currently failed jobs again, in batches; returns how many. Each sends ``job_enqueued``."""
        return sum(self._retried())

    def _retried(self) -> Iterator[int]:
        """How many will run again, batch by batch."""
        return self._each("requeue", State.FAILED)

    async def aretry_failed(self) -> int:
        return await _in_thread(self.retry_failed, signals.job_enqueued)

    def promote_delayed(self) -> int:
        """Run all delayed jobs now, in batches; returns how many. Each sends ``job_promoted``."""
        return sum(self._each("promote", State.DELAYED))

    async def apromote_delayed(self) -> int:
        return await _in_thread(self.promote_delayed, signals.job_promoted)

    def _each(self, verb: str, state: State) -> Iterator[int]:
        """Apply a verb to all jobs that are in a state now, from the first on, and skip any that stay in it.
        Yields for each batch how many jobs changed."""
        skipped = 0
        left = self.counts()[state]
        while left > 0:
            keys = ask(reads.keys_of(self.name, state, skipped, min(BATCH, left)))
            if not keys:
                break
            changed = len(apply_verb(verb, self.name, keys))
            skipped, left = skipped + len(keys) - changed, left - len(keys)
            yield changed

    # ── how ──

    def _page(self, state: State | str, offset: int, limit: int, newest_first: bool) -> Any:
        whole_number("offset", offset, 0)
        whole_number("limit", limit, 0, 1000)
        return reads.page(self.name, _state(state), offset, limit, newest_first=bool(newest_first))

    def _searches(self, search_keys: dict[str, Any]) -> list[Any]:
        """One search; with encryption, one more for each key that the hashes may be made with."""
        if not search_keys:
            raise ValueError("find() takes at least one search key, for example find(order_id=17)")
        _check_search_keys(search_keys)
        return [
            reads.find(self.name, [_hash_of(*pair, key) for pair in search_keys.items()], MOST_FOUND)
            for key in encryption.hash_keys(self.name)
        ]

    def _newest(self, found: list[list[reads.Row]]) -> list[Job]:
        jobs = [job for rows in found for job in self._made(rows)]
        if len(found) > 1:
            jobs.sort(key=lambda job: job.created_at)
        return jobs[-MOST_FOUND:]

    def _minutes(self, minutes: int) -> Any:
        whole_number("minutes", minutes, 1, 1440)
        return reads.facts(self.name, (minutes + 59) // 60 + 1)

    def _made(self, rows: list[reads.Row]) -> list[Job]:
        return [Job.from_row(self.name, row) for row in rows]

    def _own(self, id: str) -> str:
        if ids.split(id)[0] != self.name:
            raise JobDoesNotExist(f"{id} is not a job of the queue {self.name!r}")
        return id

    def _switched(self, changed: bool, signal: Any) -> bool:
        if changed:
            signals.emit(signal, None, queue=self)
        return changed

    def __str__(self) -> str:
        return self.name


def apply_verb(verb: str, queue: str, keys: Sequence[str | bytes], argument: int | str = "") -> list[bytes]:
    """Apply a verb to some jobs of a queue, each decided on its own, and send their signals. Returns the keys
    of the jobs that it was applied to."""
    signal = SIGNALS.get(verb)
    # Read first: a removed job can't be read afterwards, and a retried one may have ended by then.
    jobs = ask(reads.rows(queue, keys)) if signal is not None and signal.receivers else []
    names = [key.encode() if isinstance(key, str) else key for key in keys]
    answers = ask(moves.verb(verb, queue, keys, argument))
    done = {key: answer for key, answer in zip(names, answers, strict=True) if answer.is_done}
    for row in jobs:
        if (answer := done.get(row.key.encode())) is not None:
            Job.from_row(queue, row)._after(verb, answer)
    return list(done)


def get_queue(name: str = "default") -> Queue:
    """The queue with this name: a declared one, or one that once had jobs.

    Raises:
        LookupError: it's neither; the message names those that are declared.
        TypeError: the name isn't a string.
        StoreUnavailable: it isn't declared, and Redis, which knows the others, is away.
    """
    if not _is_declared(name) and name not in ask(reads.registry()).queues:
        settings.queue(name)  # raises, naming the declared ones
    return Queue(name)


async def aget_queue(name: str = "default") -> Queue:
    """The twin of :func:`get_queue`. It uses no thread, and for a declared queue it doesn't ask Redis."""
    if not _is_declared(name) and name not in (await aask(reads.registry())).queues:
        settings.queue(name)
    return Queue(name)


def queues() -> list[Queue]:
    """Every queue that's declared or ever had jobs, by name."""
    return _listed(ask(reads.registry()))


async def aqueues() -> list[Queue]:
    """The twin of :func:`queues`. It uses no thread."""
    return _listed(await aask(reads.registry()))


def _is_declared(name: str) -> bool:
    _check_text(name)
    return name in settings.queues


def _check_text(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f'a queue\'s name is a string, for example "email", not {name!r:.80}')


def _listed(known: reads.Registry) -> list[Queue]:
    return [Queue(name) for name in sorted({*settings.queues, *known.queues})]


async def _in_thread(steer: Callable[[], int], signal: Any) -> int:
    # Receivers may use the database, whose connections belong to the thread of synchronous code.
    return await sync_to_async(steer, thread_sensitive=bool(signal.receivers))()


# ── helpers of the readers ──


def _state(state: State | str) -> State:
    try:
        return State(state)
    except ValueError:
        raise ValueError(f"{state!r} is not a state; the states are {', '.join(State)}") from None


def _check_search_keys(names: Iterable[str]) -> None:
    """Raises ValueError for a name that can't be a search key: only arguments can, even in ``.using()``."""
    functions = list(registry.functions())
    arguments = {name for function in functions for name in function.signature.names}
    unknown = [name for name in names if name not in arguments]
    if unknown:
        declared = sorted({name for function in functions for name in function.options.search_keys})
        raise ValueError(
            f"find(): no job here has an argument {unknown[0]!r}; the declared search_keys are "
            f"{', '.join(declared) or 'none'}. Declare others on jobs that have such arguments: "
            '@job(search_keys=("order_id",))'
        )


def _hash_of(name: str, value: Any, key: bytes) -> str:
    try:
        return search_hash(name, value, key)
    except CodecError as error:
        raise ValueError(f"find({name}=…): {error.reason}") from error


def _oldest(found: reads.Oldest) -> float | None:
    ages = []
    for key, text in found.waiting:
        try:
            since = int(records.decode(text).head.get("d", 0)) or ids.created_ms(key)
        except ValueError:
            continue
        ages.append(max(0, found.now_ms - since) / 1000)
    return max(ages, default=None)


def _rates(facts: reads.Facts, minutes: int) -> list[MinuteRate]:
    last = facts.now_ms // 60_000
    return [
        MinuteRate(
            datetime.fromtimestamp(minute * 60, UTC),
            facts.minutes.get(f"co{minute}", 0),
            facts.minutes.get(f"fa{minute}", 0),
        )
        for minute in range(last - minutes + 1, last + 1)
    ]
