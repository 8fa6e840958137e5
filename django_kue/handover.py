"""The handover of enqueued jobs to the store, with as many tries as that takes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Protocol

from django_kue.conf import settings
from django_kue.errors import EnqueueError, StoreError, StoreUnavailable
from django_kue.records import NewJob
from django_kue.store import moves, reads, transport, transport_async

TRIES = 3


class NewJobs(Protocol):
    """A sequence of new jobs, or something that makes them when asked for a part of it, once."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Sequence[NewJob]: ...


def submit(queue: str, jobs: NewJobs, *, is_forwarded: bool = False) -> list[bytes]:
    """Store new jobs; returns their keys in order. For a unique duplicate that's the first job's key.

    A send whose reply was lost is repeated under the same number, which creates nothing twice. It takes
    at most ``ENQUEUE_TIMEOUT`` seconds for each 1,000 jobs.

    Raises:
        EnqueueError: Redis can't take them.
    """
    handover = _Handover(len(jobs))
    link = transport.borrow()
    try:
        _register(link, queue, handover)
        calls = _Calls(link, queue, jobs, is_forwarded)
        if handover.is_one_call:
            handover.begin()
            only: list[bytes] = _deliver(link, calls.make(), handover)
            return only
        keys: list[bytes] = []
        while call := calls.take():
            handover.begin()
            keys += _deliver(link, call, handover, calls.prepare)
        return keys
    finally:
        transport.give_back(link)


def submit_one(queue: str, key: bytes, record: bytes, priority: bytes) -> None:
    """The fast path of :func:`submit`, for one plain job."""
    begun = time.monotonic()
    link = transport.borrow()
    try:
        link.number += 1
        terms = queue, key, record, priority, link.sender, link.number
        try:
            if not _is_new(queue) and link.carry_out(moves.enqueue_one_packed(*terms)):
                return
        except (StoreUnavailable, StoreError) as error:
            handover = _Handover(1, begun)
            handover.begin()
            time.sleep(handover.pause_after(error))
        else:
            handover = _Handover(1, begun)
            _register(link, queue, handover)
            handover.begin()
        _deliver(link, moves.enqueue_one(*terms), handover)
    finally:
        transport.give_back(link)


async def asubmit(queue: str, jobs: NewJobs, *, is_forwarded: bool = False) -> list[bytes]:
    """The async twin of :func:`submit`."""
    handover = _Handover(len(jobs))
    link = transport_async.borrow()
    try:
        if _is_new(queue):
            await _adeliver(link, reads.registry(queue), handover)
            _known.add((settings.PREFIX, queue))
        calls = _Calls(link, queue, jobs, is_forwarded)
        if handover.is_one_call:
            handover.begin()
            only: list[bytes] = await _adeliver(link, calls.make(), handover)
            return only
        keys: list[bytes] = []
        while call := calls.take():
            handover.begin()
            keys += await _adeliver(link, call, handover, calls.prepare)
        return keys
    finally:
        await transport_async.give_back(link)


class _Calls:
    """The calls of one :func:`submit`, each with up to 1,000 jobs. The next one is made while Redis works
    on the last."""

    def __init__(
        self,
        link: transport.Link | transport_async.AsyncLink,
        queue: str,
        jobs: NewJobs,
        is_forwarded: bool,
    ) -> None:
        self._link = link
        self._queue = queue
        self._jobs = jobs
        self._is_forwarded = is_forwarded
        self._made = 0  # jobs that calls were made for
        self._next: Any = None

    def prepare(self) -> None:
        """Make the next call, if there is one and it isn't made yet."""
        if self._made < len(self._jobs) and self._next is None:
            self._next = self.make()

    def make(self) -> Any:
        """The call with the next jobs."""
        link, first = self._link, self._made
        link.number += 1
        self._made += moves.BULK
        jobs = self._jobs[first : self._made]
        return moves.enqueue(
            self._queue, jobs, sender=link.sender, number=link.number, is_forwarded=self._is_forwarded
        )

    def take(self) -> Any:
        """The next call; ``None`` after the last."""
        self.prepare()
        call, self._next = self._next, None
        return call


_known: set[tuple[str, str]] = set()


def _is_new(queue: str) -> bool:
    """Whether the queue isn't yet in the registry, as far as this process knows."""
    return (settings.PREFIX, queue) not in _known


class _Handover:
    """How far the jobs of one :func:`submit` got, and how long the call under way may still take."""

    _begun = 0  # jobs in the calls begun so far; those of all but the last call are stored
    _stored = 0
    _may_be_stored = False
    _tries = 0

    def __init__(self, total: int, begun: float | None = None) -> None:
        self._total = total
        self._deadline = (time.monotonic() if begun is None else begun) + settings.ENQUEUE_TIMEOUT

    @property
    def is_one_call(self) -> bool:
        """Whether one call takes all the jobs, as in most enqueues."""
        return 0 < self._total <= moves.BULK

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._deadline - time.monotonic())

    def begin(self) -> None:
        """Begin with the next up to 1,000 jobs; the first share their time with what came before them."""
        if self._begun:
            self._deadline = time.monotonic() + settings.ENQUEUE_TIMEOUT
        self._stored = self._begun
        self._begun = min(self._begun + moves.BULK, self._total)
        self._tries = 0

    def pause_after(self, error: StoreUnavailable | StoreError) -> float:
        """Seconds to wait before the next try; raises EnqueueError if there won't be one."""
        self._tries += 1
        self._may_be_stored |= isinstance(error, StoreUnavailable) and error.may_be_applied
        pause: float = random.uniform(0.5, 1) * 0.1 * 2**self._tries
        if isinstance(error, StoreError) or self._tries == TRIES or pause >= self.left:
            raise self._failure(error) from error
        return pause

    def _failure(self, error: Exception) -> EnqueueError:
        is_unknown = self._may_be_stored and self._begun > 0
        text = self._unknown() if is_unknown else self._refused()
        if self._stored:
            text += f" The first {self._stored} are stored."
        return EnqueueError(f"{text} {error}", may_be_stored=is_unknown, stored=self._stored)

    def _refused(self) -> str:
        if self._total <= 1:
            return "The job was not enqueued."
        return f"{self._total - self._stored} of {self._total} jobs were not enqueued."

    def _unknown(self) -> str:
        if self._total <= 1:
            return "Redis didn't answer: the job may have been stored."
        numbers = f"{self._stored + 1} to {self._begun}"
        return f"Redis didn't answer: of {self._total} jobs, numbers {numbers} may have been stored."


def _deliver(
    link: transport.Link, call: Any, handover: _Handover, meanwhile: transport.Meanwhile | None = None
) -> Any:
    while True:
        try:
            return link.send(call, timeout=handover.left, meanwhile=meanwhile)[0]
        except (StoreUnavailable, StoreError) as error:
            time.sleep(handover.pause_after(error))


def _register(link: transport.Link, queue: str, handover: _Handover) -> None:
    if _is_new(queue):
        _deliver(link, reads.registry(queue), handover)
        _known.add((settings.PREFIX, queue))


async def _adeliver(
    link: transport_async.AsyncLink,
    call: Any,
    handover: _Handover,
    meanwhile: transport.Meanwhile | None = None,
) -> Any:
    while True:
        try:
            return (await link.send(call, timeout=handover.left, meanwhile=meanwhile))[0]
        except (StoreUnavailable, StoreError) as error:
            await asyncio.sleep(handover.pause_after(error))
