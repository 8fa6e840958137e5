"""Signals: what happens to jobs, sent in the process where it happens.

``sender`` is the ``@job`` function (``None`` if it isn't known here); every receiver gets ``job``, and
``result``, ``exception``, ``progress`` and ``data``, or ``delay`` (seconds) where they apply::

    @receiver(job_failed, sender=send_receipt)
    def tell_support(sender, job, exception, **kwargs): ...

A signal is sent once, after the change of state was accepted. In a worker it's sent on an executor thread,
with the exception available (``sys.exc_info()``). If a receiver raises, Django logs that (as
``django.dispatch``), and nothing else changes.
"""

from __future__ import annotations

from typing import Any

from django.dispatch import Signal

job_enqueued = Signal()  #: it was stored; inside ``atomic()``, at the commit. ``Job.retry()`` sends it, too
job_promoted = Signal()  #: a delayed job may run now
job_started = Signal()  #: right before the function is called
job_progressed = Signal()  #: with ``progress`` (0–100) and ``data``
job_retrying = Signal()  #: a run failed, another will follow; with ``exception`` and ``delay``
job_failed = Signal()  #: it failed for good; with ``exception``
job_completed = Signal()  #: a run returned; with ``result``
job_cancelled = Signal()  #: it was cancelled, or expired
job_removed = Signal()  #: by ``Job.remove()``
job_stalled = Signal()  #: a dead worker's job was taken back
worker_started = Signal()  #: with ``worker`` (its id) and ``queues``: in each of its processes
worker_stopping = Signal()  #: it takes no more jobs; with ``worker`` and ``queues``
queue_paused = Signal()  #: with ``queue`` instead of ``job``
queue_resumed = Signal()  #: with ``queue`` instead of ``job``
schedule_fired = Signal()  #: with ``schedule``, ``job`` and ``tick``, when it was due
#: with ``schedule`` and ``ticks`` (when they were due, at most 1,000) instead of ``job``, and ``reason``:
#: ``outage``, ``overlap`` or ``unique``
schedule_missed = Signal()

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
    """Send a signal. If a receiver raises, Django logs that with its traceback, and the others still run."""
    if signal.receivers:
        signal.send_robust(sender=sender, **kwargs)
