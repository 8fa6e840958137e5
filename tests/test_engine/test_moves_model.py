"""Any sequence of moves by any number of stale and live workers, held against a plain Python model.

After each step all keys of the queue are audited, and the order of the waiting jobs, each job's state, the
counts and the reply of the step must be what the model says.

It takes the same examples each time. ``KUE_TEST_MODEL=2000`` takes so many, and others each time.
"""

from __future__ import annotations

import os
import time
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_kue import ids
from django_kue.codecs import search_hash
from django_kue.errors import IllegalTransition, JobDoesNotExist
from django_kue.handover import submit
from django_kue.records import Alike
from django_kue.states import FINISHED, MOVES, State
from django_kue.store import ask, moves, send
from tests.conftest import redis_client
from tests.test_engine.hands import (
    CANCELLED,
    NAME,
    RELEASED,
    STALLED,
    STOPPED,
    SUSPECT,
    Hands,
    completed,
    completed_kept,
    crashed,
    failed,
    job_of,
    new_jobs,
    parked,
    rescue,
    retried,
    snapshot,
    texts,
)  # fmt: skip
from tests.test_engine.model import CONCURRENCY, HOUR, KEEP, RATE, Known, Model

PRIORITIES = st.sampled_from([-10, 0, 0, 0, 10])
NAMES = st.sampled_from([NAME, NAME, "shop:x", "shop", "", "\0:f{1}"])  # what may stand in a record
SEEDS = st.integers(0, 10_000)
OUTCOMES = {
    "completed": completed(),
    "completed with a look": completed_kept(None),
    "completed, not kept": completed_kept(0),
    "completed, kept long": completed_kept(HOUR),
    "retried at once": retried(),
    "retried later": retried(HOUR),
    "failed": failed(),
    "failed, not kept": failed(0),
    "parked": parked(HOUR),
    "released": RELEASED,
    "stopped": STOPPED,
    "stalled": STALLED,
    "suspected": SUSPECT,
    "crashed": crashed(),
    "ended itself": CANCELLED,
}
SENT_AGAIN = b"the connection whose sends are repeated"
EXAMPLES = os.environ.get("KUE_TEST_MODEL")


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


