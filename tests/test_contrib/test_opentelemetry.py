"""Spans and metrics, as OpenTelemetry's own SDK collects them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from opentelemetry import baggage, context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from django_kue import EnqueueError, Retry, current_job, job
from django_kue.middleware import chain
from django_kue.testing import WorkerThread
from tests.app import jobs
from tests.worker_process import WorkerProcess, finished, wait_for

exporter = InMemorySpanExporter()
reader = InMemoryMetricReader()
LINKED = "django_kue.contrib.opentelemetry.Tracing"
CONTINUED = "django_kue.contrib.opentelemetry.ContinuedTracing"


@job(name="tests.otel.add")
def add(a: int, b: int) -> int:
    return a + b


@job(name="tests.otel.aadd")
async def aadd(a: int, b: int) -> int:
    with trace.get_tracer("tests").start_as_current_span("inside"):
        await asyncio.sleep(0)
    return a + b


@job(name="tests.otel.stumble", attempts=3)
def stumble(times: int) -> None:
    if current_job().attempt <= times:
        raise ValueError(f"stumbled {current_job().attempt}")


@job(name="tests.otel.login")
def login(password: str) -> None:
    raise PermissionError(f"not with {password}")


@job(name="tests.otel.rant")
def rant() -> None:
    raise ValueError("half a character \ud83d, and\n\x1b[2J")


@job(name="tests.otel.ask_again", attempts=2)
def ask_again() -> None:
    raise Retry(delay=0)


@job(name="tests.otel.give_up")
def give_up() -> None:
    job = current_job().job
    assert job is not None
    job.cancel()
    while not current_job().is_cancelled:
        pass
    current_job().raise_if_cancelled()


@pytest.fixture(scope="module", autouse=True)
def _collected() -> None:
    """The SDK is set up once a process."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))


@pytest.fixture(autouse=True)
def _nothing_collected(_collected: None) -> Iterator[None]:
    exporter.clear()
    reader.get_metrics_data()
    yield
    chain.cache_clear()


def tracing(name: str = LINKED) -> Any:
    return override_settings(
        KUE={"PREFIX": "kue", "QUEUES": {"other": {}, "metered": {}}, "MIDDLEWARE": [name]}
    )


def work() -> None:
    WorkerThread(is_burst=True).start().join()


def spans(prefix: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name.startswith(prefix)]


def measured(name: str) -> list[Any]:
    """What a metric says of the queue ``metered``."""
    data = reader.get_metrics_data()
    assert data is not None
    return [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
        if point.attributes["messaging.destination.name"] == "metered"
    ]


def error_of(point: Any) -> str | None:
    return point.attributes.get("error.type")


def test_an_enqueue_and_a_run_have_spans_after_the_conventions() -> None:
    with tracing():
        put = add.using(queue="other").enqueue(1, 2)
        work()
    [sent], [processed] = spans("send"), spans("process")
    common = {
        "messaging.system": "django_kue",
        "messaging.destination.name": "other",
        "messaging.message.id": put.id,
        "messaging.django_kue.function": "tests.otel.add",
    }
    assert (sent.name, sent.kind) == ("send other", SpanKind.PRODUCER)
    assert dict(sent.attributes or {}) == common | {
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    assert (processed.name, processed.kind) == ("process other", SpanKind.CONSUMER)
    assert dict(processed.attributes or {}) == common | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.django_kue.attempt": 1,
    }
    assert processed.status.status_code is StatusCode.UNSET


def test_a_run_is_a_trace_of_its_own_with_a_link_to_the_enqueue() -> None:
    with tracing():
        add.enqueue(1, 2)
        work()
    [sent], [processed] = spans("send"), spans("process")
    assert processed.parent is None
    [link] = processed.links
    assert (link.context.trace_id, link.context.span_id) == (sent.context.trace_id, sent.context.span_id)
    assert processed.context.trace_id != sent.context.trace_id


def test_a_run_can_belong_to_the_trace_of_whoever_enqueued_it() -> None:
    with tracing(CONTINUED):
        with trace.get_tracer("tests").start_as_current_span("request") as request:
            add.enqueue(1, 2)
        work()
    [sent], [processed] = spans("send"), spans("process")
    assert sent.parent.span_id == request.get_span_context().span_id
    assert processed.parent.span_id == sent.context.span_id
    assert processed.context.trace_id == request.get_span_context().trace_id
    assert len(processed.links) == 1


def test_what_travels_is_w3c_trace_context_and_nothing_else() -> None:
    token = context.attach(baggage.set_baggage("user", "17"))
    try:
        with tracing():
            put = add.enqueue(1, 2)
    finally:
        context.detach(token)
    [sent] = spans("send")
    expected = f"00-{sent.context.trace_id:032x}-{sent.context.span_id:016x}-{sent.context.trace_flags:02x}"
    assert dict(put.headers) == {"traceparent": expected}


