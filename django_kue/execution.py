"""One run of a job: load → prepare → call → outcome. The outcome is a value, and :meth:`Outcome.encode` is
the one place that encodes it for the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from django.core.signals import setting_changed

from django_kue import codecs, encryption, ids, records, registry
from django_kue.backoff import LONGEST
from django_kue.conf import QueueSettings, settings
from django_kue.context import JobContext
from django_kue.decorators import JobFunction
from django_kue.display import secrets_of
from django_kue.errors import Discard, JobCancelled, JobTimeout, Retry
from django_kue.failures import describe
from django_kue.jobs import Job, JobError
from django_kue.middleware import around_arun, around_run, chain
from django_kue.moments import moment
from django_kue.options import RunRules, rules
from django_kue.redaction import without_texts, without_texts_in
from django_kue.rows import fields_of
from django_kue.states import State
from django_kue.store.moves import Report
from django_kue.store.reads import Row

# Seconds until a job whose function isn't known is looked at again. During a deploy another worker knows it,
# so at first it's soon offered to all again; later, one that no worker knows costs next to nothing.
PARK, PARK_GROWTH, PARK_MOST = 0.05, 1.3, 30.0


class Run:
    """A claimed job on its way through a worker. The job's context reports to it, too."""

    # These are set later, or for few runs only. What's seldom set but often read is in __init__, because
    # CPython has to search for a class's default each time.
    record: records.Record | None = None
    definition: JobFunction[Any, Any] | None = None
    rules: RunRules | None = None
    exception: BaseException | None = None
    result: Any = None
    outcome: Outcome | None = None
    interrupt: str | None = None  # "timeout" or "cancel", once its coroutine was cancelled
    is_lost = False  # its lease may be over: it should stop, and another worker finishes the job
    noted_delay: float | None = None  # what the project's backoff function returned before the run
    is_resent = False  # its outcome may have got through already
    task: asyncio.Task[None] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})
    _id: str | None = None
    _secrets: Sequence[str] | None = None

    def __init__(
        self,
        queue: str,
        key: bytes,
        lease: bytes,
        text: bytes,
        claimed_ms: int,
        fetched: float,
        fresh_until: float = 0.0,
        reports: Any = None,
    ) -> None:
        self.queue = queue
        self.key = key
        self.lease = lease
        self.text = text
        self.claimed_ms = claimed_ms  # by Redis's clock …
        self.fetched = fetched  # … and the same moment by the monotonic clock
        self.fresh_until = fresh_until or fetched  # until then the lease is certainly valid
        self.started = fetched
        self.finished = fetched
        self.reports = reports  # where the context's reports go
        self.attempt = 1
        self.suspicion = 0  # how often a process or worker that had it died without a known culprit
        self.is_cancelled = False
        self.note: int | None = None  # where its end is noted on the board, for the supervisor to report

    @property
    def id(self) -> str:
        if self._id is None:
            self._id = ids.joined(self.queue, self.key)
        return self._id

    @property
    def key_text(self) -> str:
        return self.key.decode(errors="backslashreplace")  # it may be foreign data

    @property
    def name(self) -> str:
        return self.record.name if self.record else "(unreadable)"

    def started_ms(self) -> int:  # not a property, which would cost a run ten times as much as a call
        return self.claimed_ms + int((self.started - self.fetched) * 1000)

    @property
    def waited(self) -> float:
        """Seconds from when it could have started until it did."""
        try:
            since = int(self.record.head.get("d", 0)) if self.record else 0
            return max(0.0, (self.started_ms() - (since or ids.created_ms(self.key_text))) / 1000)
        except ValueError:  # the record or the key isn't ours
            return 0.0

    @property
    def secrets(self) -> Sequence[str]:
        """Values among its arguments that mustn't appear in what people read: its errors and log lines."""
        if self._secrets is None:
            self._secrets = secrets_of(self.record.name, self.record.arguments) if self.record else ()
        return self._secrets

    # ── the context's reporter ──

    @property
    def headers(self) -> Mapping[str, Any]:
        options = (
            codecs.loads(self.record.options, fetch=False) if self.record and self.record.options else {}
        )
        headers: Mapping[str, Any] = options.get(records.HEADERS, {})
        return headers

    def job(self) -> Job:
        """The job as it is during this run."""
        return Job._lazy(self.id, self.queue, self._fields)

    def job_after(self) -> Job:
        """The job after this run, as its signals show it, without asking Redis."""
        return Job._lazy(self.id, self.queue, self._fields_after)

    def _fields(self) -> dict[str, Any]:
        lease = b"%s|%d|%s" % (self.lease.split(b"|")[0], self.started_ms(), self.lease.split(b"|", 2)[2])
        return fields_of(
            self.queue, Row(self.key_text, State.ACTIVE, self.text, lease, None, b"", b"", b"", False)
        )

    def _fields_after(self) -> dict[str, Any]:
        outcome = self.outcome
        assert outcome is not None
        finished = moment(self.started_ms() + round((self.finished - self.started) * 1000))
        fields = self._fields() | {"attempts_made": self.attempt, "error": outcome.error}
        if outcome.kind == "r":
            state = State.DELAYED if outcome.delay else State.WAITING
            run_at = finished + timedelta(seconds=outcome.delay)
            return fields | {"state": state, "run_at": run_at, "started_at": None}
        fields |= {"state": _STATES[outcome.kind], "finished_at": finished}
        return fields | {"_result": outcome.text, "progress": 100} if outcome.kind == "c" else fields

    def progressed(self, text: bytes, percent: float, data: Any) -> None:
        if self.secrets:
            data = without_texts_in(data, self.secrets)
            text = b"[%b,%b]" % (codecs.dumps(percent), codecs.dumps(data))
        self.reports.progressed(self, self.sealed(text, encryption.PROGRESS), percent, data)

    def logged(self, text: str) -> None:
        line = without_texts(text, self.secrets).encode(errors="replace")
        if len(line) > settings.MAX_LOG_LINE:
            line = line[: settings.MAX_LOG_LINE].decode(errors="ignore").encode() + " … (cut)".encode()
        self.reports.put(self.queue, Report(self.lease, self.key, b"l", self.sealed(line, encryption.LOG)))

    def sealed(self, text: bytes, kind: str) -> bytes:
        """A text of this run in the form in which it's stored."""
        return encryption.seal(text, kind, self.queue, self.key_text)


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
        """The outcome as the store wants it."""
        text = b""
        if self.text:
            text = run.sealed(self.text, encryption.RESULT if self.kind == "c" else encryption.ERROR)
        if self.kind == "c":
            if self.keep is None and (run.record is None or not run.record.head or _is_plain(run.record)):
                return b"c%d|%b" % (run.started_ms(), text)
            return b"C%b|%d|%b" % (_ms(self.keep), run.started_ms(), text)
        if self.kind == "r":
            return b"r%d|%d|%b" % (self.delay * 1000, run.started_ms(), text)
        if self.kind == "f":
            return b"f%b|%d|%b" % (_ms(self.keep), run.started_ms(), text)
        if self.kind == "x":
            return b"x%d|" % run.started_ms()
        if self.kind == "k":
            return b"k%d" % (self.delay * 1000)
        return self.kind.encode()


