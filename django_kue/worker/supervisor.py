"""The worker that people see: it forks children, sends their heartbeats, and buries the dead ones.

After loading the project's code it never runs any of it, and it has one thread; so it can fork at any time.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from django_kue import scripts
from django_kue.conf import settings
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.store import Link, moves, new_link, reads
from django_kue.words import many, one_line
from django_kue.worker import child as children
from django_kue.worker import codes, forks, joblog
from django_kue.worker.announcing import Living, LoadMeter, portrait
from django_kue.worker.board import Board
from django_kue.worker.graves import Graves, died_of, grave_of
from django_kue.worker.liveness import LivenessFile
from django_kue.worker.options import WorkerOptions
from django_kue.worker.processes import die_with_parent, end_group, set_title
from django_kue.worker.siblings import Sibling
from django_kue.worker.stopping import Stopping
from django_kue.worker.sweeping import Sweeps

logger = logging.getLogger("django_kue.worker")

TICK = 0.1  # seconds between looks at the children
ANNOUNCE = 2.0  # seconds between heartbeats of the worker itself
ORDERLY = (codes.STOPPED, codes.BURST_OVER, codes.REPLACE_ME)
RESPAWN = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # seconds to wait, by the number of children that died young
# The scripts that every worker sends. Read before the fork, they're shared; so is the code that reads them.
SCRIPTS = ("turn", "standby", "measure", "report", "scheduled", "beat", "rescue", "workers")
FORGIVEN = 10  # deaths of children with jobs in hand: a job may be to blame, and a job's crashes are capped


class Supervisor:
    """Runs a worker; :meth:`run` returns its exit code."""

    def __init__(
        self, options: WorkerOptions, once_redis_answers: Callable[[], object] = lambda: None
    ) -> None:
        self._options = options
        self._once_redis_answers = once_redis_answers
        host = "".join(c if c.isalnum() or c in "-_." else "-" for c in socket.gethostname())[:20]
        self.id = f"{host}:{os.getpid()}:{os.urandom(3).hex()}"
        self._children: dict[int, Sibling] = {}
        self._births = 0
        self._young_deaths = 0
        self._respawn_at: dict[int, float] = {}
        self._stopping = Stopping(options.shutdown_timeout)
        self._beat_at = 0.0
        self._announce_at = 0.0
        self._started_at = time.time()
        self._done_before = 0
        self._load = LoadMeter(options)
        self._why_away: set[str] = set()  # logged reasons why Redis can't be reached
        self._away: set[str] = set()  # queues whose cluster node doesn't answer
        self._unbeaten: set[tuple[int, str]] = set()  # pids and queues whose last heartbeat failed
        self._liveness = LivenessFile(options.liveness_file)
        self._mistake_told_at = float("-inf")
        self._link: Link = new_link(max(0.5, min(2.0, settings.LEASE / 4)))
        self._graves = Graves(self._link)
        self._sweeps = Sweeps(self._link, options.queues, self._graves, self._note_node)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    # ── the loop ──

    def run(self) -> int:
        self._catch_signals()
        self._wait_for_redis()
        if not self._stopping.is_asked:
            self._once_redis_answers()
            logger.info(
                "worker %s: %s × (%d threads + %d coroutines) on %s",
                self.id, many(self._options.processes, "process", "processes"),
                self._options.threads, self._options.coroutines, ", ".join(self._options.queues),
            )  # fmt: skip
        for name in SCRIPTS:
            scripts.load(name)
        self._respawn_at = dict.fromkeys(range(self._options.processes), 0.0)
        while self._children or self._respawn_at or self._graves:
            if self._stopping.is_asked:
                self._respawn_at.clear()
                if not self._children and not (self._graves and self._stopping.has_time_to_bury()):
                    break
            self._spawn_due()
            self._watch(TICK)
            self._give_orders()
            self._reap()
            self._stopping.kill_rest(self._children.values())
            self._end_overdue()
            self._load.sample(sibling.board for sibling in self._children.values())
            self._link.timeout = self._stopping.hurried(self._link.timeout)
            self._talk()
        self._say_goodbye()
        self._stopping.disarm()
        return 0

    def _catch_signals(self) -> None:
        """Install the signal handlers; each signal wakes the loop."""
        self._stopping.heed_signals()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGUSR1, self._ask_for_stacks)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def _ask_for_stacks(self, *_: Any) -> None:
        """Have each child write its threads' stacks, to show where a job hangs."""
        for pid in list(self._children):
            with suppress(ProcessLookupError):  # reaped just now
                os.kill(pid, signal.SIGUSR1)

    def _give_orders(self) -> None:
        self._stopping.tell_children(self._children.values())
        for sibling in self._children.values():
            sibling.push()
        if self._stopping.tell_once():
            self._announce_at = 0.0  # so that the list of workers shows it

    def _talk(self) -> None:
        """Do everything that involves Redis; when it's away, children go on and this is tried again."""
        try:
            for step in (
                self._beat,
                self._graves.bury,
                self._sweeps.sweep_if_due,
                self._tell_of_buried,
                self._announce,
            ):
                self._show_life()
                step()
        except StoreUnavailable as error:
            if str(error) not in self._why_away:
                logger.warning("supervisor: %s; trying again", error)
                self._why_away.add(str(error))
                if error.is_silent and not error.is_partial:  # children notice the other cases
                    for sibling in self._children.values():
                        sibling.order(doubt=True)
        except StoreError as error:
            logger.error("supervisor: %s", error)  # noqa: TRY400 - the text says it all
        except Exception as error:  # noqa: BLE001 - a bug of our own is no reason to end running jobs
            self._tell_mistake(error)
        finally:
            self._show_life()
            self._liveness.touch()  # this loop goes on, and restarting us wouldn't bring Redis back

    def _show_life(self) -> None:
        """Show the children that we're alive: otherwise they take no more jobs."""
        now = time.monotonic()
        for sibling in self._children.values():
            sibling.board.set_watched(now)

    def _tell_mistake(self, error: Exception) -> None:
        """Log a bug of our own, once a minute: it may recur on every turn of the loop."""
        if time.monotonic() - self._mistake_told_at >= 60:
            self._mistake_told_at = time.monotonic()
            logger.error(
                "supervisor: this should not happen; jobs go on, and it's tried again", exc_info=error
            )

    def _watch(self, seconds: float) -> None:
        """Sleep until a child ends, a signal comes, or the time has passed."""
        controls = [sibling.control for sibling in self._children.values()]
        watched: list[Any] = [self._wake_read, *controls]
        ready, _, _ = select.select(watched, [], [], seconds)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        elif ready:  # a child closed its end, which means that it's dying: let it finish
            time.sleep(0.005)

    # ── children ──

    def _spawn_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._respawn_at.items() if at <= now]:
            try:
                self._spawn(number)
            except OSError as error:  # for now there's no memory, process or descriptor left
                logger.error("a process can't be started: %s; trying again", error)  # noqa: TRY400
                self._respawn_at[number] = now + 1.0
            else:
                del self._respawn_at[number]

    def _spawn(self, number: int) -> None:
        self._births += 1
        owner = moves.owner(f"{self.id}/{self._births}")
        options = self._options
        board = Board(options.queues, options.threads + 1 + options.coroutines)
        board.set_watched(time.monotonic())
        ours, theirs = socket.socketpair()
        forks.share_nothing()
        supervisor = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            board.close()
            ours.close()
            theirs.close()
            raise
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
                os.setpgid(0, 0)  # so that what its jobs leave behind can be killed with it
            die_with_parent(supervisor)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ours.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            for sibling in self._children.values():
                sibling.control.close()
            # The supervisor's link to Redis stays open here, unused, even once the supervisor has another:
            # closing it would cost half a megabyte in redis-py.
            set_title(f"kue worker {number + 1}: {', '.join(self._options.queues)}")
            code = children.main(owner, self._options, board, theirs, is_first=number == 0)
        except BaseException:
            logger.critical("a worker process could not go on", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(code)

    def _reap(self) -> None:
        for pid in list(self._children):
            # It isn't reaped yet, so that no other process can get its pid while its group is being killed.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                end_group(pid)
                _, status = os.waitpid(pid, 0)
                self._ended(self._children.pop(pid), status)

    def _ended(self, sibling: Sibling, status: int) -> None:
        sibling.control.close()
        self._done_before += sibling.board.done()
        code = os.waitstatus_to_exitcode(status)
        # A child that holds no leases has reported everything, even if a slot of its hasn't been freed yet.
        is_orderly = code in ORDERLY and not (sibling.board.held() and any(sibling.board.busy()))
        has_worked = sibling.board.done() or sibling.board.held()
        if not is_orderly or sibling.board.held():
            self._graves.dig(
                grave_of(
                    sibling.owner, sibling.board, code, late=sibling.culprit, is_killed=sibling.is_killed
                )
            )
        if not is_orderly and not sibling.is_killed and sibling.culprit is None:
            logger.error("process %d died: %s", sibling.pid, died_of(code))
        self._graves.untold[:0] = sibling.unheard()
        sibling.board.close()
        if (is_orderly and code == codes.BURST_OVER) or self._stopping.is_asked:
            return
        is_in_vain = not is_orderly or not has_worked  # it was too large from the start, for example
        is_young = is_in_vain and time.monotonic() - sibling.born < 2
        self._young_deaths = self._young_deaths + 1 if is_young else 0
        counted = self._young_deaths - (FORGIVEN if has_worked else 0)
        delay = RESPAWN[min(max(0, counted), len(RESPAWN) - 1)]
        self._respawn_at[sibling.number] = time.monotonic() + delay

    def _end_overdue(self) -> None:
        """Kill children with a run that hasn't stopped on its own after its timeout and grace period."""
        now = time.monotonic()
        for sibling in self._children.values():
            if sibling.culprit is not None or sibling.is_killed:
                continue
            late = [busy for busy in sibling.board.busy() if busy.deadline and now > busy.deadline]
            if late:
                sibling.culprit = late[0]
                os.kill(sibling.pid, signal.SIGKILL)
                logger.error(
                    "job %s doesn't stop at its timeout: its process %d is killed",
                    one_line(late[0].job_id), sibling.pid,
                )  # fmt: skip

    def _tell_of_buried(self) -> None:
        """Have a living child that reads its orders tell receivers, since these are the project's code."""
        listening = next((one for one in self._children.values() if one.is_listening), None)
        if self._graves.untold and listening is not None:
            listening.tell_of(self._graves.untold)
            self._graves.untold = []

    # ── heartbeats ──

    def _beat(self) -> None:
        """Send the heartbeats that are due. One that failed is due again at the next tick, because after an
        outage others give us half a lease to show that we're alive."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._renew(now)
            self._beat_at = now + min(1.0, settings.LEASE / 3)
        elif self._unbeaten:
            self._renew(now, self._unbeaten)

    def _renew(self, now: float, only: Collection[tuple[int, str]] | None = None) -> None:
        held = [(sibling, queue) for sibling in self._children.values() for queue in sibling.board.held()]
        if only is not None:
            held = [(sibling, queue) for sibling, queue in held if (sibling.pid, queue) in only]
        beats = held and self._link.try_send(*[moves.beat(queue, one.owner) for one, queue in held])
        self._unbeaten = set()
        for (sibling, queue), beat in zip(held, beats, strict=True):
            self._note_node(queue, beat)
            if isinstance(beat, StoreUnavailable):
                self._unbeaten.add((sibling.pid, queue))
            elif isinstance(beat, StoreError):
                logger.error("%s: %s", queue, beat)
            elif beat.is_alive:
                sibling.board.set_beaten(queue, now + settings.LEASE)
                if beat.to_stop:
                    sibling.remind(cancel=[key.decode("latin-1") for key in beat.to_stop], queue=queue)
            elif sibling.board.held().get(queue) and sibling.board.valid_until(queue) < now:
                sibling.remind(lost=queue, before=now)

    def _note_node(self, queue: str, answer: object) -> None:
        """Log that a queue can't be reached though others can, and that it can be again: once each."""
        if isinstance(answer, StoreUnavailable):
            if queue not in self._away:
                self._away.add(queue)
                logger.warning("supervisor: queue %s: %s; trying again", queue, answer)
        elif queue in self._away:
            self._away.remove(queue)
            logger.info("supervisor: queue %s: Redis is back", queue)

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
        if self._why_away:
            self._why_away.clear()
            logger.info("supervisor: Redis is back")
        if order == "stop" and not self._stopping.is_asked:
            logger.info("asked to stop by an operator")
            self._stopping.ask()

    def _self_portrait(self) -> dict[str, Any]:
        living = [Living(sibling.pid, sibling.board) for sibling in self._children.values()]
        return portrait(
            self._options, living, started_at=self._started_at, done_before=self._done_before,
            is_stopping=self._stopping.is_asked,
        )  # fmt: skip

    def _wait_for_redis(self) -> None:
        tries = 0
        while not self._stopping.is_asked:
            try:
                for queue in self._options.queues:
                    self._link.send(reads.registry(queue))
                return
            except StoreError as error:
                logger.error("%s", error)  # noqa: TRY400 - foreign data: a queue with some will say more
                return
            except StoreUnavailable as error:
                self._liveness.touch()  # we're waiting, and restarting us wouldn't help
                if tries % 30 == 0:
                    logger.warning("%s; waiting for it", error)
                tries += 1
                self._watch(min(2.0, 0.2 * tries))

    def _say_goodbye(self) -> None:
        self._graves.leave_open()
        if not self._graves:  # otherwise Redis just didn't answer
            with suppress(StoreUnavailable, StoreError):
                self._link.send(moves.announce(self.id, b"", is_leaving=True))
        self._link.close()
        logger.info("worker %s: stopped after %s", self.id, many(self._done_before, "job"))


def supervise(options: WorkerOptions, once_redis_answers: Callable[[], object] = lambda: None) -> int:
    """Run a worker in this process until it's told to stop; returns its exit code."""
    set_title(f"kue supervisor: {', '.join(options.queues)}")
    joblog.install()
    return Supervisor(options, once_redis_answers).run()
