"""Random sequences of everything that can happen to a queue, held against a plain Python model.

After each step all keys of the queue are audited, and the order of the waiting jobs, each job's state
and the reply of the step must be what the model says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from django_kue import ids
from django_kue.codecs import search_hash
from django_kue.errors import IllegalTransition, JobDoesNotExist
from django_kue.handover import submit
from django_kue.queue import Queue
from django_kue.records import NewJob
from django_kue.states import FINISHED, MOVES, State
from django_kue.store import ask, moves
from tests.audit import audit
from tests.conftest import redis_client
from tests.test_engine.hands import (
    CANCELLED,
    NAME,
    RELEASED,
    SUSPECT,
    Hands,
    completed,
    completed_kept,
    crashed,
    failed,
    job_of,
    parked,
    rescue,
    retried,
    texts,
)  # fmt: skip

HOUR = 3_600_000
PRIORITIES = st.sampled_from([-10, 0, 0, 0, 10])
NAMES = st.sampled_from([NAME, NAME, "shop:x", "shop", "", "\0:f{1}"])  # what may stand in a record
OUTCOMES = {
    "completed": completed(),
    "completed with a look": completed_kept(None),
    "completed, not kept": completed_kept(0),
    "retried at once": retried(),
    "retried later": retried(HOUR),
    "failed": failed(),
    "failed, not kept": failed(0),
    "parked": parked(HOUR),
    "released": RELEASED,
    "suspected": SUSPECT,
    "crashed": crashed(),
    "ended itself": CANCELLED,
}
MAX_CRASHES = 3


BASE64 = ascii_uppercase + ascii_lowercase + digits + "-_"


def age(job: Known) -> list[int]:
    """Sorts by when a job's key was made."""
    return [BASE64.index(letter) for letter in job.key]


