"""What becomes of a dead process's jobs: which one is to blame, and what Redis is told."""

from __future__ import annotations

import logging
import signal
import time
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from django_kue import execution, failures, ids, signals
from django_kue.conf import settings
from django_kue.errors import JobCrashed, JobTimeout, StoreError, StoreUnavailable
from django_kue.execution import Run
from django_kue.measures import Row
from django_kue.rows import error_of
from django_kue.searching import readable
from django_kue.store import Link, moves, reads
from django_kue.words import many, span
from django_kue.worker import joblog
from django_kue.worker.board import ALONE, NOTORIOUS, Board, Busy, Untold
from django_kue.worker.codes import BROKEN, GUTTED

logger = logging.getLogger("django_kue.worker")

UNKNOWN = "?"  # in place of the name of a function
AGAIN = "if it stays away, the job runs again when its lease runs out"


@dataclass
class Grave:
    """A dead child's jobs that Redis still has to be told about."""

    owner: moves.Owner
    late: Busy | None = None  # the overdue run we killed it for; its outcome is decided at the burial
    queues: dict[str, dict[bytes, bytes]] = field(default_factory=dict)  # queue → key → outcome
    unheard: list[str] = field(default_factory=list)  # queues with jobs that it may hold without knowing
    untold: dict[str, Batches] = field(default_factory=dict)  # queue → what it completed and didn't report
    is_stopped: bool = False  # we killed it because we're stopping; otherwise it died

    def leave_untold(self, end: Untold) -> None:
        """Add an end that the child would have reported with its next turn; it's reported under its lease."""
        lease = b"%d|%d|%b" % (end.sequence, end.claimed_ms, self.owner.text)
        self.untold.setdefault(end.queue, {}).setdefault(lease, []).append((end.key, end.outcome))


Batches = dict[bytes, list[tuple[bytes, bytes]]]  # lease → (key, outcome)
OF_THE_DEAD = (signals.job_stalled, signals.job_retrying, signals.job_failed, signals.job_cancelled)


class Buried(NamedTuple):
    """What receivers should be told about a job that was taken from a dead process or worker."""

    job_id: str
    signal: str  # stalled, retrying, failed, cancelled, completed
    delay: float = 0.0


