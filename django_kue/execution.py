"""One run of a job: load → prepare → call → outcome. What becomes of it is a value, and
:meth:`Outcome.encode` is the one place that turns it into the store's words."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from django.core.signals import setting_changed

from django_kue import codecs, ids, records, registry
from django_kue.conf import QueueSettings, settings
from django_kue.context import JobContext
from django_kue.decorators import JobFunction
from django_kue.errors import Discard, JobCancelled, Retry
from django_kue.jobs import Job, JobError
from django_kue.options import RunRules, rules
from django_kue.states import State
from django_kue.store.moves import Report
from django_kue.store.reads import Row

_PACKAGE = str(Path(__file__).parent)
PARK = 5.0  # seconds till a job whose function isn't known is looked at again; a deploy may be on


class Run:
    """A claimed job on its way through a worker. It's also what the job's context reports to."""

    __slots__ = (
        "args",
        "attempt",
        "claimed_ms",
        "definition",
        "exception",
        "fetched",
        "finished",
        "fresh_until",
        "interrupt",
        "is_cancelled",
        "is_lost",
        "is_resent",
        "key",
        "kwargs",
        "lease",
        "noted_delay",
        "outcome",
        "queue",
        "record",
        "reports",
        "result",
        "rules",
        "started",
        "suspicion",
        "task",
        "text",
    )  # fmt: skip

    def __init__(
        self, queue: str, key: bytes, lease: bytes, text: bytes, claimed_ms: int, fetched: float
    ) -> None:
        self.queue = queue
        self.key = key
        self.lease = lease
        self.text = text
        self.claimed_ms = claimed_ms  # Redis's time …
        self.fetched = fetched  # … and the monotonic clock's, of the same moment
        self.fresh_until = fetched  # before that, the lease surely holds
        self.started = fetched
        self.finished = fetched
        self.record: records.Record | None = None
        self.definition: JobFunction[Any, Any] | None = None
        self.rules: RunRules | None = None
        self.exception: BaseException | None = None
        self.result: Any = None
        self.outcome: Outcome | None = None
        self.interrupt: str | None = None  # "timeout" or "cancel", once its coroutine was cancelled
        self.is_cancelled = False
        self.is_lost = False  # its lease may be over: it should stop, and is another's to finish
        self.noted_delay: float | None = None  # what the project's backoff function said before the run
        self.is_resent = False  # its outcome may have got through already
        self.reports: Any = None  # where the context's words go
        self.task: asyncio.Task[None] | None = None
        self.attempt = 1
        self.suspicion = 0  # how often it was among those that ran when their process died
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}

    @property
    def id(self) -> str:
        return f"{self.queue}.{self.key_text}"

    @property
    def key_text(self) -> str:
        return self.key.decode(errors="backslashreplace")  # it may be foreign

    @property
    def name(self) -> str:
        return self.record.name if self.record else "(unreadable)"

    @property
    def started_ms(self) -> int:
        return self.claimed_ms + int((self.started - self.fetched) * 1000)

    @property
    def waited(self) -> float:
        """Seconds from when it could have run until it did."""
        try:
            since = int(self.record.head.get("d", 0)) if self.record else 0
            return max(0.0, (self.started_ms - (since or ids.created_ms(self.key_text))) / 1000)
        except ValueError:  # not a record or a key of ours
            return 0.0

    # ── the context's reporter ──

    def job(self) -> Job:
        """The job as it is while this run goes on."""
        lease = b"%s|%d|%s" % (self.lease.split(b"|")[0], self.started_ms, self.lease.split(b"|", 2)[2])
        row = Row(self.key_text, State.ACTIVE, self.text, lease, None, b"", b"", b"", self.is_cancelled)
        return Job.from_row(self.queue, row)

    def job_after(self, outcome: Outcome) -> Job:
        """The job after this run, as its signals show it; nothing is asked of Redis."""
        finished = datetime.fromtimestamp(
            (self.started_ms + (self.finished - self.started) * 1000) / 1000, UTC
        )
        job = replace(self.job(), attempts_made=self.attempt, error=outcome.error)
        if outcome.kind == "r":
            state = State.DELAYED if outcome.delay else State.WAITING
            return replace(
                job, state=state, run_at=finished + timedelta(seconds=outcome.delay), started_at=None
            )
        job = replace(job, state=_STATES[outcome.kind], finished_at=finished)
        return replace(job, _result=outcome.text, progress=100) if outcome.kind == "c" else job

    def progressed(self, text: bytes, percent: float, data: Any) -> None:
        self.reports.progressed(self, text, percent, data)

    def logged(self, text: str) -> None:
        line = text.encode(errors="replace")
        if len(line) > settings.MAX_LOG_LINE:
            line = line[: settings.MAX_LOG_LINE].decode(errors="ignore").encode() + " … (cut)".encode()
        self.reports.put(self.queue, Report(self.lease, self.key, b"l", line))


# ── outcomes ──


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run.

    ``kind`` is the store's letter (``scripts/lib/settle.lua``): completed, retry, failed, cancelled (x),
    back to the queue (b) or parked (k).
    """

    kind: str
    text: bytes = b""  # JSON: the result, or the error
    delay: float = 0.0
    keep: float | None = None
    error: JobError | None = None

    def encode(self, run: Run) -> bytes:
        """The store's words for it."""
        if self.kind == "c":
            if self.keep is None and (run.record is None or "u" not in run.record.head):
                return b"c%d|%b" % (run.started_ms, self.text)
            return b"C%b|%d|%b" % (_ms(self.keep), run.started_ms, self.text)
        if self.kind == "r":
            return b"r%d|%d|%b" % (self.delay * 1000, run.started_ms, self.text)
        if self.kind == "f":
            return b"f%b|%d|%b" % (_ms(self.keep), run.started_ms, self.text)
        if self.kind == "x":
            return b"x%d|" % run.started_ms
        if self.kind == "k":
            return b"k%d" % (self.delay * 1000)
        return self.kind.encode()


