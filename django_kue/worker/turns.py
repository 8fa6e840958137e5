"""Turns with Redis: which queues need one, what it asks for, and what becomes of the answer."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from django_kue import execution, signals
from django_kue.conf import settings
from django_kue.errors import KueError, StoreError, StoreUnavailable
from django_kue.execution import RELEASED, Outcome, Run
from django_kue.store import Call, OwnLink, moves
from django_kue.store.blocking import BLOCK, LATE
from django_kue.words import many
from django_kue.worker.board import Board
from django_kue.worker.crew import Crew
from django_kue.worker.joblog import JobLog
from django_kue.worker.measuring import Measuring
from django_kue.worker.options import WorkerOptions
from django_kue.worker.served import Served
from django_kue.worker.telling import awaited, emit_read

logger = logging.getLogger("django_kue.worker")

FRESH = 1 / 2  # leases, counted from the request, within which a claimed job may be started
THERE = 0.0001  # reading an answer that was already there takes less than this many seconds
_SUSPECT = re.compile(rb"(?:[^|,]*,)*z")  # a record whose head has this token


class Planned(NamedTuple):
    """A queue's turn: the ends that it reports, and how many jobs it asks for."""

    queue: Served
    acks: list[Run]
    wants: int


class Asked(NamedTuple):
    """Turns whose answers are still to be read."""

    turns: list[Planned]
    at: float


class Answer(NamedTuple):
    """Redis's answer to a turn, still to be taken in."""

    planned: Planned
    reply: moves.Turn | KueError
    asked_at: float
    heard_at: float


