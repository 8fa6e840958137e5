"""Receivers of every signal, connected only where ``KUE_TEST_RECEIVERS`` asks for them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from django_kue import signals
from tests.app.jobs import mark


def note(signal: str, sender: Any, kwargs: dict[str, Any]) -> None:
    """Mark what a receiver got, as JSON."""
    kwargs = {name: value for name, value in kwargs.items() if name != "signal"}
    job = kwargs.pop("job", None)
    said: dict[str, Any] = {
        "signal": signal,
        "sender": getattr(sender, "name", None),
        "is_original": sender is not None and sender is getattr(sender, "original", None),
        "thread": threading.current_thread().name,
        "exc_info": repr(sys.exc_info()[1]) if sys.exc_info()[1] else None,
        "names": sorted(kwargs),
    }
    if job is not None:
        said |= {"job": job.id, "state": str(job.state), "attempts_made": job.attempts_made}
    for name, value in kwargs.items():
        said[name] = value if isinstance(value, int | float | str | dict | None) else repr(value)
    mark("signals", json.dumps(said))


def _listener(name: str) -> Any:
    def hear(sender: Any, **kwargs: Any) -> None:
        note(name, sender, kwargs)

    hear.__qualname__ = f"hear_{name}"
    return hear


def hear_badly(sender: Any, **kwargs: Any) -> None:
    raise RuntimeError("this receiver is broken")


def hear_fatally(sender: Any, **kwargs: Any) -> None:
    raise SystemExit("this receiver wants out")


def hear_in_transaction(sender: Any, **kwargs: Any) -> None:
    from django.db import connection, transaction

    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO left_behind (text) VALUES ('by a receiver')")


def hear_slowly(sender: Any, **kwargs: Any) -> None:
    time.sleep(60)


NAMES = (
    "job_enqueued", "job_promoted", "job_started", "job_progressed", "job_retrying", "job_failed",
    "job_completed", "job_cancelled", "job_removed", "job_stalled", "worker_started", "worker_stopping",
    "schedule_fired", "schedule_missed",
)  # fmt: skip
_kept = [_listener(name) for name in NAMES]  # signals hold weak references

if wanted := os.environ.get("KUE_TEST_RECEIVERS"):
    if wanted == "fatal":
        signals.job_completed.connect(hear_fatally)
    if wanted == "slow":
        signals.job_completed.connect(hear_slowly)
    if wanted == "transaction":
        signals.job_completed.connect(hear_in_transaction)
    if wanted == "bad":
        signals.job_started.connect(hear_badly)
        signals.job_completed.connect(hear_badly)
    for name, receiver in zip(NAMES, _kept, strict=True):
        getattr(signals, name).connect(receiver)