def later_keys(count: int) -> list[bytes]:
    """Keys of a millisecond of their own: jobs that are given back are put into the order of their
    making, and two calls within one millisecond have none."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == now:
        time.sleep(0.0001)
    return ids.new_keys(count)


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
    is_marked: bool = False


class Life(RuleBasedStateMachine):
    """The life of one queue."""

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
        self.is_paused = False

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

    def finish(self, job: Known, state: State, *, is_kept: bool = True) -> None:
        job.state, job.lease, job.is_marked = state, b"", False
        if self.holders.get(job.unique) == job.key and not self.holds(job):
            del self.holders[job.unique]
        if not is_kept:
            self.forget(job)

    def holds(self, job: Known) -> bool:
        letter = "x" if job.state is State.CANCELLED else job.state[0]
        return letter in job.holds_in

    def holder(self, unique: str, key: str) -> str | None:
        """The other job that holds a unique key."""
        holder = self.holders.get(unique)
        if not unique or not holder or holder == key or not self.holds(self.jobs[holder]):
            return None
        return holder

    def crash(self, job: Known) -> None:
        job.crashes += 1
        if job.crashes >= MAX_CRASHES:
            job.is_suspect = job.has_started = False
            self.finish(job, State.FAILED)
        else:
            job.is_suspect = True
            self.to_front([job])

    def settle(self, job: Known, name: str) -> None:
        """What an outcome does that doesn't put the job at the front."""
        match name:
            case "retried at once":
                job.is_suspect = job.has_started = False
                job.lease = b""
                self.to_back(job)
            case "retried later" | "parked":
                if name == "retried later":
                    job.is_suspect = False
                job.state, job.lease, job.has_started = State.DELAYED, b"", False
            case "failed" | "failed, not kept":
                job.is_suspect = job.has_started = False
                self.finish(job, State.FAILED, is_kept=name == "failed")
            case "ended itself":
                self.finish(job, State.CANCELLED)
            case _:
                self.finish(job, State.COMPLETED, is_kept=name != "completed, not kept")

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
                    continue
                if job.is_suspect and taken:
                    return taken, expired
                taken.append(line.pop(0))
                if job.is_suspect:
                    return taken, expired
        return taken, expired

    def active_of(self, hands: Hands) -> list[Known]:
        return [job for job in self.jobs.values() if job.lease and job.lease.endswith(hands.owner.text)]

    def drop_ghosts(self, hands: Hands, *, but: set[bytes] = frozenset()) -> None:  # type: ignore[assignment]
        for key, lease in list(self.ghosts.items()):
            if lease.endswith(hands.owner.text) and lease not in but:
                del self.ghosts[key]

    # ── making jobs ──

    @rule(
        priority=PRIORITIES,
        is_delayed=st.booleans(),
        unique=st.sampled_from(["", "", "A", "B"]),
        holds_in=st.sampled_from(["wda", "w", "wdacfx"]),
        is_searched=st.booleans(),
        is_expired=st.sampled_from([False, False, True]),
        name=NAMES,
    )
    def enqueue(
        self,
        priority: int,
        is_delayed: bool,
        unique: str,
        holds_in: str,
        is_searched: bool,
        is_expired: bool,
        name: str,
    ) -> None:
        [key] = later_keys(1)
        new = NewJob(
            key=key,
            name=name,
            priority=priority,
            delay=HOUR if is_delayed else None,
            unique=unique and unique * 22,
            unique_mode=holds_in,
            search=(search_hash("order_id", 17),) if is_searched else (),
            expires=1 if is_expired and not is_delayed else None,
        )
        [got] = submit("default", [new])
        first = self.holder(unique, key.decode())
        assert got.decode() == (first or key.decode())
        if first:
            return
        job = Known(key.decode(), State.DELAYED, priority, unique, holds_in, new.expires is not None)
        self.jobs[job.key] = job
        if unique:
            self.holders[unique] = job.key
        if not is_delayed:
            self.to_back(job)
        if job.is_expired:
            time.sleep(0.003)

    @rule(count=st.sampled_from([2, 20, 100, 300]), priority=PRIORITIES, name=NAMES)
    def enqueue_many(self, count: int, priority: int, name: str) -> None:
        keys = later_keys(count)
        submit("default", [NewJob(key=key, name=name, priority=priority) for key in keys])
        for key in texts(keys):
            self.jobs[key] = Known(key, State.WAITING, priority)
            self.to_back(self.jobs[key])

    @rule()
    def time_passes(self) -> None:
        """All delayed jobs become due, in their order."""
        redis, name = redis_client(), "kue:{default}:z"
        order = redis.zrange(name, 0, -1)
        if order:
            redis.zadd(name, {key: rank + 1.0 for rank, key in enumerate(order)})
        self.promote_in_turn(texts(order))

    def promote_in_turn(self, order: list[str]) -> None:
        turn = self.hands[0].turn(0, switches="p")
        assert texts(turn.promoted) == order
        for key in order:
            self.to_back(self.jobs[key])

    # ── workers ──

    @rule(data=st.data(), who=st.integers(0, 2), want=st.integers(0, 40))
    def turn(self, data: Any, who: int, want: int) -> None:
        hands = self.hands[who]
        settled = data.draw(st.integers(0, len(hands.leases)))
        held = list(hands.leases.items())[:settled]
        names = [data.draw(st.sampled_from(sorted(OUTCOMES))) for _ in held]
        self.take_turn(hands, want, held, names)

    def take_turn(self, hands: Hands, want: int, held: list[tuple[str, bytes]], names: list[str]) -> None:
        refused, cancelled = [], []
        by_lease: dict[bytes, list[tuple[str, str]]] = {}
        for (key, lease), name in zip(held, names, strict=True):
            by_lease.setdefault(lease, []).append((key, name))
        for lease, batch in by_lease.items():
            front: list[Known] = []
            released: list[Known] = []
            crashed_: list[Known] = []
            later: list[Known] = []
            marked: list[Known] = []
            for key, name in batch:
                job = self.jobs.get(key)
                if job is None or job.lease != lease:
                    refused.append(key)
                    if self.ghosts.get(key) == lease:
                        del self.ghosts[key]
                elif job.is_marked:
                    cancelled.append(key)
                    marked.append(job)
                elif name == "released":
                    released.append(job)
                elif name in ("suspected", "crashed"):
                    (front if name == "suspected" else crashed_).append(job)
                    later.append(job)
                else:
                    self.settle(job, name)
            self.to_front(released)
            for job in reversed(later):
                if job in front:
                    job.is_suspect = True
                    self.to_front([job])
                else:
                    self.crash(job)
            for job in marked:
                self.finish(job, State.CANCELLED)
        taken, expired = ([], []) if self.is_paused or want == 0 else self.claimed(want)
        turn = hands.turn(want, {key: OUTCOMES[name] for (key, _), name in zip(held, names, strict=True)})
        assert sorted(texts(turn.refused)) == sorted(refused)
        assert sorted(texts(turn.cancelled)) == sorted(cancelled)
        assert texts(turn.expired) == expired
        assert texts(turn.keys) == taken
        for key in taken:
            self.jobs[key].state, self.jobs[key].lease = State.ACTIVE, turn.lease
        if taken:
            self.owners.add(hands.owner.name)

    @precondition(lambda self: any(self.waiting.values()) and not self.is_paused)
    @rule(who=st.integers(0, 2), name=st.sampled_from(["completed", "failed", "failed", "failed, not kept"]))
    def run(self, who: int, name: str) -> None:
        """A worker takes some jobs, and all that it has then ends in one way."""
        hands = self.hands[who]
        self.take_turn(hands, 10, [], [])
        held = list(hands.leases.items())
        self.take_turn(hands, 0, held, [name] * len(held))

    @rule(who=st.integers(0, 2))
    def beat(self, who: int) -> None:
        hands = self.hands[who]
        beat = hands.beat()
        assert beat.is_alive == (hands.owner.name in self.owners)
        marked = {job.key for job in self.active_of(hands) if job.is_marked}
        marked |= {key for key, lease in self.ghosts.items() if lease.endswith(hands.owner.text)}
        assert set(texts(beat.to_stop)) == marked

    @rule(dead=st.sets(st.integers(0, 2), min_size=1))
    def die_and_be_rescued(self, dead: set[int]) -> None:
        """Their hands still hold what was rescued: they'll try to settle it, and be refused."""
        found: list[Known] = []
        for who in dead:
            self.hands[who].let_lease_run_out()
            self.owners.discard(self.hands[who].owner.name)
            found += self.active_of(self.hands[who])
            self.drop_ghosts(self.hands[who])
        turn = rescue()
        assert set(texts(turn)) == {job.key for job in found if not job.is_marked}
        for job in sorted(found, key=age, reverse=True):
            if job.is_marked:
                self.finish(job, State.CANCELLED)
            elif job.has_started:
                self.crash(job)
            else:
                job.is_suspect = True
                self.to_front([job])

    @rule(data=st.data(), who=st.integers(0, 2))
    def be_buried(self, data: Any, who: int) -> None:
        hands = self.hands[who]
        found = self.active_of(hands)
        culprits = [job for job in found if data.draw(st.booleans())][:3]
        by_lease: dict[bytes, list[Known]] = {}
        for job in found:
            by_lease.setdefault(job.lease, []).append(job)
        leases = sorted(by_lease, key=lambda lease: int(lease.split(b"|")[0]), reverse=True)
        for lease in leases:
            order = sorted(by_lease[lease], key=age)
            plain = [job for job in order if not job.is_marked and job not in culprits]
            guilty = [job for job in order if not job.is_marked and job in culprits]
            self.to_front(plain)
            for job in reversed(guilty):
                self.crash(job)
            for job in order:
                if job.is_marked:
                    self.finish(job, State.CANCELLED)
        self.drop_ghosts(hands)
        self.owners.discard(hands.owner.name)
        given_back, settled = hands.bury({job.key: crashed() for job in culprits})
        assert sorted(given_back + settled) == sorted(job.key for job in found)
        assert set(settled) == {job.key for job in culprits}

    @rule(data=st.data(), who=st.integers(0, 2))
    def lose_replies(self, data: Any, who: int) -> None:
        """The worker never saw some of its claims; it tells which it knows."""
        hands = self.hands[who]
        leases = sorted(set(hands.leases.values()))
        known = {lease for lease in leases if data.draw(st.booleans())}
        lost = sorted((job for job in self.active_of(hands) if job.lease not in known), key=age)
        self.to_front([job for job in lost if not job.is_marked])
        for job in lost:
            if job.is_marked:
                self.finish(job, State.CANCELLED)
        self.drop_ghosts(hands, but=known)
        assert set(hands.sync(known)) == {job.key for job in lost}
        hands.leases = {key: lease for key, lease in hands.leases.items() if lease in known}

    @precondition(lambda self: any(hands.leases for hands in self.hands))
    @rule(data=st.data(), kind=st.sampled_from("ply"))
    def report(self, data: Any, kind: str) -> None:
        hands = data.draw(st.sampled_from([hands for hands in self.hands if hands.leases]))
        key = data.draw(st.sampled_from(sorted(hands.leases)))
        job = self.jobs.get(key)
        is_held = job is not None and job.lease == hands.leases[key]
        refused = hands.report(key, kind, b'[50,{"rows":3}]' if kind == "p" else b"a line")
        assert refused == ([] if is_held else [key])
        if job is not None and is_held and kind == "y":
            job.has_started = True

    # ── people ──

    @precondition(lambda self: self.jobs or self.gone)
    @rule(
        data=st.data(),
        verb=st.sampled_from(["requeue", "promote", "cancel", "remove", "set_priority"]),
        priority=PRIORITIES,
    )
    def ask(self, data: Any, verb: str, priority: int) -> None:
        for key in data.draw(
            st.lists(st.sampled_from([*self.jobs, *self.gone[-2:]]), min_size=1, max_size=8)
        ):
            self.ask_one(verb, key, priority)

    @rule(
        verb=st.sampled_from(["cancel", "remove"]),
        seed=st.integers(0, 9),
        share=st.sampled_from([0.3, 0.6, 0.9]),
    )
    def ask_many(self, verb: str, seed: int, share: float) -> None:
        """So many leave the waiting lists that these are compacted, one slice a leave."""
        line = [key for keys in self.waiting.values() for key in keys]
        chosen = Random(seed).sample(line, int(share * len(line)))
        answers = ask(moves.verb(verb, "default", chosen)) if chosen else []
        assert all(answer.is_done for answer in answers)
        for key in chosen:
            self.answer(verb, self.jobs[key], 0)

    def ask_one(self, verb: str, key: str, priority: int) -> None:
        job = self.jobs.get(key)
        try:
            handle = job_of(key)
        except JobDoesNotExist:
            assert job is None
            return
        assert job is not None
        is_legal = verb == "set_priority" or job.state in MOVES[verb].sources
        if verb == "requeue" and self.holder(job.unique, key):
            is_legal = False
        try:
            if verb == "set_priority":
                handle.set_priority(priority)
            else:
                getattr(handle, "retry" if verb == "requeue" else verb)()
        except IllegalTransition:
            assert not is_legal
            return
        assert is_legal
        self.answer(verb, job, priority)

    def answer(self, verb: str, job: Known, priority: int) -> None:
        match verb:
            case "requeue":
                job.is_suspect = job.has_started = job.is_expired = False
                job.crashes = 0
                if job.unique:
                    self.holders[job.unique] = job.key
                self.to_back(job)
            case "promote":
                self.to_back(job)
            case "cancel" if job.state is State.ACTIVE:
                job.is_marked = True
            case "cancel":
                self.leave_waiting(job)
                self.finish(job, State.CANCELLED)
            case "remove":
                if job.state is State.ACTIVE:
                    self.ghosts[job.key] = job.lease
                self.leave_waiting(job)
                self.forget(job)
            case "set_priority":
                self.leave_waiting(job)
                job.priority = priority
                if job.state is State.WAITING:
                    self.to_back(job)

    @rule()
    def pause_or_resume(self) -> None:
        assert (self.queue.resume() if self.is_paused else self.queue.pause()) is True
        self.is_paused = not self.is_paused

    @rule()
    def empty(self) -> None:
        gone = [job for job in self.jobs.values() if job.state in (State.WAITING, State.DELAYED)]
        assert self.queue.empty() == len(gone)
        for job in gone:
            self.leave_waiting(job)
            self.forget(job)

    @precondition(lambda self: any(job.state is State.FAILED for job in self.jobs.values()))
    @rule()
    def retry_failed(self) -> None:
        retried_ = 0
        for key in texts(redis_client().zrange("kue:{default}:f", 0, -1)):
            job = self.jobs[key]
            if not self.holder(job.unique, key):
                self.answer("requeue", job, 0)
                retried_ += 1
        assert self.queue.retry_failed() == retried_

    @rule(state=st.sampled_from(sorted(FINISHED)))
    def clean(self, state: State) -> None:
        gone = [job for job in self.jobs.values() if job.state is state]
        assert self.queue.clean(state) == len(gone)
        for job in gone:
            self.forget(job)

    # ── what must hold ──

    @invariant()
    def keys_are_sound(self) -> None:
        assert audit("default") == []

    @invariant()
    def waiting_jobs_are_in_order(self) -> None:
        expected = [key for priority in sorted(self.waiting, reverse=True) for key in self.waiting[priority]]
        found = [job.key for job in self.queue.jobs("waiting", limit=1000, newest_first=False)]
        assert found == expected[:1000]

    @invariant()
    def states_are_as_known(self) -> None:
        for state in State:
            if state is State.WAITING:
                continue
            known = {job.key for job in self.jobs.values() if job.state is state}
            assert {job.key for job in self.queue.jobs(state, limit=1000)} == known

    @invariant()
    def ghosts_are_as_known(self) -> None:
        found = redis_client().hgetall("kue:{default}:g")
        assert {key.decode(): lease for key, lease in found.items()} == self.ghosts


Life.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    print_blob=True,
)


@pytest.mark.slow
class TestLife(Life.TestCase):
    """A queue keeps its word, whatever is done to it in whatever order."""
