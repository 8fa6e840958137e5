"""The guide's middleware for Sentry, with Sentry's own SDK and a transport that keeps what it's given."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
import sentry_sdk
from django.test import override_settings
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from django_kue import JobCancelled, JobTimeout, current_job, job
from django_kue.middleware import chain
from django_kue.signals import job_failed, job_retrying
from django_kue.testing import WorkerThread
from tests.run_page import ROOT, blocks


class Kept(Transport):
    def __init__(self) -> None:
        super().__init__({})
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events += [item.payload.json for item in envelope.items if item.type == "event"]


@job(name="tests.sentry.fail", attempts=2)
def fail(order_id: int) -> None:
    sentry_sdk.set_tag("attempt", current_job().attempt)
    raise ValueError(f"order {order_id} is gone")


@job(name="tests.sentry.fine")
def fine() -> None:
    sentry_sdk.capture_message("from inside")


@job(name="tests.sentry.stop")
def stop() -> None:
    raise JobCancelled("enough")


@job(name="tests.sentry.swallow", timeout=0.2, attempts=2)
def swallow() -> None:
    with suppress(JobTimeout):
        while True:
            time.sleep(0.01)


@job(name="tests.sentry.doze", timeout=0.2)
async def doze() -> None:
    await asyncio.sleep(30)


@job(name="tests.sentry.unstorable")
def unstorable() -> object:
    return object()


@pytest.fixture
def kept() -> Iterator[Kept]:
    """Sentry as a project has it, and the guide's code as its module."""
    page = ROOT / "docs/how-to/tracing.md"
    [code] = [block.code for block in blocks(page) if block.detail == "shop/middleware.py"]
    module = ModuleType("tests_guide_to_sentry")
    exec(compile(code, str(page), "exec"), vars(module))
    sys.modules[module.__name__] = module
    transport = Kept()
    sentry_sdk.init(
        "http://key@localhost/1",
        transport=transport,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    with override_settings(KUE={"PREFIX": "kue", "MIDDLEWARE": [f"{module.__name__}.Sentry"]}):
        yield transport
    for signal in (job_failed, job_retrying):
        assert signal.disconnect(module.report_unseen)
    sentry_sdk.get_client().close()
    sentry_sdk.init()
    chain.cache_clear()
    del sys.modules[module.__name__]


def work() -> None:
    WorkerThread(is_burst=True).start().join()


def test_each_attempt_that_fails_is_an_event_with_its_job(kept: Kept) -> None:
    put = fail.enqueue(17)
    work()
    assert [event["level"] for event in kept.events] == ["warning", "error"]
    first, last = kept.events
    assert last["transaction"] == "tests.sentry.fail"
    assert last["tags"] == {"kue.queue": "default", "attempt": 2}
    assert last["contexts"]["job"] == {"id": put.id, "attempt": 2, "attempts": 2}
    assert last["exception"]["values"][-1]["value"] == "order 17 is gone"
    assert first["contexts"]["job"]["attempt"] == 1


def test_what_a_run_sets_stays_within_it(kept: Kept) -> None:
    fail.using(attempts=1).enqueue(17)
    work()
    fine.enqueue()
    work()
    assert kept.events[-1]["tags"] == {"kue.queue": "default"}
    assert kept.events[-1]["transaction"] == "tests.sentry.fine"


@pytest.mark.parametrize(
    ("function", "levels", "kind"),
    [
        (swallow, ["warning", "error"], JobTimeout),
        (doze, ["error"], JobTimeout),
        (unstorable, ["error"], ValueError),
    ],
    ids=["swallowed timeout", "coroutine's timeout", "result that can't be stored"],
)
def test_what_is_not_raised_in_the_run_is_an_event_too(
    kept: Kept, function: Any, levels: list[str], kind: type[Exception]
) -> None:
    put = function.enqueue()
    work()
    assert [event["level"] for event in kept.events] == levels
    last = kept.events[-1]
    assert last["exception"]["values"][-1]["type"] == kind.__name__
    assert last["exception"]["values"][-1]["value"] == put.refresh().error.message
    assert last["contexts"]["job"] == {"id": put.id, "attempt": len(levels), "attempts": len(levels)}


def test_that_a_job_was_cancelled_is_not_told(kept: Kept) -> None:
    stop.enqueue()
    work()
    assert kept.events == []
