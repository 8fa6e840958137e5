"""Forks: what mustn't cross one, and what may not live on in the copies of itself that jobs make."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys

from django.core.cache import caches
from django.db import connections

from django_kue.execution import Run
from django_kue.failures import describe
from django_kue.words import one_line

logger = logging.getLogger("django_kue.worker")

ENDING = (signal.SIGTERM, signal.SIGINT)
HELD = (*ENDING, signal.SIGHUP)
_is_copy = False


def share_nothing() -> None:
    """Before a fork: close connections to databases and caches, and write what's still in buffers."""
    connections.close_all()
    for cache in caches.all(initialized_only=True):
        cache.close()
    sys.stdout.flush()
    sys.stderr.flush()


def disown_copies(control: socket.socket) -> None:
    """From now on, keep forks of this process out of the worker: signals end them, and they get no orders."""

    def disown() -> None:
        global _is_copy
        _is_copy = True
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        if callable(signal.getsignal(signal.SIGHUP)):  # not ignored, as under nohup
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        _let_come()
        control.close()

    os.register_at_fork(before=_hold_back, after_in_parent=_let_come, after_in_child=disown)


def _hold_back() -> None:
    """Hold signals back during a fork: the worker's own handler would get them, and not end the copy."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def _let_come() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def end_copy(run: Run | None = None) -> None:
    """End this process if a job forked it and it returned from the job's code.

    Otherwise it would settle the run a second time, on its parent's connections and board.
    """
    if _is_copy:
        what = f"job {run.id}" if run else "a receiver"
        why = ""
        if run and run.exception:
            why = f": {one_line(str(describe(run.exception, run.secrets))[:200])}"
        logger.error("%s forked a process that returned from its code, and is ended%s", what, why)
        os._exit(1)
