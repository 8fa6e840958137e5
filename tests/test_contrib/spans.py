"""Tracing as a project would set it up, in a worker of its own process: spans go into a file, one a line."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from django_kue.contrib.opentelemetry import ContinuedTracing


class ToFile(ContinuedTracing):
    def __init__(self) -> None:
        exporter = ConsoleSpanExporter(
            out=open(os.environ["KUE_TEST_SPANS"], "a"),  # noqa: SIM115 - for the process's life
            formatter=lambda span: f"{span.to_json(indent=None)}\n",
        )
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        super().__init__()
