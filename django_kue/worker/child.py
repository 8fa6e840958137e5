"""A child process of a worker: it owns leases and runs jobs. Its supervisor beats for it.

Threads: the main one minds time, memory and the supervisor's words; one fetches; the others run jobs.
Order of stopping: no new claims; what isn't started goes back; running jobs end and are told; exit.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import select
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from django.dispatch import Signal

from django_kue import registry, signals
from django_kue.errors import KueError
from django_kue.jobs import Job
from django_kue.states import State
from django_kue.store import moves
from django_kue.worker import joblog
from django_kue.worker.board import Board
from django_kue.worker.codes import BURST_OVER, ORPHANED, REPLACE_ME, STOPPED
from django_kue.worker.fetch import Fetcher
from django_kue.worker.options import WorkerOptions

logger = logging.getLogger("django_kue.worker")

TICK = 0.1  # seconds between looks at the clock and at memory


def main(owner: moves.Owner, options: WorkerOptions, board: Board, control: socket.socket) -> int:
    """Run until told to stop; returns the exit code."""
    random.seed()
    joblog.install()
    gc.freeze()  # what was loaded before the fork is there to stay
    return Child(owner, options, board, control).run()


class Child:
    def __init__(
        self,
        owner: moves.Owner,
        options: WorkerOptions,
        board: Board,
        control: socket.socket,
    ) -> None:
        self._options = options
        self._control = control
        self._unread = b""
        self._fetcher = Fetcher(owner, options, board)
        self._exit_code = STOPPED
        self._owner = owner
        self._is_stopping = False
        self._folder = os.getcwd()
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's to handle

    def run(self) -> int:
        fetching = threading.Thread(target=self._fetch, name="kue-fetch", daemon=True)
        fetching.start()
        self._tell(signals.worker_started)
        while fetching.is_alive():
            self._hear()
            self._fetcher.threads.interrupt_overdue()
            self._fetcher.log.flush()
            self._consider_retiring()
        self._fetcher.log.flush()
        if self._exit_code == STOPPED and self._options.is_burst:
            return BURST_OVER
        return self._exit_code

    def _fetch(self) -> None:
        try:
            self._fetcher.run()
        except BaseException:
            logger.critical("the fetch loop broke; this process is replaced", exc_info=True)
            self._fetcher.blame_if_gutted()
            os._exit(REPLACE_ME)

    def _tell(self, signal: Signal) -> None:
        """Receivers of the worker's own signals, on an executor thread: once in each of its processes."""
        told = {"worker": self._owner.name.partition("/")[0], "queues": self._options.queues}
        self._fetcher.buffer.put([partial(signals.emit, signal, None, **told)], 1)

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._tell(signals.worker_stopping)
            self._fetcher.stop()

    def _consider_retiring(self) -> None:
        options, fetcher = self._options, self._fetcher
        if self._exit_code == STOPPED and options.max_jobs and fetcher.done_count >= options.max_jobs:
            logger.info("process %d has run %d jobs and is replaced", os.getpid(), fetcher.done_count)
            self._exit_code = REPLACE_ME
            self._stop()
        if self._exit_code == STOPPED and options.max_memory and resident_mib() > options.max_memory:
            logger.info("process %d has grown over %d MiB and is replaced", os.getpid(), options.max_memory)
            self._exit_code = REPLACE_ME
            self._stop()
        if self._exit_code == STOPPED and not self._is_in_place():
            logger.error("a job changed the working folder of process %d, which is replaced", os.getpid())
            self._exit_code = REPLACE_ME
            self._stop()

    def _is_in_place(self) -> bool:
        try:
            return os.getcwd() == self._folder
        except FileNotFoundError:
            return False

    # ── the supervisor's words: JSON, one a line ──

    def _hear(self) -> None:
        try:
            ready, _, _ = select.select([self._control], [], [], TICK)
            if not ready:
                return
            data = self._control.recv(65536)
        except (OSError, ValueError):
            self._fetcher.blame_if_gutted()
            raise
        if not data:  # our supervisor is dead: nobody beats for us, others will get our jobs
            os._exit(ORPHANED)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        if "stop" in order:
            self._stop()
        elif "lost" in order:
            self._fetcher.lost(order["lost"], order["before"])
        elif "cancel" in order:
            self._fetcher.cancelled(order["queue"], order["cancel"].encode())
        elif "buried" in order:
            for job_id, signal, delay in order["buried"]:
                self._fetcher.buffer.put([partial(tell_of_buried, job_id, signal, delay)], 1)


def tell_of_buried(job_id: str, signal: str, delay: float) -> None:
    """The signal for a job that was taken from a dead sibling or worker."""
    with suppress(KueError):
        job = Job.get(job_id)
        sender = registry.get(job.name)
        if signal == "failed":
            signals.emit(signals.job_failed, sender, job=job, exception=job.error)
        elif signal == "retrying":
            job = replace(job, state=State.DELAYED if delay else State.WAITING)
            signals.emit(signals.job_retrying, sender, job=job, exception=job.error, delay=delay)
        else:
            signals.emit(signals.job_stalled, sender, job=replace(job, state=State.WAITING))


def resident_mib() -> float:
    """This process's memory, without what it shares with its supervisor only on paper."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