class Life(Model):
    """The life of one queue."""

    # ── making jobs ──

    @initialize(count=st.sampled_from([0, 3, 30]), is_expired=st.booleans(), is_suspected=st.booleans())
    def begin(self, count: int, is_expired: bool, is_suspected: bool) -> None:
        """Most examples begin with some jobs, so that there's something to do to them. Starts are counted
        from the beginning; a rule may change that."""
        self.limit({"RATE"})
        if is_expired:
            self.enqueue(0, False, "A", "wda", True, True, HOUR, True, NAME)
        self.enqueue_many(count, 0, NAME)
        if is_suspected and count:
            self.take_turn(self.hands[2], count // 3, [], [])
            self.die_and_be_rescued({2})

    @rule(
        priority=PRIORITIES,
        is_delayed=st.booleans(),
        unique=st.sampled_from(["", "", "A", "B"]),
        holds_in=st.sampled_from(["wda", "w", "wdacfx", "t"]),
        is_searched=st.booleans(),
        is_expired=st.sampled_from([False, False, True]),
        keep=st.sampled_from([None, None, HOUR, 0]),
        is_sent_again=st.booleans(),
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
        keep: int | None,
        is_sent_again: bool,
        name: str,
    ) -> None:
        [key] = later_keys(1)
        jobs = new_jobs(
            [key],
            name,
            priority=priority,
            delay=HOUR if is_delayed else None,
            unique=unique and unique * 22,
            unique_mode=holds_in,
            unique_for=HOUR if unique and holds_in == "t" else 0,
            keep=keep,
            search=(search_hash("order_id", 17),) if is_searched else (),
            expires=1 if is_expired and not is_delayed else None,
        )
        first = self.holder(unique, key.decode(), holds_in) if unique else None
        for _ in range(2 if is_sent_again else 1):
            assert self.send(jobs) == (first or key.decode())
        self.made("enqueue")
        if first:
            return
        job = Known(
            key.decode(), State.DELAYED, priority, unique, holds_in, jobs.template.expires is not None
        )
        job.keep = keep
        self.jobs[job.key] = job
        if is_searched:
            self.searched.add(job.key)
        if unique:
            (self.locks if holds_in == "t" else self.holders)[unique] = job.key
        if not is_delayed:
            self.to_back(job)
        if job.is_expired:
            time.sleep(0.003)

    def send(self, jobs: Alike) -> str:
        """As a connection whose reply may get lost: what's sent again has the number of the first time."""
        [key] = jobs.keys
        if key != self.sent:
            self.number += 1
            self.sent = key
        call = moves.enqueue("default", jobs, sender=SENT_AGAIN, number=self.number)
        return send(call)[0][0].decode()

    @rule()
    def an_old_enqueue_comes_again(self) -> None:
        """The last one, whatever became of its job: it changes nothing."""
        if self.sent:
            before = snapshot()
            send(moves.enqueue("default", new_jobs([self.sent]), sender=SENT_AGAIN, number=self.number))
            after = snapshot()
            assert {name: before[name] for name in before} == {name: after.get(name) for name in before}

    @rule(count=st.sampled_from([2, 20, 100, 300]), priority=PRIORITIES, name=NAMES)
    def enqueue_many(self, count: int, priority: int, name: str) -> None:
        keys = later_keys(count)
        submit("default", new_jobs(keys, name, priority=priority))
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
        self.made("promote", count=len(order))

    # ── workers ──

    @rule(
        who=st.integers(0, 2),
        want=st.sampled_from([0, 1, 10, 40]),
        share=st.sampled_from([0, 0.3, 1]),
        seed=SEEDS,
    )
    def turn(self, who: int, want: int, share: float, seed: int) -> None:
        random, hands = Random(seed), self.hands[who]
        held = random.sample(list(hands.leases.items()), int(len(hands.leases) * share))
        self.take_turn(hands, want, held, random.choices(sorted(OUTCOMES), k=len(held)))

    @precondition(lambda self: any(hands.leases for hands in self.hands))
    @rule(seed=SEEDS)
    def tell_again(self, seed: int) -> None:
        """The reply to a turn got lost: the worker tells the same outcomes under the same leases again."""
        random = Random(seed)
        hands = random.choice([hands for hands in self.hands if hands.leases])
        held = list(hands.leases.items())
        names = random.choices(sorted(OUTCOMES), k=len(held))
        self.take_turn(hands, 0, held, names)
        hands.leases |= dict(held)
        self.take_turn(hands, 0, held, names)

    def take_turn(self, hands: Hands, want: int, held: list[tuple[str, bytes]], names: list[str]) -> None:
        refused, cancelled = [], []
        by_lease: dict[bytes, list[tuple[str, str]]] = {}
        for (key, lease), name in zip(held, names, strict=True):
            by_lease.setdefault(lease, []).append((key, name))
        newest_first = sorted(by_lease, key=lambda lease: int(lease.split(b"|")[0]), reverse=True)
        for lease, batch in ((lease, by_lease[lease]) for lease in newest_first):
            front: list[Known] = []
            released: list[Known] = []
            crashed_: list[Known] = []
            later: list[Known] = []
            marked: list[Known] = []
            unstarted: list[Known] = []
            for key, name in batch:
                job = self.jobs.get(key)
                if job is None or job.lease != lease:
                    refused.append(key)
                    if self.ghosts.get(key) == lease:
                        del self.ghosts[key]
                    continue
                if name in ("released", "parked"):
                    unstarted.append(job)
                if job.is_marked:
                    cancelled.append(key)
                    marked.append(job)
                elif name == "released":
                    released.append(job)
                elif name in ("stopped", "stalled", "suspected", "crashed"):
                    job.is_suspect |= name == "suspected"
                    (crashed_ if name == "crashed" else front).append(job)
                    later.append(job)
                else:
                    self.settle(job, name)
            self.to_front(released)
            for job in reversed(later):
                if job in front:
                    self.to_front([job])
                else:
                    self.crash(job)
            for job in marked:
                self.finish(job, State.CANCELLED)
            if "RATE" in self.limits:
                self.uncount(unstarted)
            self.made("cancel", count=len(marked))
            self.made("release", count=len(released))
        room = 0 if self.is_paused else self.room(want)
        taken, expired = self.claimed(room) if room else ([], [])
        turn = hands.turn(want, {key: OUTCOMES[name] for (key, _), name in zip(held, names, strict=True)})
        assert sorted(texts(turn.refused)) == sorted(refused)
        assert sorted(texts(turn.cancelled)) == sorted(cancelled)
        assert texts(turn.expired) == expired
        assert texts(turn.keys) == taken
        for key in taken:
            self.jobs[key].state, self.jobs[key].lease = State.ACTIVE, turn.lease
            self.jobs[key].is_counted = "RATE" in self.limits
        self.made("claim", count=len(taken))
        if "RATE" in self.limits:
            self.starts += len(taken)
        if taken:
            self.owners.add(hands.owner.name)

    @precondition(lambda self: any(self.waiting.values()) and not self.is_paused)
    @rule(who=st.integers(0, 2), name=st.sampled_from(["completed", "failed", *sorted(OUTCOMES)]))
    def run(self, who: int, name: str) -> None:
        """A worker takes some jobs, and all that it has then ends in one way."""
        hands = self.hands[who]
        self.take_turn(hands, 10, [], [])
        held = list(hands.leases.items())
        self.take_turn(hands, 0, held, [name] * len(held))

    @precondition(lambda self: any(self.waiting.values()) and not self.is_paused)
    @rule(who=st.integers(0, 2), want=st.sampled_from([1, 5]))
    def work(self, who: int, want: int) -> None:
        """What a worker does most: its next turn tells that all went well."""
        hands = self.hands[who]
        self.take_turn(hands, want, [], [])
        held = list(hands.leases.items())
        self.take_turn(hands, want, held, ["completed"] * len(held))

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
                self.made("release")

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
        self.uncount(lost)
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
            self.retain()

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

    @precondition(lambda self: any(job.lease for job in self.jobs.values()))
    @rule(verb=st.sampled_from(["cancel", "remove"]), seed=SEEDS)
    def stop_a_running_one(self, verb: str, seed: int) -> None:
        running = sorted(job.key for job in self.jobs.values() if job.lease)
        self.ask_one(verb, Random(seed).choice(running), 0)

    def ask_one(self, verb: str, key: str, priority: int) -> None:
        job = self.jobs.get(key)
        try:
            handle = job_of(key)
        except JobDoesNotExist:
            assert job is None
            return
        assert job is not None
        is_legal = verb == "set_priority" or job.state in MOVES[verb].sources
        if verb == "requeue" and job.unique and self.holder(job.unique, key, job.holds_in):
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
        if verb in MOVES:
            self.made(verb)
        match verb:
            case "requeue":
                job.is_suspect = job.has_started = job.is_expired = False
                job.crashes = 0
                if job.unique and job.holds_in != "t":
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

    @rule(names=st.sets(st.sampled_from(["CONCURRENCY", "RATE", "KEEP"])))
    def limit(self, names: set[str]) -> None:
        values = {"CONCURRENCY": CONCURRENCY, "RATE": f"{RATE}/h"}
        self.limits = {name: value for name, value in values.items() if name in names}
        if "KEEP" in names:
            self.limits |= {f"KEEP_{state.upper()}": most for state, most in KEEP.items()}
            self.retained_since = self.step
        self.change_limits()

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
            if not self.holder(job.unique, key, job.holds_in):
                self.answer("requeue", job, 0)
                retried_ += 1
        assert self.queue.retry_failed() == retried_

    @rule(state=st.sampled_from(sorted(FINISHED)))
    def clean(self, state: State) -> None:
        gone = [job for job in self.jobs.values() if job.state is state]
        assert self.queue.clean(state) == len(gone)
        for job in gone:
            self.forget(job)


SETTINGS = settings(
    max_examples=int(EXAMPLES or 40),
    stateful_step_count=30,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    report_multiple_bugs=False,
)


@pytest.mark.slow
@pytest.mark.timeout(24 * 3600 if EXAMPLES else 300)
def test_a_queue_keeps_its_word_whatever_is_done_to_it_in_whatever_order() -> None:
    Life.moves_made.clear()
    run_state_machine_as_test(Life, settings=SETTINGS)
    assert {move for move, count in Life.moves_made.items() if count} == set(MOVES)
