"""Signals: what happens to jobs, told in the process where it happens.

``sender`` is the ``@job`` function (``None`` when it isn't known here); every receiver gets ``job``, and
``result``, ``exception``, ``progress`` and ``data``, or ``delay`` (seconds) as fits::

    @receiver(job_failed, sender=send_receipt)
    def tell_support(sender, job, exception, **kwargs): ...

A signal is sent once, after the move was accepted. In a worker it's sent on an executor thread, with
the exception at hand (``sys.exc_info()``). A receiver that raises is logged
(by Django, as ``django.dispatch``) and changes nothing.
"""

from __future__ import annotations

from typing import Any

from django.dispatch import Signal

job_enqueued = Signal()
job_promoted = Signal()
job_started = Signal()
job_progressed = Signal()  # progress (0–100), data
job_retrying = Signal()  # exception, delay: Kue's "failed attempt"
job_failed = Signal()  # exception
job_completed = Signal()  # result
job_cancelled = Signal()
job_removed = Signal()
job_stalled = Signal()  # a dead worker's job was taken back
worker_started = Signal()  # worker (its id), queues: in each of its processes
worker_stopping = Signal()
queue_paused = Signal()  # queue
queue_resumed = Signal()  # queue

BY_EVENT: dict[str, Signal] = {
    "enqueued": job_enqueued,
    "promoted": job_promoted,
    "started": job_started,
    "progressed": job_progressed,
    "retrying": job_retrying,
    "failed": job_failed,
    "completed": job_completed,
    "cancelled": job_cancelled,
    "removed": job_removed,
    "stalled": job_stalled,
    "paused": queue_paused,
    "resumed": queue_resumed,
}


def emit(signal: Signal, sender: Any, **kwargs: Any) -> None:
    """Send a signal; Django logs a receiver that raises with its traceback, and the others run."""
    if signal.receivers:
        signal.send_robust(sender=sender, **kwargs)
