"""What becomes of the jobs of a process that died: who is to blame, and what Redis is told."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from django_kue import execution, signals
from django_kue.errors import JobCrashed, JobTimeout, StoreError
from django_kue.execution import Run
from django_kue.measures import Row
from django_kue.states import State
from django_kue.store import Link, moves, reads
from django_kue.worker.board import ALONE, NOTORIOUS, Board, Busy
from django_kue.worker.codes import GUTTED

logger = logging.getLogger("django_kue.worker")


@dataclass
class Grave:
    """A dead child's jobs that Redis still has to hear of."""

    owner: moves.Owner
    late: Busy | None = None  # the run for which we ended it; its outcome is decided at the burial
    queues: dict[str, dict[bytes, bytes]] = field(default_factory=dict)  # queue → key → outcome


OF_THE_DEAD = (signals.job_stalled, signals.job_retrying, signals.job_failed)


class Buried(NamedTuple):
    """What receivers shall hear of a job that was taken from the dead."""

    job_id: str
    signal: str  # stalled, retrying, failed
    delay: float = 0.0


class Graves:
    """The dead whose jobs Redis still has to hear of, oldest first."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._open: list[Grave] = []
        self.untold: list[Buried] = []  # what a living child shall tell receivers

    def __len__(self) -> int:
        return len(self._open)

    def dig(self, grave: Grave) -> None:
        self._open.append(grave)

    def bury(self) -> None:
        """Tell Redis of all that died.

        Raises:
            StoreUnavailable: Redis is away; what is left is for the next time.
        """
        while self._open:
            grave = self._open[0]
            for queue, outcomes in list(grave.queues.items()):
                settled: dict[bytes, bytes] = {}
                try:
                    for key, outcome in outcomes.items():
                        if grave.late is not None and grave.late.key == key:
                            outcome = self._timed_out(grave.owner, grave.late)
                        settled[key] = outcome
                    given_back, ended = self._link.send(moves.bury(queue, grave.owner, settled))[0]
                except StoreError as error:  # foreign data: the leases lapse by themselves
                    logger.error("%s: a dead process's jobs can't be handed back: %s", queue, error)  # noqa: TRY400
                    given_back = ended = []
                del grave.queues[queue]
                if given_back or ended:
                    logger.warning(
                        "%s: %d jobs of the dead process are handed back, %d settled",
                        queue, len(given_back) + sum(o == b"z" for o in settled.values()),
                        sum(o != b"z" for o in settled.values()),
                    )  # fmt: skip
                self.note(queue, ended, settled)
                self._measure(queue, [settled[key] for key in ended])
            self._open.pop(0)

    def _measure(self, queue: str, outcomes: list[bytes]) -> None:
        """Runs that ended with their process, whose own measurements may be lost with it."""
        row = Row()
        for outcome in outcomes:
            kind = outcome[:1].decode()
            if kind not in "bkz":
                row.count_run(kind)
        if row.count:
            try:
                self._link.send(moves.measure(queue, row, {}))
            except StoreError as error:
                logger.error("queue %s: measurements can't be stored: %s", queue, error)  # noqa: TRY400

    def _timed_out(self, owner: moves.Owner, late: Busy) -> bytes:
        """The outcome of a run whose process we ended: decided as any other's, by the job's rules."""
        queue, key = late.queue, late.key
        rows = self._link.send(reads.rows(queue, [key]))[0]
        if not rows or rows[0].lease.split(b"|")[-1] != owner.text:
            return b"b"  # it was over just then
        row = rows[0]
        claimed_ms = int(row.lease.split(b"|")[1])
        run = Run(queue, key, row.lease, row.record, claimed_ms, time.monotonic())
        outcome = execution.load(run)
        if outcome is None:
            assert run.rules is not None
            # Not noted where the function itself hung; it's not to hang this process too.
            run.noted_delay = 0.0 if late.delay is None and callable(run.rules.backoff) else late.delay
            timeout = f" of {run.rules.timeout:g} s" if run.rules.timeout else ""
            outcome = execution.of_exception(
                run, JobTimeout(f"it ran longer than its timeout{timeout}, and its process was ended")
            )
        return outcome.encode(run)

    def note(self, queue: str, keys: list[bytes], outcomes: dict[bytes, bytes]) -> None:
        """What became of jobs that were taken from the dead; told when a child lives that can."""
        if not keys or not any(one.receivers for one in OF_THE_DEAD):
            return
        states = {row.key: row.state for row in self._link.send(reads.rows(queue, keys))[0]}
        for key in map(bytes.decode, keys):
            outcome = outcomes.get(key.encode(), b"z")
            if states.get(key) is State.FAILED:
                self.untold.append(Buried(f"{queue}.{key}", "failed"))
            elif outcome.startswith(b"r"):
                delay = int(outcome[1:].split(b"|", 1)[0]) / 1000
                self.untold.append(Buried(f"{queue}.{key}", "retrying", delay))
            else:
                self.untold.append(Buried(f"{queue}.{key}", "stalled"))


def grave_of(owner: moves.Owner, board: Board, code: int, *, late: Busy | None, is_killed: bool) -> Grave:
    """Who is to blame, and what becomes of the others.

    ``late``: the run for which we ended the process; ``is_killed``: we did so at the last moment.

    Out of time, or the only one that ran: that's the culprit; or the one suspect that was just
    being tried. Of several nobody is blamed: they're suspects now, and will be tried one by one.
    """
    grave = Grave(owner, queues={queue: {} for queue in board.held()})
    busy = list(board.busy())
    if is_killed:
        return grave
    if late is not None:
        grave.late = late
        grave.queues.setdefault(late.queue, {})[late.key] = b"b"
        return grave
    culprits = culprits_among(busy, time.monotonic())
    error = execution.describe(JobCrashed(f"its process died: {died_of(code)}")).as_text()
    for one in busy:
        started = int((time.time() - (time.monotonic() - one.started)) * 1000)
        outcome = b"d%d|%b" % (started, error) if one in culprits else b"b" if culprits else b"z"
        grave.queues.setdefault(one.queue, {})[one.key] = outcome
    return grave


def culprits_among(busy: list[Busy], now: float) -> list[Busy]:
    """The one that its process surely died of, as far as one can be sure; else nobody.

    A process takes nothing more for :data:`ALONE` after a suspect's start, and nothing at all beside
    one that was there :data:`NOTORIOUS` times: so that at least every third death has a culprit.
    """
    for certain in (
        busy,
        [one for one in busy if one.suspicion >= NOTORIOUS],
        [one for one in busy if one.suspicion and now - one.started < ALONE],
    ):
        if len(certain) == 1:
            return certain
    return []


def died_of(code: int) -> str:
    """An exit code in words."""
    if code == GUTTED:
        return "a job closed or replaced its file descriptors"
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    return f"exited with code {code}"