_STATES = {"c": State.COMPLETED, "f": State.FAILED, "x": State.CANCELLED}
DONE = Outcome("c")  # completed without a result, with the queue's retention
RELEASED = Outcome("b")
CANCELLED = Outcome("x")


def _is_plain(record: records.Record) -> bool:
    """Whether its completion affects only the job itself: no unique key, no schedule."""
    return record.head.keys().isdisjoint("ut")


def _ms(seconds: float | None) -> bytes:
    return b"" if seconds is None else b"%d" % (seconds * 1000)


# ── the steps ──

_MISFIT = (
    ". The job was enqueued for another version of the function. Give new parameters a default, keep removed "
    "ones until no job has them, and run the job again"
)


def load(run: Run) -> Outcome | None:
    """Find the job's function and rules; returns an outcome if the run ends here."""
    try:
        run.record = record = records.decode(run.text)
        definition = registry.get(record.name)
        if definition is None:
            return parked(record.head)
        if settings.ENCRYPTION_KEYS:
            run.record = record = encryption.open_record(record, run.queue, run.key_text)
        run.definition = definition
        if record.options:
            run.rules = rules(
                definition.options, codecs.loads(record.options, fetch=False), _queue_settings(run.queue)
            )
        else:
            run.rules = _plain_rules(definition, run.queue)
        if record.head:
            run.attempt = int(record.head.get("m", 0)) + 1
            run.suspicion = max(0, int(record.head.get("z", 0)))
        return None
    except records.NewerRecord as error:
        return parked(error.head)
    except codecs.CannotOpen as error:
        return _left_alone(run, error)
    except (records.UnreadableRecord, ValueError, TypeError) as error:
        run.exception = error
        return failed(error)


def prepare(run: Run) -> Outcome | None:
    """Read the arguments; returns an outcome if they can't be read (for example, a model's row is gone)."""
    assert run.record is not None
    try:
        if run.record.arguments:
            run.args, run.kwargs = records.decode_arguments(run.record.arguments)
        return None
    except codecs.CannotOpen as error:
        return _left_alone(run, error)
    except Exception as error:  # noqa: BLE001 - corrupt JSON, a missing row, a database that's away
        return of_exception(run, error)


