"""Kue's test mode: what's enqueued stays here, in memory, without any Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import methodcaller
from typing import Any

from asgiref.sync import sync_to_async

from django_kue import enqueueing, handover, outbox
from django_kue.conf import settings
from django_kue.decorators import JobFunction
from django_kue.execution import Run
from django_kue.jobs import Job
from django_kue.records import decode_arguments
from django_kue.rows import arguments_of
from django_kue.states import State
from django_kue.store import let_answer, reads
from django_kue.testing.expecting import Expected, definition_of, expectation, listed, nearest_first, shown
from django_kue.testing.memory import MemoryQueue, MemoryStore
from django_kue.testing.running import MOST, Runner, TooManyRuns, described
from django_kue.testing.stored import Stored
from django_kue.testing.transactions import Waiting

DEEPEST = 10  # jobs inside jobs, inline
__tracebackhide__ = methodcaller("errisinstance", AssertionError)  # pytest shows the test's line, not ours

Function = JobFunction[..., Any] | Any  # or a Task of Django's


class Kue:
    """The test mode that is on: what was enqueued, running it, and assertions.

    A function in an assertion may be a ``@job`` function, or what its ``.using()`` returns: then those
    options are expected, too. Arguments are compared as the function's signature binds them, so that ``17``
    and ``order_id=17`` are the same, and defaults count. ``unittest.mock.ANY`` stands for any value. If no
    arguments are given, any will do. Django's ``@task`` functions work likewise.
    """

    def __init__(self) -> None:
        self._store = MemoryStore(before_look=self._settle, before_enqueue=self._check_may_run)
        self._runner = Runner(self._store)
        self._waiting = Waiting(self._store)
        self._settling = 0  # how many calls of _settle are nested
        self._depth = 0  # of jobs that are run where they're enqueued
        self._inline_runs = 0  # since the outermost of them was enqueued
        self._is_inline = False
        self._raises = True

    # ── what was enqueued ──

    @property
    def jobs(self) -> list[Job]:
        """All jobs that were enqueued, in order, each as it is now, including removed ones."""
        return [_job(stored) for stored in self._enqueued()]

    def jobs_of(self, function: Function, /, *args: Any, **kwargs: Any) -> list[Job]:
        """The jobs of a function; if arguments are given, those with these arguments."""
        return [_job(stored) for stored in self._matching(expectation(function, args, kwargs))]

    def clear(self) -> None:
        """Forget everything."""
        self._store.clear()

    # ── assertions ──

    def assert_enqueued(self, function: Function, /, *args: Any, **kwargs: Any) -> Job:
        """Such a job was enqueued. Returns the first one.

        >>> kue.assert_enqueued(send_receipt, 17)
        Job(...)
        >>> kue.assert_enqueued(send_receipt.using(delay=60), order_id=17)
        Job(...)

        Raises:
            AssertionError: none was. The message lists what was enqueued instead, the nearest first.
        """
        expected = expectation(function, args, kwargs)
        found = self._matching(expected)
        if not found:
            raise AssertionError(f"{expected} was not enqueued. {self._instead(expected)}")
        return _job(found[0])

    def assert_not_enqueued(self, function: Function, /, *args: Any, **kwargs: Any) -> None:
        """No such job was enqueued."""
        expected = expectation(function, args, kwargs)
        if found := self._matching(expected):
            raise AssertionError(f"{expected} was enqueued, {_times(len(found))}:\n{listed(found)}")

    def assert_nothing_enqueued(self) -> None:
        """No job was enqueued."""
        if found := self._enqueued():
            raise AssertionError(f"{_jobs(len(found))} enqueued:\n{listed(found)}")

    def assert_count(self, count: int, function: Function = None, /, *args: Any, **kwargs: Any) -> list[Job]:
        """Exactly this many jobs were enqueued: of this function, and with these arguments, if given.

        >>> kue.assert_count(3)
        [Job(...), Job(...), Job(...)]
        >>> kue.assert_count(1, send_receipt, 17)
        [Job(...)]
        """
        if function is None:
            found = self._enqueued()
            if len(found) != count:
                rest = f":\n{listed(found)}" if found else f".{self._waiting_for_commit()}"
                raise AssertionError(f"{_jobs(len(found))} enqueued, not {count}{rest}")
            return [_job(stored) for stored in found]
        expected = expectation(function, args, kwargs)
        found = self._matching(expected)
        if len(found) != count:
            raise AssertionError(
                f"{expected} was enqueued {_times(len(found))}, not {count}. {self._instead(expected)}"
            )
        return [_job(stored) for stored in found]

    # ── running ──

    def drain(self, *queues: str, within: float | None = None, raise_failures: bool = True) -> list[Job]:
        """Run the waiting jobs in this process until none is left, including those enqueued meanwhile.

        In the order of a worker with one thread: by priority within a queue, else what has waited longest.
        Retries and delayed jobs get their turn when nothing else is waiting: time passes without sleeping.
        Timeouts aren't enforced.

        Args:
            queues: names; by default all.
            within: seconds that may pass for delayed jobs: 0 runs only what is due now.
            raise_failures: if a job fails for good, raise what it raised, and run no more.

        Returns:
            The jobs that ended, in that order.

        Raises:
            TooManyRuns: there were 1000 runs, and jobs still wait.
            LookupError: there's no queue of this name.
        """
        _refuse_break()
        _refuse_event_loop("drain", "await kue.adrain()")
        _check_names(queues)
        self._settle()
        ended: list[Job] = []
        until = self._until(within)
        for _ in range(MOST):
            found = self._runner.next(queues, until)
            if found is None:
                return ended
            self._note(found[1], self._runner.run(*found), ended, raise_failures)
            self._settle()
        raise self._too_many(queues, until)

    async def adrain(
        self, *queues: str, within: float | None = None, raise_failures: bool = True
    ) -> list[Job]:
        """The twin of :meth:`drain`: coroutine jobs run on this event loop."""
        _refuse_break()
        _check_names(queues)
        settle = sync_to_async(self._settle)
        await settle()
        ended: list[Job] = []
        until = self._until(within)
        for _ in range(MOST):
            found = self._runner.next(queues, until)
            if found is None:
                return ended
            self._note(found[1], await self._runner.arun(*found), ended, raise_failures)
            await settle()
        raise self._too_many(queues, until)

    def perform(self, function: Function, /, *args: Any, **kwargs: Any) -> Any:
        """Enqueue one job and run it to its end, with its retries. Returns what it returned.

        Its arguments and result pass through the codec, its options are checked. Other jobs stay as they are.

        Raises what the job raised, if it fails for good.
        """
        _refuse_break()
        _refuse_event_loop("perform", "await …aenqueue(), then await kue.adrain()")
        with self._switched(is_inline=False):
            job = definition_of(function).using(on_commit=False).enqueue(*args, **kwargs)
        stored = next(one for one in self._store.enqueued if one.key == job.key.encode())
        if not stored.state.is_finished:  # for a unique job, the first one may have ended
            self._run_to_the_end(self._store.queue(job.queue), stored, raise_failures=True)
        return _job(stored).result

    @contextmanager
    def inline(self, *, raise_failures: bool = True) -> Iterator[Kue]:
        """Inside the ``with`` block, each job is run to its end where it's enqueued, or at the commit; its
        retries are made at once. Jobs that are enqueued with a delay wait for :meth:`drain`.

        Args:
            raise_failures: if a job fails for good, ``.enqueue()`` raises what it raised.
        """
        with self._switched(is_inline=True, raises=raise_failures):
            yield self

    @contextmanager
    def _switched(self, *, is_inline: bool, raises: bool = True) -> Iterator[None]:
        before = self._is_inline, self._raises
        self._is_inline, self._raises = is_inline, raises
        try:
            yield
        finally:
            self._is_inline, self._raises = before

    def _handed_over(self) -> None:
        """New jobs are there, or wait for a commit."""
        self._waiting.look_here()
        if not self._is_inline:
            self._settle()
            return
        self._check_may_run()
        if self._depth == DEEPEST:
            return  # an outer call runs them, when its job has ended
        if not self._depth:
            self._inline_runs = 0
        self._depth += 1
        try:
            self._settle()
            while (found := self._runner.next((), self._store.now())) is not None:
                self._count_inline()
                self._run_to_the_end(*found, raise_failures=self._raises)
        finally:
            self._depth -= 1

    def _check_may_run(self) -> None:
        """Called before a job is stored, which would then be run."""
        if self._is_inline:
            _refuse_event_loop("enqueue", "await …aenqueue()")

    def _count_inline(self) -> None:
        """Stop jobs that go on enqueueing themselves."""
        self._inline_runs += 1
        if self._inline_runs > MOST:
            raise TooManyRuns(f"jobs go on enqueueing themselves: {MOST} have run; inline, that never ends")

    def _run_to_the_end(self, queue: MemoryQueue, stored: Stored, *, raise_failures: bool) -> None:
        run = self._runner.run(queue, stored)
        while run.outcome is not None and run.outcome.kind == "r" and not stored.state.is_finished:
            run = self._runner.run(queue, stored)
        self._note(stored, run, [], raise_failures)

    @staticmethod
    def _note(stored: Stored, run: Run, ended: list[Job], raise_failures: bool) -> None:
        if stored.state is State.FAILED and raise_failures and run.exception is not None:
            run.exception.add_note(described(run))
            raise run.exception
        if stored.state.is_finished:
            ended.append(_job(stored))

    def _until(self, within: float | None) -> float | None:
        return None if within is None else self._store.now() + within * 1000

    def _too_many(self, queues: tuple[str, ...], until: float | None) -> TooManyRuns:
        found = self._runner.next(queues, until)
        which = f": {listed([found[1]]).strip()}" if found else ""
        return TooManyRuns(
            f"there were {MOST} runs, and jobs still wait{which}. A job that enqueues itself never ends: "
            "drain(within=seconds) stops after that time."
        )

    def _settle(self) -> None:
        """Send what only the test's own transaction holds back; not after the mode's end.

        Sending a job may lead here again, through a receiver or a job that looks: each one sends what's left.
        """
        if _breaks or not (_active and _active[-1] is self) or self._settling == DEEPEST:
            return
        self._settling += 1
        try:
            self._waiting.send_what_only_the_test_holds()
        finally:
            self._settling -= 1

    # ── looking ──

    def _enqueued(self) -> list[Stored]:
        self._settle()
        return list(self._store.enqueued)

    def _matching(self, expected: Expected) -> list[Stored]:
        return [stored for stored in self._enqueued() if not expected.differences(stored)]

    def _instead(self, expected: Expected) -> str:
        """What was enqueued, in place of what was expected."""
        if not self._store.enqueued:
            return f"Nothing was.{self._waiting_for_commit()}"
        count = len(self._store.enqueued)
        lines = nearest_first(self._store.enqueued, expected)
        return f"{_jobs(count)} enqueued, the nearest first:\n{lines}{self._waiting_for_commit()}"

    def _waiting_for_commit(self) -> str:
        waiting = [
            f"  {definition.name}({shown(*_arguments(definition, job))})"
            for definition, job in self._waiting.jobs()
        ]
        if not waiting:
            return ""
        return "\n".join([
            f"\n{_jobs(len(waiting))} waiting for the commit of a transaction that's still open:", *waiting,
            "Check after the end of its atomic() block.",
        ])  # fmt: skip


def _arguments(definition: Any, job: Any) -> Any:
    return decode_arguments(arguments_of(job, definition.options.queue, job.key.decode()), fetch=False)


def _job(stored: Stored) -> Job:
    return Job.from_row(stored.queue, reads._row(stored.row()))


def _jobs(count: int) -> str:
    return "1 job was" if count == 1 else f"{count or 'No'} jobs were"


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _check_names(queues: Iterable[str]) -> None:
    for name in queues:
        settings.queue(name)


def _refuse_break() -> None:
    if _breaks:
        raise RuntimeError(
            "a real worker is running, and has the jobs: Kue's test mode is suspended until it ends"
        )


def _refuse_event_loop(name: str, remedy: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name}() would run jobs inside a running event loop: {remedy} instead")


# ── switching it on ──

_active: list[Kue] = []
_breaks = 0  # while there are any, Redis is asked: a real worker runs


@contextmanager
def fake() -> Iterator[Kue]:
    """Kue's test mode: inside the ``with`` block, jobs are kept in memory, and run when you call
    :meth:`Kue.drain`.

    Enqueueing does everything that it usually does: it checks, encodes, waits for the commit, sends signals.
    No Redis is needed. The mode applies to the whole process, with all of its threads.

    >>> with fake() as kue:
    ...     order.pay()
    ...     kue.assert_enqueued(send_receipt, order.pk)
    Job(...)
    """
    if _active:
        _active[-1]._settle()
    kue = Kue()
    _active.append(kue)
    _switch()
    try:
        yield kue
        kue._settle()
    finally:
        _active.remove(kue)
        _switch()


def begin_break() -> None:
    """Suspend the test mode that's on: jobs go to Redis, for a real worker, until :func:`end_break`."""
    global _breaks
    _breaks += 1
    _switch()


def end_break() -> None:
    global _breaks
    _breaks -= 1
    _switch()


def _switch() -> None:
    """Send new jobs to where they now belong: to the innermost test mode, or to Redis."""
    kue = _active[-1] if _active and not _breaks else None
    let_answer(None if kue is None else kue._store)
    enqueueing.after = None if kue is None else kue._handed_over
    handover._known.clear()  # it was another store that knew the queues …
    outbox.forget()  # … or was away


@contextmanager
def inline(*, raise_failures: bool = True) -> Iterator[Kue]:
    """The test mode in which jobs run where they're enqueued: see :meth:`Kue.inline`."""
    with fake() as kue, kue.inline(raise_failures=raise_failures):
        yield kue


def active() -> Kue:
    """The test mode that's on.

    Raises:
        RuntimeError: none is.
    """
    if not _active:
        raise RuntimeError(
            "Kue's test mode is off: use the pytest fixture kue, django_kue.testing.KueTestMixin, or with "
            "django_kue.testing.fake()"
        )
    return _active[-1]
