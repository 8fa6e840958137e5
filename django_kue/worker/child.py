"""A child process of a worker: it owns leases and runs jobs. Its supervisor sends its heartbeats.

Threads: the main one watches the clock, memory, the supervisor's orders and the leading thread; the leading
thread fetches, and the others run jobs. A worker's first child also has the relay and the scheduler.
Order of stopping: no new claims; what isn't started goes back; running jobs end and are reported; exit.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import random
import select
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from django.dispatch import Signal

from django_kue import signals
from django_kue.store import moves
from django_kue.words import many, one_line
from django_kue.worker import forks, joblog
from django_kue.worker.board import Board
from django_kue.worker.codes import BURST_OVER, ORPHANED, REPLACE_ME, STOPPED
from django_kue.worker.errands import Errand
from django_kue.worker.fetch import Fetcher
from django_kue.worker.memory import resident_bytes
from django_kue.worker.options import WorkerOptions
from django_kue.worker.relaying import Relay
from django_kue.worker.scheduling import Scheduler
from django_kue.worker.telling import OfBuried

logger = logging.getLogger("django_kue.worker")

NAMED = 3  # jobs that are named in a line
TICK = 0.1  # seconds between looks at the clock and at memory, which is also checked when a run ends


def main(
    owner: moves.Owner, options: WorkerOptions, board: Board, control: socket.socket, *, is_first: bool
) -> int:
    """Run until told to stop; returns the exit code. A worker's first child also has its relay and its
    scheduler."""
    random.seed()
    joblog.install()
    gc.freeze()  # what was loaded before the fork stays for good
    forks.disown_copies(control)
    return Child(owner, options, board, control, is_first=is_first).run()


class Child:
    def __init__(
        self,
        owner: moves.Owner,
        options: WorkerOptions,
        board: Board,
        control: socket.socket,
        *,
        is_first: bool = False,
    ) -> None:
        self._options = options
        self._control = control
        self._unread = b""
        self._fetcher = Fetcher(owner, options, board)
        self._crew = self._fetcher.crew
        self._of_buried = OfBuried(self._crew.buffer, board)
        self._errands: list[Errand] = [Relay()] if is_first else []
        if is_first and not options.is_burst:  # a burst runs what's waiting, and makes no new jobs
            self._errands.append(Scheduler(options.queues, self._tell_later))
        self._exit_code = STOPPED
        self._owner = owner
        self._is_stopping = False
        self._folder = os.getcwd()
        self._is_signalled = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_sigterm)
        faulthandler.register(signal.SIGUSR1, file=2)  # writes its threads' stacks to stderr
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the supervisor's to handle

    def run(self) -> int:
        self._fetcher.start()
        for errand in self._errands:
            errand.start()
        self._tell(signals.worker_started)
        while not self._fetcher.is_over:
            self._hear(min(TICK, self._fetcher.leadership.watch()))
            if self._is_signalled:
                self._stop()
            self._crew.threads.interrupt_overdue()
            self._fetcher.log.flush()
            self._consider_retiring()
        for errand in self._errands:
            errand.stop()
        self._fetcher.log.flush()
        if self._exit_code == STOPPED and self._options.is_burst:
            return BURST_OVER
        return self._exit_code

    def _tell(self, signal: Signal) -> None:
        """Call receivers of the worker's own signals on an executor thread: once in each of its processes."""
        if not signal.receivers:
            return
        told = {"worker": self._owner.name.partition("/")[0], "queues": self._options.queues}
        self._tell_later(partial(signals.emit, signal, None, **told))

    def _tell_later(self, telling: Callable[[], None]) -> None:
        """Have receivers called on an executor thread."""
        self._crew.buffer.put([telling], 1)

    def _on_sigterm(self, number: int, frame: Any) -> None:
        """Do no more than this: the interrupted code may hold the very locks that stopping needs."""
        self._is_signalled = True
        self._fetcher.leadership.call_watcher()

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
        self._crew.mind_memory()
        if self._exit_code == STOPPED and self._crew.memory.is_exceeded:
            self._say_too_large()
            self._exit_code = REPLACE_ME
            self._stop()
        if self._exit_code == STOPPED and not self._is_in_place():
            logger.error("a job changed the working directory of process %d, which is replaced", os.getpid())
            self._exit_code = REPLACE_ME
            self._stop()

    def _say_too_large(self) -> None:
        has_worked = self._fetcher.done_count or self._crew.running()
        logger.log(
            logging.INFO if has_worked else logging.WARNING,
            "process %d uses %d MiB, over its limit of %d%s: it takes no more jobs, and is replaced%s",
            os.getpid(),
            (resident_bytes(os.getpid()) or 0) >> 20,
            self._options.max_memory,
            "" if has_worked else " before its first job (a larger --max-memory helps)",
            self._once_over(),
        )

    def _once_over(self) -> str:
        """The jobs that a process waits for before it's replaced, in words."""
        running = [f"{one_line(run.name)} {run.id}" for run in self._crew.running()]
        more = f" and {many(len(running) - NAMED, 'job')} more" if len(running) > NAMED else ""
        return f" once these are over: {', '.join(running[:NAMED])}{more}" if running else ""

    def _is_in_place(self) -> bool:
        try:
            return os.getcwd() == self._folder
        except FileNotFoundError:
            return False

    # ── the supervisor's orders: one JSON object per line ──

    def _hear(self, timeout: float) -> None:
        try:
            control = self._control.fileno()
            ready, _, _ = select.select([control, self._fetcher.leadership.bell], [], [], timeout)
            if control not in ready:
                return
            data = self._control.recv(65536)
        except (OSError, ValueError):
            self._fetcher.blame_if_gutted()
            raise
        if not data:  # our supervisor is dead: nobody sends our heartbeats, and others will get our jobs
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
            for key in order["cancel"]:
                self._crew.cancelled(order["queue"], key.encode("latin-1"))  # foreign keys hold any bytes
        elif "doubt" in order:
            self._fetcher.doubt()
        elif "buried" in order:
            self._of_buried.tell(order["buried"])