def call(run: Run, context: JobContext, *, is_inside: bool = False) -> Any:
    """Call the function inside the project's middleware; a coroutine function's coroutine is returned for the
    loop to await. ``is_inside``: whether this call is already inside all middleware."""
    definition = run.definition
    assert definition is not None
    if not is_inside and ((hooks := chain()).run or hooks.arun):
        around = around_arun if definition.is_async else around_run
        return around(context, partial(call, run, context, is_inside=True))
    function = definition.function
    try:
        if definition.options.takes_context:
            return function(context, *run.args, **run.kwargs)
        return function(*run.args, **run.kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # it was never entered
            raise TypeError(f"{error}{_MISFIT}") from None
        raise


def of_result(run: Run, result: Any) -> Outcome:
    """The outcome of a run that returned: completed, unless the result can't be stored."""
    rules = run.rules
    assert rules is not None
    if run.is_cancelled and not run.is_lost:
        run.result = result
        return CANCELLED
    if result is None:
        return DONE if rules.keep is None else Outcome("c", keep=rules.keep)
    run.result = result
    assert run.definition is not None
    try:
        text = run.definition.encode_result(result)
    except (ValueError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return _final(run, kind(f"the result can't be stored: {error}"))
    if len(text) > settings.MAX_RESULT:
        size = f"the result has {len(text)} bytes, more than MAX_RESULT ({settings.MAX_RESULT}) allows"
        return _final(run, ValueError(f"{size}; store it elsewhere and return its id"))
    return Outcome("c", text, keep=rules.keep)


def of_exception(run: Run, exception: BaseException) -> Outcome:
    """The outcome of a run that raised: the one place that decides about retries."""
    has_given_up = isinstance(exception, JobCancelled)
    if run.is_lost and (has_given_up or isinstance(exception, asyncio.CancelledError)):
        return RELEASED  # it ended because its lease seemed to be over; nobody asked to cancel the job
    if has_given_up or (run.is_cancelled and not run.is_lost):
        return CANCELLED
    run.exception = exception
    rules = run.rules
    assert rules is not None
    if isinstance(exception, Discard) or run.attempt >= rules.attempts:
        return _final(run, exception)
    if isinstance(exception, Retry):
        delay = _delay(run) if exception.delay is None else min(exception.delay, LONGEST)
    elif rules.may_retry(exception):
        delay = _delay(run)
    else:
        return _final(run, exception)
    if isinstance(delay, BaseException):
        return _final(run, delay)
    error = describe(exception, run.secrets)
    return Outcome("r", error.as_text(), delay=delay, error=error)


def of_timeout(run: Run) -> Outcome:
    """The outcome of a run that was stopped at its timeout, or that returned in spite of it. Any other
    exception that its code raised in response counts as usual."""
    error = run.exception if isinstance(run.exception, JobTimeout) else JobTimeout()
    assert run.rules is not None
    error.args = (f"it ran longer than its timeout of {run.rules.timeout:g} s",)
    return of_exception(run, error)


def delay_to_note(run: Run) -> float | None:
    """The retry delay by the project's own backoff function, for a run that may be killed with its process.

    ``None`` if there's no such function, or nothing to decide.
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
    return failed(exception, run.rules.keep if run.rules else None, run.secrets)


def failed(exception: BaseException, keep: float | None = None, secrets: Sequence[str] = ()) -> Outcome:
    """The outcome of a run that failed for good."""
    error = describe(exception, secrets)
    return Outcome("f", error.as_text(), keep=keep, error=error)


def parked(head: Mapping[str, str]) -> Outcome:
    """Put aside for a worker that knows it; for longer, the more often that was in vain."""
    said = head.get("n", "0")  # it may be foreign data
    times = min(int(said), 100) if said.isdecimal() else 0
    return Outcome("k", delay=min(PARK * PARK_GROWTH**times, PARK_MOST))


def _left_alone(run: Run, error: codecs.CannotOpen) -> Outcome:
    """Parked for a worker that has the key; the log says why."""
    assert run.record is not None
    run.exception = error
    return parked(run.record.head)


def _queue_settings(queue: str) -> QueueSettings:
    return settings.queue_or_default(queue)


@lru_cache(maxsize=4096)
def _plain_rules(definition: JobFunction[Any, Any], queue: str) -> RunRules:
    return rules(definition.options, {}, _queue_settings(queue))


def _forget(**kwargs: Any) -> None:
    _plain_rules.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_kue.execution")