class Turns:
    """Settles and claims for one child. Used by the leading thread only."""

    def __init__(
        self, owner: moves.Owner, options: WorkerOptions, board: Board, link: OwnLink, crew: Crew
    ) -> None:
        self._owner = owner
        self._options = options
        self._board = board
        self._link = link
        self._crew = crew
        self.queues = crew.queues
        self._turn_order = deque(self.queues.values())
        self._asked: Asked | None = None
        self._answers: list[Answer] = []
        self._has_heard = False
        self.done_count = 0
        self.log = JobLog()
        self.measuring = Measuring()

    @property
    def is_asked(self) -> bool:
        """Whether answers are still to be read; until then nothing else may be sent."""
        return self._asked is not None

    def has_heard(self) -> bool:
        """Whether Redis has accepted a turn since the last call. Answering, but refusing to write, doesn't
        count."""
        has_heard, self._has_heard = self._has_heard, False
        return has_heard

    def ask(self, now: float) -> None:
        """Send the turns that are due, all at once. :meth:`collect` must follow before anything else is
        sent."""
        for queue in self.queues.values():
            if now >= queue.resync_at:
                queue.is_dirty, queue.resync_at = True, float("inf")
            if queue.is_dirty and now >= queue.blocked_until:
                self._sync(queue)
        turns = self._planned(now)
        if not turns:
            return
        self._crew.begin_telling()
        self._asked = Asked(turns, now)
        try:
            self._link.post(*[self._call(turn) for turn in turns])
        except StoreUnavailable:
            self._unanswered()
            raise

    def collect(self) -> None:
        """Wait for the answers, if anything was asked. :meth:`take_in` follows, or first another :meth:`ask`,
        if :meth:`may_ask` allows that."""
        if self._asked is None:
            return
        begun = time.monotonic()
        try:
            replies = self._link.collect()
        except StoreUnavailable:
            self._unanswered()
            raise
        (turns, asked_at), self._asked = self._asked, None
        now = time.monotonic()
        spent = 0.0 if now - begun < THERE else now - asked_at  # if it was already there, it took less time
        for planned, reply in zip(turns, replies, strict=True):
            self._answers.append(Answer(planned, reply, asked_at, now))
            self._has_heard |= not isinstance(reply, StoreUnavailable)
            if isinstance(reply, moves.Turn):
                planned.queue.failures = 0
                planned.queue.took(spent)
                if planned.wants:
                    planned.queue.looked(reply, planned.wants)

    def may_ask(self) -> bool:
        """Whether what was collected affects the next request only by how many jobs have come."""
        return (
            self._crew.is_taking
            and self._options.max_jobs is None
            and all(
                isinstance(answer.reply, moves.Turn)
                and answer.planned.queue.is_free
                and not (answer.reply.refused or answer.reply.cancelled)
                and not any(map(_SUSPECT.match, answer.reply.records))
                for answer in self._answers
            )
        )

    def may_wait(self) -> bool:
        """Whether the answers may stay unread while short jobs run: they bring only short jobs, too."""
        asked = () if self._asked is None else self._asked.turns
        return self._link.works_ahead and all(turn.queue.is_short or not turn.wants for turn in asked)

    def take_in(self) -> bool:
        """Make runs of what was claimed, and note what's settled. True when something was claimed."""
        answers, self._answers = self._answers, []
        for planned, reply, *_ in answers:
            if isinstance(reply, KueError):
                self._refused(planned, reply)
            else:
                self._settle(planned, reply)
        has_claimed = False
        for planned, reply, asked_at, heard_at in answers:
            if isinstance(reply, moves.Turn):
                self.start(planned, reply, asked_at, heard_at)
                has_claimed |= bool(reply.keys)
        return has_claimed

    def _coming(self) -> Iterator[tuple[Planned, moves.Turn]]:
        """Answered turns that are still to be taken in."""
        for planned, reply, *_ in self._answers:
            if isinstance(reply, moves.Turn):
                yield planned, reply

    def untold(self) -> list[Run]:
        """Runs that have ended, but whose end Redis may not know.

        From any thread; but runs that the leading thread is just sending, or putting back, may be missing.
        """
        asked = self._asked
        told = [] if asked is None else [run for turn in asked.turns for run in turn.acks]
        return told + [run for queue in self.queues.values() for run in list(queue.acks)]

    def lose(self) -> None:
        """Redis can't be reached: give up on what isn't answered yet, and take in what is."""
        self._has_heard = False
        if self._asked is not None:
            self._unanswered()
        self.take_in()

    def _unanswered(self) -> None:
        """Put outcomes back that may or may not have got through. They're sent again, and refused if they
        did."""
        assert self._asked is not None
        for turn in self._asked.turns:
            turn.queue.put_back(turn.acks)
            if turn.wants:  # a stalled network may still deliver the request later
                turn.queue.resync_at = time.monotonic() + BLOCK + LATE
        self._asked = None

    def _planned(self, now: float) -> list[Planned]:
        """The turns that are due: one is for the queue to claim from; others report outcomes, or pass on a
        bell that rang here for a job there's no room for."""
        chosen, wanted = self._choose(now)
        turns = []
        for queue in self.queues.values():
            is_offer = now >= queue.offer_at
            if is_offer:
                wants = 0
            elif queue is chosen:
                wants = wanted
            else:
                wants = self.wants(queue, now) if queue.tellable else 0
            is_bell = queue.is_woken and not wants and not self.wants(queue, now)
            if now >= queue.blocked_until and (wants or queue.tellable or is_bell or is_offer):
                turns.append(Planned(queue, queue.take_acks(), wants))
                if is_offer:
                    queue.offered(now)
        return turns

    def _choose(self, now: float) -> tuple[Served | None, int]:
        """The next queue in rotation that may have jobs and for whose jobs there's room, and how many."""
        for _ in range(len(self._turn_order)):
            queue = self._turn_order[0]
            self._turn_order.rotate(-1)
            if (queue.ready_at <= now or queue.is_woken) and (wants := self.wants(queue, now)):
                return queue, wants
        return None, 0

    def wants(self, queue: Served, now: float) -> int:
        if (
            not self._crew.is_taking
            or self._crew.is_left
            or now < queue.blocked_until
            or now < self._crew.alone_until(now)
        ):
            return 0
        coming = sum(len(turn.keys) for _, turn in self._coming())
        wanted = queue.wanted(*self._crew.places(coming, now))
        if self._options.max_jobs is not None:
            begun = self.done_count + sum(served.held() for served in self.queues.values())
            wanted = min(wanted, max(0, self._options.max_jobs - begun))
        return wanted

    def has_more(self) -> bool:
        """Whether a queue has more jobs, according to its last answer."""
        now = time.monotonic()
        return any(queue.ready_at <= now for queue in self.queues.values())

    def is_due(self, now: float) -> bool:
        """Whether there's something to send, or no more jobs will be claimed."""
        return not self._crew.is_taking or any(queue.is_due(now) for queue in self.queues.values())

    def standby(self, queue: Served) -> Call[moves.Turn | None]:
        """A turn that only claims, and only one job."""
        queue.sequence += 1
        return moves.standby(queue.name, self._owner, sequence=queue.sequence)

    def _call(self, turn: Planned) -> Call[moves.Turn]:
        queue = turn.queue
        batches: dict[bytes, list[tuple[bytes, bytes]]] = {}
        spent = 0.0
        for run in turn.acks:
            assert run.outcome is not None
            batches.setdefault(run.lease, []).append((run.key, run.outcome.encode(run)))
            spent += run.finished - run.started
        switches = "w" if queue.is_woken else ""
        if signals.job_promoted.receivers:
            switches += "p"
        queue.sequence += 1
        queue.is_woken = False
        return moves.turn(
            queue.name, self._owner, want=turn.wants, sequence=queue.sequence, batches=batches,
            switches=switches, work_ms=int(spent * 1000),
        )  # fmt: skip

    def _sync(self, queue: Served) -> None:
        """Give back jobs that we don't know we hold, after a lost reply or after our leases lapsed."""
        coming = [turn.lease for planned, turn in self._coming() if planned.queue is queue]
        returned = self._link.try_send(moves.sync(queue.name, self._owner, [*queue.leases, *coming]))[0]
        if isinstance(returned, KueError):
            self.block(queue, returned)
            return
        queue.is_dirty = False
        if returned:
            logger.info(
                "%s: %s given back that had been claimed by a call whose reply was lost",
                queue.name, many(len(returned), "job"),
            )  # fmt: skip

    def _settle(self, planned: Planned, turn: moves.Turn) -> None:
        queue = planned.queue
        if planned.acks:
            queue.settled(planned.acks)
            for run in planned.acks:
                if run.note is not None:
                    self._board.forget_end(run.note)
            self._board.set_held(queue.name, queue.held())
            self._ended(self._accepted(planned.acks, turn))
        self._tell_of(queue.name, turn)

    def _accepted(self, acks: list[Run], turn: moves.Turn) -> list[Run]:
        """The runs whose outcomes were accepted."""
        if not turn.refused and not turn.cancelled:
            return acks
        refused, cancelled = set(turn.refused), set(turn.cancelled)
        for run in acks:
            if run.key in cancelled:
                run.outcome = execution.CANCELLED
            elif run.key in refused:
                # If it was sent twice, or the job was removed, the run isn't stale.
                is_known = run.is_cancelled and not run.is_lost
                if not is_known and not run.is_resent and (run.is_lost or run.outcome is not RELEASED):
                    self.log.add_stale(run)
        return [run for run in acks if run.key not in refused]

    def start(
        self, planned: Planned, turn: moves.Turn, asked_at: float, heard_at: float, fresh: float = FRESH
    ) -> None:
        """Take in what a turn has claimed. What isn't started within ``fresh`` leases goes back: the claim
        may be as old as the request."""
        queue = planned.queue
        if not turn.keys:
            return
        name, lease, reports = queue.name, turn.lease, self._crew.reports
        claimed_ms = int(lease.split(b"|", 2)[1])
        fresh_until = asked_at + settings.LEASE * fresh
        runs = [
            Run(name, key, lease, text, claimed_ms, heard_at, fresh_until, reports)
            for key, text in zip(turn.keys, turn.records, strict=True)
        ]
        outcomes = [execution.load(run) for run in runs]
        queue.claimed(turn.lease, runs)
        self._board.set_claimed(queue.name, asked_at + settings.LEASE)
        self._board.set_held(queue.name, queue.held())
        self._crew.note_suspects(runs)
        if runs[0].suspicion and not self._mark_started(runs[0]):
            outcomes[0] = RELEASED
        if any(outcomes):
            runs = self._without_ended(queue, runs, outcomes)
        self._crew.hand_out(runs, queue.duration if queue.limits.prefetch else None)

    def _without_ended(self, queue: Served, runs: list[Run], outcomes: list[Outcome | None]) -> list[Run]:
        """The runs that still have to run; those with an outcome are over before they began."""
        for run, outcome in zip(runs, outcomes, strict=True):
            if outcome is not None:
                self._crew.done(run, outcome)
                if outcome.kind == "k":
                    queue.stand_aside()
        return [run for run in runs if run.outcome is None]

    def _mark_started(self, suspect: Run) -> bool:
        """Record that a suspect started, so that it's blamed if its worker dies now; False if that failed."""
        report = moves.Report(suspect.lease, suspect.key, b"y", b"")
        try:
            self._link.send(moves.report(suspect.queue, [report]))
        except (StoreError, StoreUnavailable) as error:
            self.block(self.queues[suspect.queue], error)
            return False
        return True

    def _refused(self, planned: Planned, error: KueError) -> None:
        queue = planned.queue
        queue.put_back(planned.acks)
        self.block(queue, error)

    @staticmethod
    def block(queue: Served, error: KueError) -> None:
        """Pause a queue whose calls fail, while the other queues go on."""
        queue.is_dirty = True
        queue.failures += 1
        now = time.monotonic()
        if now - queue.blocked_until > 10:
            logger.error("queue %s: %s", queue.name, error)
        queue.blocked_until = now + 1.0
        queue.ready_at = min(queue.ready_at, queue.blocked_until)

    # ── the log, measurements and signals ──

    def _ended(self, runs: list[Run]) -> None:
        """Measure and log runs whose outcomes were accepted, and have receivers called."""
        self.log.add(runs)
        ended = [run for run in runs if run.outcome is not None and run.outcome.kind not in "bk"]
        self.measuring.add(ended)
        self.done_count += len(ended)
        self._board.set_done(self.done_count)
        if told := awaited(ended):
            self._crew.tell_receivers(told)

    def _tell_of(self, queue: str, turn: moves.Turn) -> None:
        for signal, keys in (
            (signals.job_cancelled, turn.expired),
            (signals.job_promoted, turn.promoted),
        ):
            if keys and signal.receivers:
                self._crew.buffer.put([partial(emit_read, signal, queue, keys)], 1)