def test_many_jobs_of_one_call_share_a_span_that_counts_them() -> None:
    with tracing():
        add.enqueue_many([(1, 2)] * 5)
        work()
    [sent], processed = spans("send"), spans("process")
    assert (sent.attributes or {})["messaging.batch.message_count"] == 5
    assert "messaging.message.id" not in (sent.attributes or {})
    assert {span.links[0].context.span_id for span in processed} == {sent.context.span_id}
    assert len(processed) == 5


def test_each_attempt_has_a_span_with_its_number_and_its_error() -> None:
    with tracing():
        stumble.enqueue(2)
        work()
    runs = spans("process")
    numbers = [(run.attributes or {})["messaging.django_kue.attempt"] for run in runs]
    told = [(run.status.status_code, run.status.description) for run in runs]
    assert [(number, *status) for number, status in zip(numbers, told, strict=True)] == [
        (1, StatusCode.ERROR, "stumbled 1"),
        (2, StatusCode.ERROR, "stumbled 2"),
        (3, StatusCode.UNSET, None),
    ]
    first = runs[0]
    [event] = first.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "builtins.ValueError"
    assert "stumble" in event.attributes["exception.stacktrace"]
    assert first.attributes["error.type"] == "builtins.ValueError"
    assert len({span.links[0].context.span_id for span in runs}) == 1


def test_a_secret_argument_is_not_in_the_span_of_the_error_that_names_it() -> None:
    with tracing():
        login.enqueue(password="hunter2-hunter2")
        work()
    [processed] = spans("process")
    assert processed.status.description == "not with •••"
    assert "hunter2" not in processed.to_json()


def test_hostile_text_of_an_error_is_an_attribute_that_can_be_exported() -> None:
    """OTLP is protobuf, which takes no half of a character; a span that has one would be lost."""
    with tracing():
        rant.enqueue()
        work()
    [processed] = spans("process")
    [event] = processed.events
    texts = [processed.status.description, *event.attributes.values()]
    assert all(text.encode() for text in texts)
    assert "\n\x1b[2J" in event.attributes["exception.message"]


def test_a_job_that_was_cancelled_is_no_error() -> None:
    with tracing():
        give_up.enqueue()
        work()
    [processed] = spans("process")
    assert processed.status.status_code is StatusCode.UNSET
    assert processed.events == ()


def test_coroutine_functions_are_traced_and_their_own_spans_are_inside() -> None:
    async def enqueue() -> None:
        await aadd.aenqueue(1, 2)

    with tracing():
        asyncio.run(enqueue())
        work()
    [sent], [processed], [inside] = spans("send"), spans("process"), spans("inside")
    assert inside.parent.span_id == processed.context.span_id
    assert processed.links[0].context.span_id == sent.context.span_id


def test_an_enqueue_that_fails_says_why() -> None:
    with tracing(), pytest.raises(EnqueueError):
        add.enqueue(object(), 2)
    [sent] = spans("send")
    assert sent.status.status_code is StatusCode.ERROR
    assert sent.attributes["error.type"] == "django_kue.errors.EnqueueError"


def test_durations_and_numbers_are_measured_by_queue_and_error() -> None:
    with tracing():
        add.using(queue="metered").enqueue_many([(1, 2)] * 3)
        ask_again.using(queue="metered").enqueue()
        work()
    [sending] = measured("messaging.client.operation.duration")
    assert (sending.count, sending.attributes["messaging.operation.name"]) == (2, "send")
    assert 0 < sending.sum < 60
    [sent] = measured("messaging.client.sent.messages")
    assert sent.value == 4
    processing = {error_of(point): point.count for point in measured("messaging.process.duration")}
    assert processing == {None: 3, "django_kue.errors.Retry": 2}
    consumed = {error_of(point): point.value for point in measured("messaging.client.consumed.messages")}
    assert consumed == processing


def test_the_trace_goes_on_in_a_worker_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "spans"
    environment = {"KUE_TEST_MIDDLEWARE": "tests.test_contrib.spans.ToFile", "KUE_TEST_SPANS": str(path)}
    with WorkerProcess("--processes", "1", **environment) as worker:
        worker.wait_started()
        with tracing(CONTINUED), trace.get_tracer("tests").start_as_current_span("request") as request:
            put = jobs.add.enqueue(1, 2)
        finished(put)
        lines = wait_for(lambda: path.exists() and path.read_text().splitlines(), what="a span")
        assert worker.stop() == 0
    [processed] = map(json.loads, lines)
    [sent] = spans("send")
    assert processed["name"] == "process default"
    assert processed["context"]["trace_id"] == f"0x{request.get_span_context().trace_id:032x}"
    assert processed["parent_id"] == f"0x{sent.context.span_id:016x}"
    assert processed["attributes"]["messaging.message.id"] == put.id


def test_without_an_sdk_nothing_travels_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer", trace.NoOpTracerProvider().get_tracer)
    with tracing():
        put = add.enqueue(1, 2)
        work()
    assert dict(put.headers) == {}
    assert put.refresh().result == 3
