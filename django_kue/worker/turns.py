"""Turns with Redis: which queues need one, what it asks, and what becomes of the answer."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from django_kue import execution, signals
from django_kue.conf import settings
from django_kue.errors import KueError, StoreError, StoreUnavailable
from django_kue.execution import RELEASED, Outcome, Run
from django_kue.store import Call, OwnLink, moves
from django_kue.store.blocking import BLOCK, LATE
from django_kue.worker.alarm import Alarm
from django_kue.worker.board import ALONE, NOTORIOUS, Board
from django_kue.worker.buffer import Buffer
from django_kue.worker.executors import Loop, Threads
from django_kue.worker.joblog import JobLog
from django_kue.worker.measuring import Measuring
from django_kue.worker.memory import Limit
from django_kue.worker.options import WorkerOptions
from django_kue.worker.reports import Reports
from django_kue.worker.served import PROMPT, Places, Served, is_short
from django_kue.worker.telling import Ends, awaited, emit_read

logger = logging.getLogger("django_kue.worker")

FLOWING = 0.02  # seconds since a thread or the loop last took a job: within, fetching ahead makes sense
LONGEST_NAP = 1.0
FRESH = 1 / 2  # of a lease, counted from the question, within which a claimed job may be started
PART = 0.003  # seconds of work that a thread should have before it's worth waking another
THERE = 0.0001  # seconds within which an answer is read that was there already
_SUSPECT = re.compile(rb"(?:[^|,]*,)*z")  # a record whose head has this token


class Planned(NamedTuple):
    """A turn of a queue: the ends that it tells, and how many jobs it's to bring."""

    queue: Served
    acks: list[Run]
    wants: int


class Asked(NamedTuple):
    """Turns of which the answers are still to be read."""

    turns: list[Planned]
    at: float


class Answer(NamedTuple):
    """What Redis said to a turn, still to be taken in."""

    planned: Planned
    reply: moves.Turn | KueError
    asked_at: float
    heard_at: float


