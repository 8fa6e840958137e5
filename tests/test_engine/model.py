"""What a queue should be after each move, in plain Python; and what must then be true of the real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

from django.conf import settings as project
from django.test import override_settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
)

from django_kue.audit import audit
from django_kue.codecs import search_hash
from django_kue.queue import Queue
from django_kue.states import State
from django_kue.store import ask, reads
from tests.conftest import redis_client
from tests.test_engine.hands import (
    Hands,
    texts,
)  # fmt: skip

HOUR = 3_600_000
MAX_CRASHES = 3
CONCURRENCY, RATE = 12, 60  # while they are on
KEEP = {State.COMPLETED: 20, State.FAILED: 12, State.CANCELLED: 12}  # while it is on
LETTERS = {State.COMPLETED: "c", State.FAILED: "f", State.CANCELLED: "x"}


@dataclass
class Known:
    """A job as the model knows it."""

    key: str
    state: State
    priority: int = 0
    unique: str = ""
    holds_in: str = "wda"
    is_expired: bool = False
    is_suspect: bool = False
    has_started: bool = False  # as a suspect: the mark y
    crashes: int = 0
    lease: bytes = b""
    is_counted: bool = False  # RATE has counted its start
    is_marked: bool = False
    keep: int | None = None  # ms, of its own
    ended: int = 0  # the step in which it finished
    is_kept_long: bool = False  # finished, and not the queue's retention's to take


class Model(RuleBasedStateMachine):
    """One queue's jobs as they should be. Whoever makes a move in Redis makes it here, too."""

    def __init__(self) -> None:
        super().__init__()
        redis_client().flushall()
        self.queue = Queue("default")
        self.hands = [Hands(name=f"w{i}") for i in range(3)]
        self.jobs: dict[str, Known] = {}
        self.gone: list[str] = []
        self.waiting: dict[int, list[str]] = {}
        self.holders: dict[str, str] = {}
        self.ghosts: dict[str, bytes] = {}
        self.owners: set[str] = set()
        self.locks: dict[str, str] = {}  # unique keys that are held for a time
        self.searched: set[str] = set()
        self.is_paused = False
        self.limits: dict[str, Any] = {}  # settings of the queue
        self.starts = 0  # that RATE has counted
        self.number, self.sent = 0, b""  # of the last enqueue, and its key
        self.step = self.retained_since = 0
        self.changed = ExitStack()
        ask(reads.registry("default"))

    moves_made: ClassVar[Counter[str]] = Counter()  # the rows of the table that some example came through

    def made(self, move: str, *, count: int = 1) -> None:
        self.moves_made[move] += count

    def teardown(self) -> None:
        self.changed.close()
        super().teardown()

    def change_limits(self) -> None:
        self.changed.close()
        queues = {**project.KUE["QUEUES"], "default": self.limits}
        self.changed.enter_context(override_settings(KUE={**project.KUE, "QUEUES": queues}))

    # ── the model's moves ──

    def to_back(self, job: Known) -> None:
        job.state = State.WAITING
        self.waiting.setdefault(job.priority, []).append(job.key)

    def to_front(self, jobs: list[Known]) -> None:
        for job in reversed(jobs):
            job.state, job.lease, job.has_started = State.WAITING, b"", False
            self.waiting.setdefault(job.priority, []).insert(0, job.key)

    def leave_waiting(self, job: Known) -> None:
        if job.state is State.WAITING:
            self.waiting[job.priority].remove(job.key)

    def forget(self, job: Known) -> None:
        del self.jobs[job.key]
        self.gone.append(job.key)
        if self.holders.get(job.unique) == job.key:
            del self.holders[job.unique]

    def finish(self, job: Known, state: State, keep: int | None = None, *, is_plain: bool = False) -> None:
        """``keep``: what the run's outcome says; unless that's plain, the job's own counts else."""
        keep = job.keep if keep is None and not is_plain else keep
        job.state, job.lease, job.is_marked = state, b"", False
        job.ended, job.is_kept_long = self.step, keep is not None
        if self.holders.get(job.unique) == job.key and not self.holds(job):
            del self.holders[job.unique]
        if keep == 0:
            self.forget(job)

    def holds(self, job: Known) -> bool:
        letter = "x" if job.state is State.CANCELLED else job.state[0]
        return letter in job.holds_in

    def holder(self, unique: str, key: str, mode: str) -> str | None:
        """The other job that holds a unique key."""
        if mode == "t":
            holder = self.locks.get(unique)
            return None if holder == key else holder
        holder = self.holders.get(unique)
        if not unique or not holder or holder == key or not self.holds(self.jobs[holder]):
            return None
        return holder

    def retain(self) -> None:
        """Retention may have taken the oldest finished jobs: never too many; a quarter more may be left."""
        for state, most in KEEP.items():
            known = [job for job in self.jobs.values() if job.state is state and not job.is_kept_long]
            there = set(texts(redis_client().zrange(f"kue:{{default}}:{LETTERS[state]}", 0, -1)))
            gone = [job for job in known if job.key not in there]
            if not gone:
                continue
            assert len(known) - len(gone) >= most
            last = max(job.ended for job in gone)
            assert all(job.ended >= last for job in known if job.key in there)
            for job in gone:
                self.forget(job)
        if self.is_retained:
            for state, most in KEEP.items():
                kept = [job for job in self.jobs.values() if job.state is state and not job.is_kept_long]
                assert len(kept) <= most + most // 4 or max(job.ended for job in kept) < self.retained_since

    @property
    def is_retained(self) -> bool:
        return "KEEP_COMPLETED" in self.limits

    def room(self, want: int) -> int:
        """How many may start."""
        if "CONCURRENCY" in self.limits:
            active = sum(job.state is State.ACTIVE for job in self.jobs.values())
            want = min(want, max(0, CONCURRENCY - active - len(self.ghosts)))
        return min(want, max(0, RATE - self.starts)) if "RATE" in self.limits else want

    def uncount(self, jobs: Iterable[Known]) -> None:
        """These never ran."""
        self.starts -= sum(job.is_counted for job in jobs)

    def crash(self, job: Known) -> None:
        job.crashes += 1
        if job.crashes >= MAX_CRASHES:
            job.is_suspect = job.has_started = False
            self.finish(job, State.FAILED)
            self.made("fail")
        else:
            job.is_suspect = True
            self.to_front([job])
            self.made("release")

    def settle(self, job: Known, name: str) -> None:
        """What an outcome does that doesn't put the job at the front."""
        match name:
            case "retried at once":
                job.is_suspect = job.has_started = False
                job.lease = b""
                self.to_back(job)
                self.made("retry")
            case "retried later" | "parked":
                if name == "retried later":
                    job.is_suspect = False
                    self.made("retry")
                job.state, job.lease, job.has_started = State.DELAYED, b"", False
            case "failed" | "failed, not kept":
                job.is_suspect = job.has_started = False
                self.finish(job, State.FAILED, 0 if name == "failed, not kept" else None)
                self.made("fail")
            case "ended itself":
                self.finish(job, State.CANCELLED)
                self.made("cancel")
            case _:
                keep = {"completed, not kept": 0, "completed, kept long": HOUR}.get(name)
                self.finish(job, State.COMPLETED, keep, is_plain=name == "completed")
                self.made("complete")

    def claimed(self, want: int) -> tuple[list[str], list[str]]:
        """The keys that the next claim takes, and those that it finds expired."""
        taken: list[str] = []
        expired: list[str] = []
        for priority in sorted(self.waiting, reverse=True):
            line = self.waiting[priority]
            while line and len(taken) < want:
                job = self.jobs[line[0]]
                if job.is_expired:
                    expired.append(line.pop(0))
                    self.finish(job, State.CANCELLED)
                    self.made("expire")
                    continue
                if job.is_suspect and taken:
                    return taken, expired
                taken.append(line.pop(0))
                if job.is_suspect:
                    return taken, expired
        return taken, expired

    def active_of(self, hands: Hands) -> list[Known]:
        return [job for job in self.jobs.values() if job.lease and job.lease.endswith(hands.owner.text)]

    def drop_ghosts(self, hands: Hands, *, but: Collection[bytes] = ()) -> None:
        for key, lease in list(self.ghosts.items()):
            if lease.endswith(hands.owner.text) and lease not in but:
                del self.ghosts[key]

    # ── what must hold ──

    @invariant()
    def all_is_as_known(self) -> None:
        self.retain()
        self.step += 1
        self.keys_are_sound()
        self.counts_are_as_known()
        self.waiting_jobs_are_in_order()
        self.states_are_as_known()
        self.ghosts_are_as_known()
        self.starts_are_as_known()
        self.searching_finds_what_is_there()

    def keys_are_sound(self) -> None:
        assert audit("default") == []

    def counts_are_as_known(self) -> None:
        known = Counter(job.state for job in self.jobs.values())
        assert self.queue.counts() == {state: known[state] for state in self.queue.counts()}

    def searching_finds_what_is_there(self) -> None:
        found = ask(reads.having("default", [search_hash("order_id", 17)], 1000))
        assert set(texts(found)) == self.searched & self.jobs.keys()

    def waiting_jobs_are_in_order(self) -> None:
        expected = [key for priority in sorted(self.waiting, reverse=True) for key in self.waiting[priority]]
        found = [job.key for job in self.queue.jobs("waiting", limit=1000, newest_first=False)]
        assert found == expected[:1000]

    def states_are_as_known(self) -> None:
        for state in State:
            if state is State.WAITING:
                continue
            known = {job.key for job in self.jobs.values() if job.state is state}
            assert {job.key for job in self.queue.jobs(state, limit=1000)} == known

    def starts_are_as_known(self) -> None:
        found = [entry.split(b":") for entry in redis_client().lrange("kue:{default}:rl", 0, -1)]
        assert sum(int(count) for count, _, _ in found) == self.starts
        if found:
            assert int(found[-1][2]) - int(found[0][2]) + int(found[0][0]) == self.starts

    def ghosts_are_as_known(self) -> None:
        found = redis_client().hgetall("kue:{default}:g")
        assert {key.decode(): lease for key, lease in found.items()} == self.ghosts