_STATES = {"c": State.COMPLETED, "f": State.FAILED, "x": State.CANCELLED}
RELEASED = Outcome("b")
PARKED = Outcome("k", delay=PARK)
CANCELLED = Outcome("x")


def _ms(seconds: float | None) -> bytes:
    return b"" if seconds is None else b"%d" % (seconds * 1000)


# ── the steps ──


def load(run: Run) -> Outcome | None:
    """Find the job's function and rules; an outcome when that's the end already."""
    try:
        run.record = record = records.decode(run.text)
        definition = registry.get(record.name)
        if definition is None:
            return PARKED
        run.definition = definition
        if record.options:
            run.rules = rules(definition.options, codecs.loads(record.options), _queue_settings(run.queue))
        else:
            run.rules = _plain_rules(definition, run.queue)
        if record.head:
            run.attempt = int(record.head.get("m", 0)) + 1
            run.suspicion = int(record.head.get("z", 0))
        return None
    except records.NewerRecord:
        return PARKED
    except (records.UnreadableRecord, ValueError, TypeError) as error:
        run.exception = error
        return failed(error)


def prepare(run: Run) -> Outcome | None:
    """Read the arguments; an outcome when they can't be read (a model's row is gone, for example)."""
    assert run.record is not None
    try:
        if run.record.arguments:
            run.args, run.kwargs = records.decode_arguments(run.record.arguments)
        return None
    except Exception as error:  # noqa: BLE001 - corrupt JSON, a missing row, a database that's away
        return of_exception(run, error)


def call(run: Run, context: JobContext) -> Any:
    """Call the function; a coroutine function's coroutine is returned for the loop to await."""
    assert run.definition is not None
    function = run.definition.function
    if run.definition.options.takes_context:
        return function(context, *run.args, **run.kwargs)
    return function(*run.args, **run.kwargs)