class Turns:
    """Settles and claims for one child. All is the fetch thread's, but :meth:`done`, :meth:`stop_taking` and
    :meth:`mind_memory`, which any thread may call."""

    def __init__(
        self, owner: moves.Owner, options: WorkerOptions, board: Board, link: OwnLink, alarm: Alarm
    ) -> None:
        self._owner = owner
        self._options = options
        self._board = board
        self._link = link
        self._alarm = alarm
        self.queues: Mapping[str, Served] = {name: Served(name) for name in options.queues}
        self._turn_order = deque(self.queues.values())
        self._asked: Asked | None = None
        self._answers: list[Answer] = []
        self._suspects: list[Run] = []  # those in hand
        self.first_ack = 0.0  # when the oldest outcome that isn't told came
        self.is_taking = True  # whether jobs are claimed and started
        self.memory = Limit(options.max_memory)
        self._giving_back = threading.Lock()
        self.done_count = 0
        self.log = JobLog()
        self.measuring = Measuring()
        self.reports = Reports(alarm.ring)
        self.buffer = Buffer()
        self.buffer.on_low = alarm.ring
        self.threads = Threads(options.threads, self.buffer, board, self.done, self._freed)
        self.loop = Loop(options.coroutines, options.threads + 1, board, self.done)
        self.loop.defer = lambda call: self.buffer.put([call], 1)

    def done(self, run: Run, outcome: Outcome) -> None:
        """A run is over: its outcome will be told with the next turn."""
        run.finished = time.monotonic()
        run.outcome = outcome
        if run.finished - run.started >= PROMPT and outcome.kind == "c":
            self._note(run, outcome)
        if not self.first_ack:
            self.first_ack = run.finished
        self.queues[run.queue].acks.append(run)
        if run.finished >= self.memory.look_at:
            self.mind_memory()
        # While more short runs are at hand the fetch thread sleeps for moments only: it tells several ends
        # at once. The end of one that took longer is told at once, since a crash would repeat it.
        if self._alarm.is_asleep and (not len(self.buffer) or self.queues[run.queue].is_prompt):
            self._alarm.is_asleep = False  # one wake-up is enough
            self._alarm.ring()

    def _note(self, run: Run, outcome: Outcome) -> None:
        """From here on a crash of this process doesn't repeat the run: its supervisor tells the end.

        Not while there are reports to be sent, which come before an outcome; nor if it took this process's
        descriptors away, for which it's to blame. And the shortest runs are soon repeated: noting them would
        cost more.
        """
        if self.reports.since is None and not self._alarm.is_gutted():
            run.note = self._board.note_end(run.queue, run.key, run.lease, outcome.encode(run))

    def give_back(self, runs: Collection[Run]) -> None:
        """To Redis, with the next turn: they weren't started. All of a queue's are to be told at once: of two
        turns, the later one's would come to stand before the earlier one's."""
        now = time.monotonic()
        for run in runs:
            run.started = run.finished = now
            run.outcome = RELEASED
        for queue in self.queues.values():
            queue.acks.extend([run for run in runs if run.queue == queue.name])
        if runs:
            self.first_ack = self.first_ack or now
            self._freed()

    def give_back_unstarted(self) -> None:
        with self._giving_back:  # two that take turns at it would mix up the order
            self.give_back([*self.buffer.drain(), *self.loop.drain()])

    def stop_taking(self) -> None:
        """Claim and start no more jobs. What isn't started goes back here and now: before the leading thread
        gets to it among busy ones, these could run all that's at hand."""
        self.is_taking = False
        self.give_back_unstarted()

    def mind_memory(self) -> None:
        """Take no more jobs once this process has grown over its limit."""
        if self.memory.look(time.monotonic()):
            self.stop_taking()

    def _freed(self) -> None:
        """A thread has room again, without a run's end."""
        if self._alarm.is_asleep:
            self._alarm.ring()

    def mark(self) -> None:
        """From here on, only outcomes that have come already may be told.

        A run's reports come before its outcome, and have to be sent before it: so this is called before
        they're gathered, and what ends while they're sent is for the next time.
        """
        for queue in self.queues.values():
            queue.tellable = len(queue.acks)

    @property
    def is_asked(self) -> bool:
        """Whether answers are still to be read: before that nothing else may be sent."""
        return self._asked is not None

    def ask(self, now: float) -> None:
        """Send the turns that are due, all at once. Then comes :meth:`collect`, before anything else is
        sent."""
        for queue in self.queues.values():
            if now >= queue.resync_at:
                queue.is_dirty, queue.resync_at = True, float("inf")
            if queue.is_dirty and now >= queue.blocked_until:
                self._sync(queue)
        turns = self._planned(now)
        if not turns:
            return
        self.first_ack = 0.0
        self._asked = Asked(turns, now)
        try:
            self._link.post(*[self._call(turn) for turn in turns])
        except StoreUnavailable:
            self._unanswered()
            raise

    def collect(self) -> None:
        """Wait for the answers to what was asked, if anything was. Then :meth:`take_in` comes, or another
        :meth:`ask` first, if it :meth:`may_ask`."""
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
        spent = 0.0 if now - begun < THERE else now - asked_at  # what was there already didn't take so long
        for planned, reply in zip(turns, replies, strict=True):
            self._answers.append(Answer(planned, reply, asked_at, now))
            if isinstance(reply, moves.Turn):
                planned.queue.failures = 0
                planned.queue.took(spent)
                if planned.wants:
                    planned.queue.looked(reply, planned.wants)

    def may_ask(self) -> bool:
        """Whether what was collected changes nothing about what to ask for, but that so much has come."""
        return (
            self.is_taking
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
        """Whether the answers to what was asked may lie unread while short jobs run: they bring no others."""
        asked = () if self._asked is None else self._asked.turns
        return self._link.works_ahead and all(turn.queue.is_short or not turn.wants for turn in asked)

    def take_in(self) -> bool:
        """Make runs of what was collected, and tell of what's settled. True when something was claimed."""
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
        """Turns that were answered, and are still to be taken in."""
        for planned, reply, *_ in self._answers:
            if isinstance(reply, moves.Turn):
                yield planned, reply

    def untold(self) -> list[Run]:
        """Runs that have ended, and of whose end Redis may not know."""
        asked = () if self._asked is None else self._asked.turns
        told = [run for turn in asked for run in turn.acks]
        return told + [run for queue in self.queues.values() for run in queue.acks]

    def lose(self) -> None:
        """Redis can't be reached: what was asked isn't answered any more; what was answered holds."""
        if self._asked is not None:
            self._unanswered()
        self.take_in()

    def _unanswered(self) -> None:
        """Nobody knows whether the outcomes got through: they're sent again, and refused if they did."""
        assert self._asked is not None
        for turn in self._asked.turns:
            turn.queue.put_back(turn.acks)
            if turn.wants:  # a network that stood still may bring it later
                turn.queue.resync_at = time.monotonic() + BLOCK + LATE
        self._asked = None

    def _planned(self, now: float) -> list[Planned]:
        """The queues that need a turn: one is to claim from, others have outcomes to tell, or a bell to
        pass on that rang here for a job that there's no room for."""
        chosen, wanted = self._choose(now)
        turns = []
        for queue in self.queues.values():
            is_offer = now >= queue.offer_at and self.is_taking
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
        """The next queue in turn that may have jobs, if there's room for any, and for how many."""
        for _ in range(len(self._turn_order)):
            queue = self._turn_order[0]
            self._turn_order.rotate(-1)
            if (queue.ready_at <= now or queue.is_woken) and (wants := self.wants(queue, now)):
                return queue, wants
        return None, 0

    def wants(self, queue: Served, now: float) -> int:
        if not self.is_taking or now < queue.blocked_until or now < self.alone_until(now):
            return 0
        threads, loop, buffer = self.threads, self.loop, self.buffer
        coming = sum(len(turn.keys) for _, turn in self._coming())
        wanted = queue.wanted(
            Places(threads.count, threads.idle, len(buffer) + coming, now - buffer.taken_at < FLOWING),
            Places(loop.count, loop.free, len(loop.waiting()) + coming, now - loop.taken_at < FLOWING),
        )
        if self._options.max_jobs is not None:
            begun = self.done_count + sum(served.held() for served in self.queues.values())
            wanted = min(wanted, max(0, self._options.max_jobs - begun))
        return wanted

    def alone_until(self, now: float) -> float:
        """While a suspect is tried nothing is taken beside it, so that a crash has one culprit."""
        if not self._suspects:
            return 0.0
        suspects = self._suspects = [run for run in self._suspects if run.outcome is None]
        if any(run.suspicion >= NOTORIOUS for run in suspects):
            return now + LONGEST_NAP
        return max((run.fetched + ALONE for run in suspects), default=0.0)

    def has_more(self) -> bool:
        """Whether a queue has more jobs, as far as its last answer tells."""
        now = time.monotonic()
        return any(queue.ready_at <= now for queue in self.queues.values())

    def is_due(self, now: float) -> bool:
        """Whether something is to be sent, or nothing will be claimed any more."""
        return not self.is_taking or any(queue.is_due(now) for queue in self.queues.values())

    def standby(self, turn: Planned) -> Call[moves.Turn | None]:
        """A planned turn that only claims."""
        turn.queue.sequence += 1
        return moves.standby(turn.queue.name, self._owner, want=turn.wants, sequence=turn.queue.sequence)

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
        """After a lost reply, or after our leases lapsed: give back what we don't know of."""
        coming = [turn.lease for planned, turn in self._coming() if planned.queue is queue]
        returned = self._link.try_send(moves.sync(queue.name, self._owner, [*queue.leases, *coming]))[0]
        if isinstance(returned, KueError):
            self.block(queue, returned)
            return
        queue.is_dirty = False
        if returned:
            logger.info(
                "%d jobs of %s were claimed by a reply that got lost; they're given back",
                len(returned),
                queue.name,
            )

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
        """The runs whose outcomes hold."""
        if not turn.refused and not turn.cancelled:
            return acks
        refused, cancelled = set(turn.refused), set(turn.cancelled)
        for run in acks:
            if run.key in cancelled:
                run.outcome = execution.CANCELLED
            elif run.key in refused:
                # Sent twice, or of a job that was removed: nobody is stale then.
                is_known = run.is_cancelled and not run.is_lost
                if not is_known and not run.is_resent and (run.is_lost or run.outcome is not RELEASED):
                    self.log.add_stale(run)
        return [run for run in acks if run.key not in refused]

    def start(
        self, planned: Planned, turn: moves.Turn, asked_at: float, heard_at: float, fresh: float = FRESH
    ) -> None:
        """Take in what a turn has claimed. What isn't started after a share ``fresh`` of a lease goes back:
        the claim may be as old as the question."""
        queue = planned.queue
        if not turn.keys:
            return
        claimed_ms = int(turn.lease.split(b"|", 2)[1])
        fresh_until = asked_at + settings.LEASE * fresh
        runs = []
        for key, text in zip(turn.keys, turn.records, strict=True):
            runs.append(
                Run(queue.name, key, turn.lease, text, claimed_ms, heard_at, fresh_until, self.reports)
            )
        outcomes = [execution.load(run) for run in runs]
        queue.claimed(turn.lease, runs)
        self._board.set_claimed(queue.name, asked_at + settings.LEASE)
        self._board.set_held(queue.name, queue.held())
        self._suspects += [run for run in runs if run.suspicion]
        if runs[0].suspicion and not self._mark_started(runs[0]):
            outcomes[0] = RELEASED
        if any(outcomes):
            runs = self._without_ended(queue, runs, outcomes)
        self.hand_out(runs, queue.duration if queue.limits.prefetch else None)

    def _without_ended(self, queue: Served, runs: list[Run], outcomes: list[Outcome | None]) -> list[Run]:
        """The runs that are to be; those that have an outcome are over before they began."""
        for run, outcome in zip(runs, outcomes, strict=True):
            if outcome is not None:
                self.done(run, outcome)
                if outcome.kind == "k":
                    queue.stand_aside()
        return [run for run in runs if run.outcome is None]

    def _mark_started(self, suspect: Run) -> bool:
        """Should its worker die now, this run is the one to blame. False: that couldn't be written."""
        report = moves.Report(suspect.lease, suspect.key, b"y", b"")
        try:
            self._link.send(moves.report(suspect.queue, [report]))
        except (StoreError, StoreUnavailable) as error:
            self.block(self.queues[suspect.queue], error)
            return False
        return True

    def hand_out(self, runs: list[Run], duration: float | None = None) -> None:
        """Give runs to the executors. Short ones (by their average) are done soonest by one thread, the
        shortest by the one that leads. Who takes no more gives them back."""
        if not self.is_taking:
            self.give_back(runs)
            return
        for_loop = [run for run in runs if run.definition is not None and run.definition.is_async]
        for_threads = runs
        if for_loop:
            self.loop.put(for_loop)
            for_threads = [run for run in runs if run.definition is None or not run.definition.is_async]
        if for_threads:
            count = len(for_threads)
            self.buffer.low = count // 2
            self.buffer.put(for_threads, self._takers(count, duration))
        if not self.is_taking:  # since a moment
            self.give_back_unstarted()

    def _takers(self, count: int, duration: float | None) -> int:
        """How many threads to wake for so many runs."""
        if duration is None:
            return count
        others = int(count * duration / PART)
        return others if is_short(duration) else min(count, 1 + others)

    def is_short(self, item: object) -> bool:
        """Whether this may be done by the thread that leads."""
        if isinstance(item, Run):
            return self.queues[item.queue].is_short
        return isinstance(item, Ends) and is_short(Ends.duration)

    def _refused(self, planned: Planned, error: KueError) -> None:
        queue = planned.queue
        queue.put_back(planned.acks)
        self.block(queue, error)

    @staticmethod
    def block(queue: Served, error: KueError) -> None:
        """Its calls fail: a pause, in which the other queues go on."""
        queue.is_dirty = True
        queue.failures += 1
        now = time.monotonic()
        if now - queue.blocked_until > 10:
            logger.error("queue %s: %s", queue.name, error)
        queue.blocked_until = now + 1.0
        queue.ready_at = min(queue.ready_at, queue.blocked_until)

    # ── what people hear ──

    def _ended(self, runs: list[Run]) -> None:
        """Outcomes were accepted: measure and log them, and tell the receivers on an executor thread."""
        self.log.add(runs)
        ended = [run for run in runs if run.outcome is not None and run.outcome.kind not in "bk"]
        self.measuring.add(ended)
        self.done_count += len(ended)
        self._board.set_done(self.done_count)
        if told := awaited(ended):
            self.buffer.put(*self._tellings(told))

    def _tellings(self, runs: list[Run]) -> tuple[list[Ends], int]:
        """Who tells the receivers of these, and how many threads to wake for it: where it's quickly done, the
        one that leads begins."""
        if Ends.duration is None or not is_short(Ends.duration):
            return [Ends(runs, self.buffer)], 1
        size = int(PART / max(Ends.duration, 1e-6))
        parts = [Ends(runs[at : at + size], self.buffer) for at in range(0, len(runs), size)]
        return parts, len(parts) - 1

    def _tell_of(self, queue: str, turn: moves.Turn) -> None:
        for signal, keys in (
            (signals.job_cancelled, turn.expired),
            (signals.job_promoted, turn.promoted),
        ):
            if keys and signal.receivers:
                self.buffer.put([partial(emit_read, signal, queue, keys)], 1)
