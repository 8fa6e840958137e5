"""The worker that people see: it forks children, beats for them, and puts away their dead.

It never runs the project's code after loading it, has one thread, and so can fork at any time.

Order of stopping (SIGTERM or SIGINT): children take no new jobs; they have the shutdown timeout to
finish; what's still running then is killed and its jobs handed back, uncounted; the worker leaves
the list of workers; exit 0. A second signal shortens the timeout to nothing.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.cache import caches
from django.db import connections

from django_kue.conf import settings
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.store import Link, moves, new_link, reads
from django_kue.worker import child as children
from django_kue.worker import codes, joblog
from django_kue.worker.announcing import Living, LoadMeter, portrait
from django_kue.worker.board import Board, Busy
from django_kue.worker.graves import Graves, died_of, grave_of
from django_kue.worker.options import WorkerOptions
from django_kue.worker.processes import die_with_parent, end_group, set_title

logger = logging.getLogger("django_kue.worker")

TICK = 0.1  # seconds between looks at the children
ANNOUNCE = 2.0  # seconds between heartbeats of the worker itself
ORDERLY = (codes.STOPPED, codes.BURST_OVER, codes.REPLACE_ME)
RESPAWN = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # seconds to wait after so many children that died young
FORGIVEN = 10  # deaths of children that had jobs in hand: a job may be to blame, and jobs are capped


@dataclass
class Sibling:
    """A child, seen by its supervisor."""

    number: int
    pid: int
    owner: moves.Owner
    board: Board
    control: socket.socket
    born: float
    culprit: Busy | None = None  # why we killed it: this run was out of time
    is_told_to_stop: bool = False
    is_killed: bool = False  # by us, at the end of the shutdown timeout


class Supervisor:
    """Runs a worker; :meth:`run` returns its exit code."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        host = "".join(c if c.isalnum() or c in "-_." else "-" for c in socket.gethostname())[:20]
        self.id = f"{host}:{os.getpid()}:{os.urandom(3).hex()}"
        self._children: dict[int, Sibling] = {}
        self._births = 0
        self._young_deaths = 0
        self._respawn_at: dict[int, float] = {}
        self._stop_by: float | None = None
        self._beat_at = 0.0
        self._announce_at = 0.0
        self._rescue_at = 0.0
        self._started_at = time.time()
        self._done_before = 0
        self._load = LoadMeter(options)
        self._is_away = False
        self._link: Link = new_link(max(0.5, min(2.0, settings.LEASE / 4)))
        self._graves = Graves(self._link)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    # ── the loop ──

    def run(self) -> int:
        self._install_signals()
        self._wait_for_redis()
        if self._stop_by is None:
            logger.info(
                "worker %s: %d processes × (%d threads + %d coroutines) on %s",
                self.id, self._options.processes, self._options.threads, self._options.coroutines,
                ", ".join(self._options.queues),
            )  # fmt: skip
        self._respawn_at = dict.fromkeys(range(self._options.processes), 0.0)
        while self._children or self._respawn_at or self._graves:
            if self._stop_by is not None:
                self._respawn_at.clear()
                if not self._children and not self._can_bury():
                    break
            self._spawn_due()
            self._watch(TICK)
            if self._stop_by is not None:
                self._pass_on_stop()
            self._reap()
            self._end_overdue()
            self._load.sample(sibling.board for sibling in self._children.values())
            self._talk()
        self._say_goodbye()
        return 0

    def _talk(self) -> None:
        """All that goes to Redis; when it's away, children go on and this is tried again."""
        try:
            self._graves.bury()
            self._beat()
            self._rescue()
            self._tell_of_buried()
            self._announce()
        except StoreUnavailable as error:
            if not self._is_away:
                logger.warning("supervisor: %s; trying again", error)
                self._is_away = True
        except StoreError as error:
            logger.error("supervisor: %s", error)  # noqa: TRY400 - the text says it all

    def _watch(self, seconds: float) -> None:
        """Sleep until a child ends, a signal comes, or the time is over."""
        controls = [sibling.control for sibling in self._children.values()]
        watched: list[Any] = [self._wake_read, *controls]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        elif ready:  # a child closed its end: it's dying, let it finish that
            time.sleep(0.005)

    # ── children ──

    def _spawn_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._respawn_at.items() if at <= now]:
            del self._respawn_at[number]
            self._spawn(number)

    def _spawn(self, number: int) -> None:
        self._births += 1
        owner = moves.owner(f"{self.id}/{self._births}")
        options = self._options
        board = Board(options.queues, options.threads + options.coroutines)
        ours, theirs = socket.socketpair()
        connections.close_all()  # no database connection crosses a fork
        for cache in caches.all(initialized_only=True):
            cache.close()
        sys.stdout.flush()
        sys.stderr.flush()
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(supervisor, owner, board, ours, theirs, number)
        theirs.close()
        with suppress(OSError):
            os.setpgid(pid, pid)
        self._children[pid] = Sibling(number, pid, owner, board, ours, time.monotonic())

    def _become_child(
        self,
        supervisor: int,
        owner: moves.Owner,
        board: Board,
        ours: socket.socket,
        theirs: socket.socket,
        number: int,
    ) -> None:
        code = 70
        try:
            with suppress(OSError):
                os.setpgid(0, 0)  # what its jobs leave behind can be ended with it
            die_with_parent(supervisor)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ours.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            for sibling in self._children.values():
                sibling.control.close()
            self._link.close()
            set_title(f"kue worker {number + 1}: {', '.join(self._options.queues)}")
            code = children.main(owner, self._options, board, theirs)
        except BaseException:
            logger.critical("a worker process could not go on", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(code)

    def _reap(self) -> None:
        for pid in list(self._children):
            # Not reaped yet, so that nobody else can have its number while its group is ended.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                end_group(pid)
                _, status = os.waitpid(pid, 0)
                self._ended(self._children.pop(pid), status)

    def _ended(self, sibling: Sibling, status: int) -> None:
        sibling.control.close()
        self._done_before += sibling.board.done()
        code = os.waitstatus_to_exitcode(status)
        is_orderly = code in ORDERLY and not any(sibling.board.busy())
        has_worked = sibling.board.done() or sibling.board.held()
        if not is_orderly or sibling.board.held():
            self._graves.dig(
                grave_of(
                    sibling.owner, sibling.board, code, late=sibling.culprit, is_killed=sibling.is_killed
                )
            )
        if not is_orderly and not sibling.is_killed and sibling.culprit is None:
            logger.error("process %d died: %s", sibling.pid, died_of(code))
        sibling.board.close()
        if (is_orderly and code == codes.BURST_OVER) or self._stop_by is not None:
            return
        is_young = not is_orderly and time.monotonic() - sibling.born < 2
        self._young_deaths = self._young_deaths + 1 if is_young else 0
        counted = self._young_deaths - (FORGIVEN if has_worked else 0)
        delay = RESPAWN[min(max(0, counted), len(RESPAWN) - 1)]
        self._respawn_at[sibling.number] = time.monotonic() + delay

    def _end_overdue(self) -> None:
        """Kill what doesn't stop by itself: a run out of time and grace, or all at the last moment."""
        now = time.monotonic()
        for sibling in self._children.values():
            if self._stop_by is not None and now >= self._stop_by and not sibling.is_killed:
                sibling.is_killed = True
                os.kill(sibling.pid, signal.SIGKILL)
            elif sibling.culprit is None and not sibling.is_killed:
                late = [busy for busy in sibling.board.busy() if busy.deadline and now > busy.deadline]
                if late:
                    sibling.culprit = late[0]
                    logger.error(
                        "job %s.%s doesn't stop at its timeout: its process %d is ended",
                        late[0].queue, late[0].key.decode(), sibling.pid,
                    )  # fmt: skip
                    os.kill(sibling.pid, signal.SIGKILL)

    def _can_bury(self) -> bool:
        """At the end: one more try per tick while Redis answers, then the leases lapse by themselves."""
        return bool(self._graves) and (self._stop_by or 0.0) + 1.0 > time.monotonic()

    def _tell_of_buried(self) -> None:
        """Receivers are the project's code: a living child tells them."""
        living = next(iter(self._children.values()), None)
        if self._graves.untold and living is not None:
            self._order(living, buried=self._graves.untold)
            self._graves.untold = []

    # ── heartbeats ──

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + min(1.0, settings.LEASE / 3)
        asked = [(sibling, queue) for sibling in self._children.values() for queue in sibling.board.held()]
        if not asked:
            self._touch_liveness()
            return
        beats = self._link.try_send(*[moves.beat(queue, sibling.owner) for sibling, queue in asked])
        for (sibling, queue), beat in zip(asked, beats, strict=True):
            if isinstance(beat, StoreError):
                logger.error("%s: %s", queue, beat)
            elif isinstance(beat, Exception):
                raise beat
            elif beat.is_alive:
                sibling.board.set_beaten(queue, now + settings.LEASE)
                for key in beat.to_stop:
                    self._order(sibling, cancel=key.decode(), queue=queue)
            elif sibling.board.held().get(queue) and sibling.board.valid_until(queue) < now:
                self._order(sibling, lost=queue, before=now)
        self._touch_liveness()

    def _rescue(self) -> None:
        """Take back the jobs of workers that died unseen. A child may be stuck; this place never is."""
        now = time.monotonic()
        if now < self._rescue_at:
            return
        self._rescue_at = now + settings.LEASE * 0.4
        sweeps = self._link.try_send(*[moves.rescue(queue) for queue in self._options.queues])
        for queue, rescued in zip(self._options.queues, sweeps, strict=True):
            if isinstance(rescued, Exception):
                logger.error("%s: %s", queue, rescued)
            elif rescued:
                logger.warning("%s: %d jobs were taken back from a worker that died", queue, len(rescued))
                self._graves.note(queue, rescued, {})
                if len(rescued) >= moves.RESCUED:  # there may be more
                    self._rescue_at = now

    def _announce(self) -> None:
        now = time.monotonic()
        if now < self._announce_at:
            return
        self._announce_at = now + ANNOUNCE
        text = json.dumps(self._self_portrait()).encode()
        load = self._load
        call = moves.announce(self.id, text, busy=load.busy, slots=load.slots)
        order = self._link.send(call)[0]
        load.told()
        self._touch_liveness()
        if self._is_away:
            self._is_away = False
            logger.info("supervisor: Redis is back")
        if order == "stop" and self._stop_by is None:
            logger.info("asked to stop by an operator")
            self._stop()

    def _self_portrait(self) -> dict[str, Any]:
        living = [Living(sibling.pid, sibling.board) for sibling in self._children.values()]
        return portrait(
            self._options, living, started_at=self._started_at, done_before=self._done_before,
            is_stopping=self._stop_by is not None,
        )  # fmt: skip

    def _touch_liveness(self) -> None:
        if self._options.liveness_file:
            Path(self._options.liveness_file).touch()

    def _wait_for_redis(self) -> None:
        tries = 0
        while self._stop_by is None:
            try:
                for queue in self._options.queues:
                    self._link.send(reads.registry(queue))
                return
            except StoreError as error:
                logger.error("%s", error)  # noqa: TRY400 - foreign data: a queue that has some will say more
                return
            except StoreUnavailable as error:
                self._touch_liveness()  # it waits, and restarting it wouldn't help
                if tries % 30 == 0:
                    logger.warning("%s; waiting for it", error)
                tries += 1
                self._watch(min(2.0, 0.2 * tries))

    def _say_goodbye(self) -> None:
        with suppress(StoreUnavailable, StoreError):
            self._link.send(moves.announce(self.id, b"", is_leaving=True))
        self._link.close()
        logger.info("worker %s: stopped after %d jobs", self.id, self._done_before)

    # ── stopping ──

    def _install_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._stop_by is None:
            self._stop()
        else:
            self._stop_by = time.monotonic()

    def _stop(self) -> None:
        self._stop_by = time.monotonic() + self._options.shutdown_timeout
        logger.info("stopping: running jobs have %g s to finish", self._options.shutdown_timeout)
        self._announce_at = 0.0

    def _pass_on_stop(self) -> None:
        """Told in the loop: a signal may come in the middle of a birth, when the child isn't known yet."""
        for sibling in self._children.values():
            if not sibling.is_told_to_stop:
                sibling.is_told_to_stop = True
                self._order(sibling, stop=True)

    @staticmethod
    def _order(sibling: Sibling, **order: Any) -> None:
        with suppress(OSError):  # it's dying
            sibling.control.sendall(json.dumps(order).encode() + b"\n")


def supervise(options: WorkerOptions) -> int:
    """Run a worker in this process until it's told to stop; returns its exit code."""
    set_title(f"kue supervisor: {', '.join(options.queues)}")
    joblog.install()
    return Supervisor(options).run()