class Graves:
    """The dead processes whose jobs Redis still has to be told about, oldest first."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._open: list[Grave] = []
        self.untold: list[Buried] = []  # what a living child should tell receivers

    def __len__(self) -> int:
        return len(self._open)

    def dig(self, grave: Grave) -> None:
        self._open.append(grave)

    def bury(self) -> None:
        """Tell Redis about all that died, as far as it can be reached; the rest is left for the next time.

        Raises:
            StoreUnavailable: Redis is away as a whole.
        """
        for grave in list(self._open):
            for queue in list(grave.queues):
                try:
                    self._bury(queue, grave)
                except StoreUnavailable as error:
                    if not error.is_partial:
                        raise
            self._bury_unheard(grave)
            if not grave.queues:
                self._open.remove(grave)

    def leave_open(self) -> None:
        """Log which jobs are left behind: Redis is still away, and this worker ends."""
        for grave in self._open:
            for queue, running in grave.queues.items():
                untold = {key for pairs in grave.untold.get(queue, {}).values() for key, _ in pairs}
                for key in {*running, *untold}:
                    what = "had completed" if key in untold else "was running"
                    logger.warning("%s %s, but Redis is away: %s", ids.joined(queue, key), what, AGAIN)

    def _bury_unheard(self, grave: Grave) -> None:
        """Give back jobs that it didn't know it had. That's tried once: the leases lapse anyway."""
        queues, grave.unheard = grave.unheard, []
        if not queues:
            return
        try:
            burials = self._link.try_send(*[moves.bury(queue, grave.owner, {}) for queue in queues])
        except StoreUnavailable:
            return
        for queue, burial in zip(queues, burials, strict=True):
            if isinstance(burial, moves.Burial) and burial.given_back:
                logger.warning(
                    "%s: %s handed back that the dead process didn't know it had",
                    queue, many(len(burial.given_back), "job"),
                )  # fmt: skip

    def _bury(self, queue: str, grave: Grave) -> None:
        settled: dict[bytes, bytes] = {}
        try:
            self._tell_ends(queue, grave)
            for key, outcome in grave.queues[queue].items():
                if grave.late is not None and grave.late.key == key:
                    outcome = self._timed_out(grave.owner, grave.late)
                settled[key] = outcome
            burial = self._link.send(moves.bury(queue, grave.owner, settled))[0]
        except StoreError as error:  # foreign data: the leases lapse on their own
            logger.error("%s: a dead process's jobs can't be handed back: %s", queue, error)  # noqa: TRY400
            burial = moves.Burial([], [], [], [])
        del grave.queues[queue]
        ended = burial.settled
        back = [key for key in burial.given_back if key not in burial.cancelled]
        if back:
            whose = "a process that had to stop" if grave.is_stopped else "the dead process"
            logger.warning("%s: %s of %s handed back", queue, many(len(back), "job"), whose)
        self.note(queue, ended, settled, failed=burial.failed, cancelled=burial.cancelled)
        records = self._records(queue, ended)
        for key, record in records:  # their process didn't log this itself
            level, word, why = _fate(queue, key, settled[key], burial, record)
            joblog.say_of_dead(level, word, queue, ids.joined(queue, key), _name_in(record), why)
        self._measure(queue, [(_name_in(record), settled[key]) for key, record in records])

    def say_rescued(self, queue: str, rescue: moves.Rescue) -> None:
        """Log how many jobs were taken back from a worker that died, and which failed because of that."""
        logger.warning("%s: %s taken back from a worker that died", queue, many(len(rescue.taken), "job"))
        for key, record in self._records(queue, rescue.failed):
            why = ": JobCrashed: the worker that ran it died"
            joblog.say_of_dead(logging.ERROR, "FAILED", queue, ids.joined(queue, key), _name_in(record), why)

    def _records(self, queue: str, keys: list[bytes]) -> list[tuple[bytes, bytes | None]]:
        """Keys and their jobs' records: empty if the job is gone, ``None`` if it can't be read."""
        if keys:
            with suppress(StoreError, StoreUnavailable):  # then what's known without the records is logged
                lights = self._link.send(reads.lights(queue, keys))[0]
                return [(key, record) for key, (record, _) in zip(keys, lights, strict=True)]
        return [(key, None) for key in keys]

    def _tell_ends(self, queue: str, grave: Grave) -> None:
        """Report what it had completed as it would have done itself, so that nobody runs that again."""
        batches = grave.untold.get(queue)
        if not batches:
            return
        turn = self._link.send(moves.turn(queue, grave.owner, want=0, sequence=0, batches=batches))[0]
        del grave.untold[queue]
        refused = {*turn.refused, *turn.cancelled}
        told = [pair for pairs in batches.values() for pair in pairs if pair[0] not in refused]
        if told:
            runs = many(len(told), "run")
            logger.warning("%s: %s recorded that the dead process had completed", queue, runs)
        if signals.job_completed.receivers:
            self.untold += [Buried(ids.joined(queue, key), "completed") for key, _ in told]
        records = dict(self._records(queue, [key for key, _ in told]))
        self._measure(queue, [(_name_in(records[key]), outcome) for key, outcome in told])

    def _measure(self, queue: str, runs: list[tuple[str, bytes]]) -> None:
        """Measure runs (function and outcome) that ended with their process, whose own measurements may be
        lost."""
        of_queue, functions = Row(), defaultdict[str, Row](Row)
        for name, outcome in runs:
            kind = outcome[:1].decode()
            if kind not in "bklz":
                of_queue.count_run(kind)
                if name != UNKNOWN:
                    functions[name].count_run(kind)
        if of_queue.count:
            try:
                self._link.send(moves.measure(queue, of_queue, functions))
            except StoreError as error:
                logger.error("queue %s: measurements can't be stored: %s", queue, error)  # noqa: TRY400

    def _timed_out(self, owner: moves.Owner, late: Busy) -> bytes:
        """The outcome of a run whose process we killed, decided like any other by the job's rules."""
        queue, key = late.queue, late.key
        rows = self._link.send(reads.rows(queue, [key]))[0]
        if not rows or rows[0].lease.split(b"|")[-1] != owner.text:
            return b"b"  # it ended at that very moment
        row = rows[0]
        claimed_ms = int(row.lease.split(b"|")[1])
        run = Run(queue, key, row.lease, row.record, claimed_ms, time.monotonic())
        outcome = execution.load(run)
        if outcome is None:
            assert run.rules is not None
            # There's no note if the backoff function itself hung; it mustn't hang this process too.
            run.noted_delay = 0.0 if late.delay is None and callable(run.rules.backoff) else late.delay
            timeout = f" of {run.rules.timeout:g} s" if run.rules.timeout else ""
            outcome = execution.of_exception(
                run, JobTimeout(f"it ran longer than its timeout{timeout}, and its process was ended")
            )
        return outcome.encode(run)

    def note(
        self,
        queue: str,
        keys: list[bytes],
        outcomes: dict[bytes, bytes],
        *,
        failed: Collection[bytes] = (),
        cancelled: Collection[bytes] = (),
    ) -> None:
        """Note what became of jobs that were taken from the dead, for a living child to tell receivers.

        That's what this move made of them, wherever they are by now.
        """
        if not keys or not any(one.receivers for one in OF_THE_DEAD):
            return
        for key in keys:
            outcome = outcomes.get(key, b"z")
            job_id = ids.joined(queue, key)
            if key in failed:
                self.untold.append(Buried(job_id, "failed"))
            elif key in cancelled:
                self.untold.append(Buried(job_id, "cancelled"))
            elif outcome.startswith(b"r"):
                self.untold.append(Buried(job_id, "retrying", _delay_in(outcome)))
            elif not outcome.startswith(b"lstopped"):
                self.untold.append(Buried(job_id, "stalled"))


