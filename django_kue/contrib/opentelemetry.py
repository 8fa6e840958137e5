"""OpenTelemetry: spans around each enqueue and each run, joined by W3C trace context that travels with the
job, and metrics. Needs ``django-kue[opentelemetry]``, and an SDK that your project sets up.

Name one of the two in ``KUE["MIDDLEWARE"]``:

- :class:`Tracing`: a run is a trace of its own, with a link to the enqueue, as the conventions have it;
- :class:`ContinuedTracing`: a run belongs to the trace of the code that enqueued it.

Names follow https://opentelemetry.io/docs/specs/semconv/messaging/, which is still in development.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured

try:
    from opentelemetry import context as otel
    from opentelemetry import metrics, trace
    from opentelemetry.trace import Link, Span, SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImproperlyConfigured(
        'django_kue.contrib.opentelemetry needs opentelemetry-api: pip install "django-kue[opentelemetry]"'
    ) from error

import django_kue
from django_kue import failures
from django_kue.context import JobContext
from django_kue.display import secrets_of
from django_kue.errors import JobCancelled
from django_kue.middleware import Middleware, Order

__all__ = ["ContinuedTracing", "Tracing"]

SYSTEM = "django_kue"
# As the conventions advise for both durations; runs take longer than messages, so it goes on to an hour.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 900, 3600)

# Not the project's own propagator: what travels has to fit into a job's headers, and baggage may not.
_w3c = TraceContextTextMapPropagator()


class Tracing(Middleware):
    """A span ``send <queue>`` around each enqueue, and a span ``process <queue>`` around each run.

    A run's span is the root of a trace of its own and has a link to the enqueue's: a job may run days later,
    and many times. Each attempt has its span, all with the same link.
    """

    continues = False  # the trace of whoever enqueued

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("django_kue", django_kue.__version__)
        meter = metrics.get_meter("django_kue", django_kue.__version__)
        self._sending = meter.create_histogram(
            "messaging.client.operation.duration", "s", "How long enqueues took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )  # fmt: skip
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Jobs enqueued.")
        self._processing = meter.create_histogram(
            "messaging.process.duration", "s", "How long runs took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )  # fmt: skip
        self._processed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Runs of jobs, each attempt."
        )

    def enqueue(self, order: Order) -> Iterator[None]:
        queue, count = order.function.options.queue, len(order.calls)
        labels = _labels("send", queue)
        details: dict[str, Any] = {"messaging.django_kue.function": order.function.name}
        if count != 1:
            details["messaging.batch.message_count"] = count
        span = self._tracer.start_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=labels | details)
        with self._measured(span, labels, self._sending, self._sent, count):
            _w3c.inject(order.headers)
            yield
            if len(order.jobs) == 1:
                span.set_attribute("messaging.message.id", order.jobs[0].id)

    def run(self, context: JobContext) -> Iterator[None]:
        job = context.job
        assert job is not None  # hooks are only called for runs of jobs
        labels = _labels("process", job.queue)
        details = {
            "messaging.message.id": job.id,
            "messaging.django_kue.function": job.name,
            "messaging.django_kue.attempt": context.attempt,
        }
        parent, links = self._origin(context.headers)
        span = self._tracer.start_span(
            f"process {job.queue}", parent, SpanKind.CONSUMER, labels | details, links
        )
        with self._measured(span, labels, self._processing, self._processed, 1, context):
            yield

    def _origin(self, headers: Mapping[str, Any]) -> tuple[otel.Context | None, Sequence[Link]]:
        """The parent of a run's span, ``None`` for what's current here, and its links."""
        sent = _w3c.extract(headers, context=otel.Context())
        created = trace.get_current_span(sent).get_span_context()
        if not created.is_valid:
            return None, ()
        return sent if self.continues else None, [Link(created)]

    @contextmanager
    def _measured(
        self,
        span: Span,
        labels: dict[str, Any],
        duration: metrics.Histogram,
        messages: metrics.Counter,
        count: int,
        context: JobContext | None = None,
    ) -> Iterator[None]:
        """Make the span the current one, and record what comes of it: its error, its duration, how many."""
        began = time.perf_counter()
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as error:
            if not _is_wanted(error, context):
                labels = labels | {"error.type": _type_of(error)}
                _note(span, error, context)
            raise
        finally:
            span.end()
            duration.record(time.perf_counter() - began, labels)
            messages.add(count, labels)


class ContinuedTracing(Tracing):
    """Like :class:`Tracing`, but a run's span is a child of the enqueue's: one trace from request to job."""

    continues = True


def _labels(operation: str, queue: str) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }


def _is_wanted(error: BaseException, context: JobContext | None) -> bool:
    """Whether a run ended because somebody cancelled its job."""
    if context is None:
        return False
    return isinstance(error, JobCancelled) or (
        isinstance(error, asyncio.CancelledError) and context.is_cancelled
    )


def _note(span: Span, error: BaseException, context: JobContext | None) -> None:
    """An error as the job's page shows it: without the values that ``KUE["REDACT"]`` hides."""
    job = context.job if context is not None else None
    told = failures.describe(error, secrets_of(job.name, job._arguments) if job is not None else ())
    span.set_attribute("error.type", told.type)
    span.set_status(StatusCode.ERROR, told.message)
    span.add_event(
        "exception",
        {
            "exception.type": told.type,
            "exception.message": told.message,
            "exception.stacktrace": told.traceback,
        },
    )


def _type_of(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"