def of_result(run: Run, result: Any) -> Outcome:
    """The outcome of a run that returned: completed, unless the result can't be stored."""
    run.result = result
    if run.is_cancelled and not run.is_lost:
        return CANCELLED
    assert run.rules is not None
    if result is None:
        return Outcome("c", b"", keep=run.rules.keep)
    try:
        text = codecs.dumps(result)
    except ValueError as error:
        return _final(run, ValueError(f"the result can't be stored: {error}"))
    if len(text) > settings.MAX_RESULT:
        size = f"the result has {len(text)} bytes, more than MAX_RESULT ({settings.MAX_RESULT}) allows"
        return _final(run, ValueError(f"{size}; store it elsewhere and return its id"))
    return Outcome("c", text, keep=run.rules.keep)


def of_exception(run: Run, exception: BaseException) -> Outcome:
    """The outcome of a run that raised: the one place that decides about retries."""
    has_given_up = isinstance(exception, JobCancelled)
    if run.is_lost and (has_given_up or isinstance(exception, asyncio.CancelledError)):
        return RELEASED  # it ended because it seemed to be another's; nobody asked that it be cancelled
    if has_given_up or (run.is_cancelled and not run.is_lost):
        return CANCELLED
    run.exception = exception
    rules = run.rules
    assert rules is not None
    if isinstance(exception, Discard) or run.attempt >= rules.attempts:
        return _final(run, exception)
    if isinstance(exception, Retry):
        delay = exception.delay if exception.delay is not None else _delay(run)
    elif rules.may_retry(exception):
        delay = _delay(run)
    else:
        return _final(run, exception)
    if isinstance(delay, BaseException):
        return _final(run, delay)
    error = describe(exception)
    return Outcome("r", error.as_text(), delay=delay, error=error)


def delay_to_note(run: Run) -> float | None:
    """What the project's own backoff function says of a run that may have to be ended with its process.

    ``None`` where there's no such function, or nothing to decide.
    """
    rules = run.rules
    if rules is None or not rules.timeout or not callable(rules.backoff) or run.attempt >= rules.attempts:
        return None
    delay = _delay(run)
    return 0.0 if isinstance(delay, Exception) else float(delay)


def _delay(run: Run) -> Any:
    assert run.rules is not None
    if run.noted_delay is not None:
        return run.noted_delay
    try:
        return run.rules.delay_after(run.attempt)
    except Exception as error:  # noqa: BLE001 - the project's own backoff function
        return error


def _final(run: Run, exception: BaseException) -> Outcome:
    run.exception = exception
    return failed(exception, run.rules.keep if run.rules else None)


def failed(exception: BaseException, keep: float | None = None) -> Outcome:
    """Failed for good."""
    error = describe(exception)
    return Outcome("f", error.as_text(), keep=keep, error=error)


def describe(exception: BaseException) -> JobError:
    """An exception as it's stored; one whose ``str()`` raises or never ends has a placeholder."""
    kind = f"{type(exception).__module__}.{type(exception).__qualname__}"
    try:
        message = str(exception)
    except BaseException as error:  # noqa: BLE001 - even SystemExit, from inside a hostile __str__
        message = f"(its text can't be shown: {type(error).__name__})"
    try:
        trace = "".join(traceback.format_exception(type(exception), exception, _own_frames(exception)))
    except BaseException as error:  # noqa: BLE001
        trace = f"(the traceback can't be shown: {type(error).__name__})"
    return JobError(kind, _cut(message, settings.MAX_ERROR // 4), _cut(trace, settings.MAX_ERROR))


def _own_frames(exception: BaseException) -> TracebackType | None:
    """The traceback from the job's own code on."""
    trace = exception.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace or exception.__traceback__


def _cut(text: str, most: int) -> str:
    """Text without its middle, when it's too long; what can't be UTF-8 is replaced."""
    if len(text) > most:
        half = most // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters are cut here …\n{text[-half:]}"
    return text.encode(errors="replace").decode()


def _queue_settings(queue: str) -> QueueSettings:
    return settings.queue_or_default(queue)


@lru_cache(maxsize=4096)
def _plain_rules(definition: JobFunction[Any, Any], queue: str) -> RunRules:
    return rules(definition.options, {}, _queue_settings(queue))


def _forget(**kwargs: Any) -> None:
    _plain_rules.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_kue.execution")