def _name_in(record: bytes | None) -> str:
    return readable(record).name if record else UNKNOWN


def _fate(
    queue: str, key: bytes, outcome: bytes, burial: moves.Burial, record: bytes | None
) -> tuple[int, str, str]:
    """What the burial made of a job, for the log: level, word, and reason. ``record``: ``None`` when it
    couldn't be read, empty when the job is gone."""
    kind = outcome[:1]
    text = outcome.split(b"|", 1 if kind == b"d" else 2)[-1] if kind in b"dfr" else b""
    error = error_of(text, queue, key.decode(errors="replace"))
    why = f": {error.summary[:200]}" if error is not None else ""
    again = "it's gone" if record == b"" else "it runs again"
    if key in burial.failed:
        return logging.ERROR, "FAILED", why
    if key in burial.cancelled:
        return logging.INFO, "cancelled", ""
    if kind == b"r":
        return logging.WARNING, "retry", f" in {span(_delay_in(outcome))}{why}"
    if kind == b"d":
        most = settings.queue_or_default(queue).max_crashes
        crash = f" crash {readable(record).head.get('c', '?')}/{most}" if record else ""
        return logging.WARNING, "crashed", f"{crash}{why}; {again}"
    if kind == b"z":
        return logging.WARNING, "suspect", f": its process died, and it wasn't the only job running; {again}"
    if kind == b"l" and outcome.startswith(b"lstopped"):
        return logging.WARNING, "given back", f": it was still running when its process had to stop; {again}"
    if kind == b"l":
        return logging.WARNING, "stalled", f": its process ended, through no fault of its own; {again}"
    return logging.WARNING, "given back", ": it's left in its queue"


def _delay_in(outcome: bytes) -> float:
    """The delay in a retry's outcome, in seconds."""
    return int(outcome[1:].split(b"|", 1)[0]) / 1000


def grave_of(owner: moves.Owner, board: Board, code: int, *, late: Busy | None, is_killed: bool) -> Grave:
    """Decide which job is to blame, and what becomes of the others.

    ``late``: the overdue run we killed the process for; ``is_killed``: we killed it at the shutdown timeout.

    The culprit is the overdue run, or the only one running, or the one suspect that had just been started
    alone. If several were running, none is blamed: they're suspects now, and will run one at a time.
    """
    held = board.held()
    unheard = [queue for queue in board.queues if queue not in held]
    grave = Grave(owner, queues={queue: {} for queue in held}, unheard=unheard)
    ended = set()
    for end in board.untold():
        grave.leave_untold(end)
        ended.add(end.key)
    # A run that has just ended may still be in its slot: the note of its end counts. One that was blamed may
    # be in two slots.
    busy = list({one.key: one for one in board.busy() if one.key not in ended}.values())
    grave.is_stopped = is_killed
    if is_killed or code == BROKEN:  # that was us: no job is to blame
        word = b"lstopped" if is_killed else b"lstalled"
        outcomes = [b"%b|%d|" % (word, _started_ms(one)) for one in busy]
    elif late is not None:
        grave.late = late
        busy = [*busy, late]
        outcomes = [b"lstalled|%d|" % _started_ms(one) for one in busy]
    else:
        culprits = culprits_among(busy, time.monotonic())
        error = failures.describe(JobCrashed(f"its process died: {died_of(code)}")).as_text()
        outcomes = [
            b"d%d|%b" % (_started_ms(one), error) if one in culprits
            else b"lstalled|%d|" % _started_ms(one) if culprits
            else b"z%d|" % _started_ms(one)
            for one in busy
        ]  # fmt: skip
    for one, outcome in zip(busy, outcomes, strict=True):
        grave.queues.setdefault(one.queue, {})[one.key] = outcome
    return grave


def _started_ms(one: Busy) -> int:
    return int((time.time() - (time.monotonic() - one.started)) * 1000)


def culprits_among(busy: list[Busy], now: float) -> list[Busy]:
    """The one run that the process died of, if that's as good as certain; otherwise none.

    A process takes no other jobs for :data:`ALONE` seconds after a suspect's start, and none at all beside
    a suspect of :data:`NOTORIOUS` deaths: so at least every third death has a culprit.
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
    if code == BROKEN:
        return "its fetch loop broke"
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    return f"exited with code {code}"
