"""The store without Redis: it holds the same texts, in this process's memory.

It answers the calls that jobs, queues and enqueueing make. Records, leases and outcomes are what the scripts
in ``scripts/`` write. What only matters with time or many workers is left out: events, retention by age,
rescue, and the queues' ``CONCURRENCY`` and ``RATE``.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django_kue.conf import settings
from django_kue.execution import Outcome, Run
from django_kue.states import State
from django_kue.store import Call
from django_kue.store.reads import STATES
from django_kue.testing.stored import Stored

EXPIRED = b'{"type":"django_kue.errors.JobExpired","message":"not started in time"}'
_ENDS = {"c": State.COMPLETED, "f": State.FAILED, "x": State.CANCELLED}


class MemoryStore:
    """All queues. Its clock is the system's, and can be put forward."""

    def __init__(self, before_look: Callable[[], None], before_enqueue: Callable[[], None]) -> None:
        self._before_look = before_look
        self._before_enqueue = before_enqueue
        self._queues: dict[str, MemoryQueue] = {}
        self._lock = threading.RLock()
        self.places = itertools.count(1)  # of all queues: what has waited longer has a lower one
        self._ahead_ms = 0
        self.enqueued: list[Stored] = []  # all that ever were, in order

    def now(self) -> int:
        """Unix milliseconds."""
        return int(time.time() * 1000) + self._ahead_ms

    def put_forward(self, ms: int) -> None:
        self._ahead_ms += max(0, ms)

    def queue(self, name: str) -> MemoryQueue:
        return self._queues.setdefault(name, MemoryQueue(name, self))

    def queues(self) -> list[MemoryQueue]:
        return list(self._queues.values())

    def has_seen(self, queue: str, key: bytes) -> bool:
        """Whether a job with this key was ever sent here."""
        return queue in self._queues and self._queues[queue].has_seen(key)

    def clear(self) -> None:
        self._queues.clear()
        self.enqueued.clear()

    # ── in place of the store ──

    def before(self, *calls: Call[Any]) -> None:
        (self._before_enqueue if any(map(_is_of_enqueue, calls)) else self._before_look)()

    def answer(self, call: Call[Any]) -> Any:
        """What the call's script would reply."""
        name = call.script.name
        with self._lock:
            if name == "registry":
                return call.read([[queue.encode() for queue in self._queues], [], [], self.now()])
            if name not in ANSWERED or call.queue is None:
                raise NotImplementedError(
                    f"Kue's test mode can't answer {name!r}: that needs Redis. Use the fixture kue_worker, "
                    "or django_kue.testing.WorkerThread with a Redis for tests."
                )
            script: Callable[..., Any] = getattr(self.queue(call.queue), name)
            return call.read(script(*call.arguments))

    def nothing_comes(self) -> Exception:
        return TimeoutError(
            "nothing runs jobs by itself in Kue's test mode: drain() before you wait, or use the inline mode"
        )


# Scripts that a MemoryQueue has a method for, by the same name.
ANSWERED = frozenset({
    "enqueue", "enqueue_special", "read", "page", "find", "counts", "lists", "facts", "oldest", "keys_of",
    "farewell", "verbs", "pause", "empty", "clean", "listen",
})  # fmt: skip


def _is_of_enqueue(call: Call[Any]) -> bool:
    if call.script.name == "registry":  # a queue is registered there with its first job
        return bool(call.arguments[0])
    return call.script.name in ("enqueue", "enqueue_special")


class MemoryQueue:
    """One queue. Methods take their script's arguments, and return what it replies."""

    def __init__(self, name: str, store: MemoryStore) -> None:
        self.name = name
        self._store = store
        self._jobs: dict[bytes, Stored] = {}
        self._places = store.places
        self._known: set[bytes] = set()  # all keys ever seen: a repeated send changes nothing
        self._locks: dict[str, tuple[bytes, int]] = {}  # unique for a time: hash → key, until ms
        self._forward: dict[bytes, bytes] = {}
        self._farewells: dict[bytes, bytes] = {}
        self._totals: dict[str, int] = {}
        self.paused_since: int | None = None

    def has_seen(self, key: bytes) -> bool:
        return key in self._known or key in self._forward

    # ── what waits ──

    def next(self) -> Stored | None:
        """The job to claim; expired ones are ended. None if nothing waits, or the queue is paused."""
        while self.paused_since is None and (waiting := self._in(State.WAITING)):
            first = waiting[0]
            if not 0 < int(first.token("e") or 0) < self._store.now():
                return first
            self._finish(first, "x", b"|" + EXPIRED, worker=b"")
        return None

    def due(self) -> int | None:
        """When the next delayed job is due, ms."""
        return min((job.score or 0 for job in self._in(State.DELAYED)), default=None)

    def promote_due(self) -> None:
        for job in self._in(State.DELAYED):
            if (job.score or 0) <= self._store.now():
                self._wait(job)

    # ── a run ──

    def claim(self, job: Stored, lease: bytes) -> None:
        job.state, job.lease = State.ACTIVE, lease

    def release(self, job: Stored) -> None:
        """Back to the front: it hasn't run."""
        job.state, job.lease, job.run, job.place = State.WAITING, b"", None, -next(self._places)

    def settle(self, job: Stored, run: Run, outcome: Outcome) -> None:
        """A run has ended."""
        job.lease, job.run = b"", None
        started = b"%d" % run.started_ms()
        worker = run.lease.split(b"|", 2)[2].strip()
        if job.is_gone:
            return
        if run.is_cancelled:
            outcome = Outcome("x")
        if outcome.kind == "r":
            self._remember(job, b"retried", started, outcome, worker)
            job.set(m=int(job.token("m") or 0) + 1, d=self._store.now() + int(outcome.delay * 1000))
            self._put(job, int(outcome.delay * 1000))
            return
        if outcome.kind in "bk":
            self._put(job, int(outcome.delay * 1000))
            return
        if outcome.kind == "f":
            self._remember(job, b"failed", started, outcome, worker)
        if outcome.kind in "fx":
            job.set(m=int(job.token("m") or 0) + 1)
        keep = None if outcome.keep is None else str(int(outcome.keep * 1000))
        self._finish(job, outcome.kind, started + b"|" + outcome.text, worker=worker, keep=keep)

    def _remember(self, job: Stored, word: bytes, started: bytes, outcome: Outcome, worker: bytes) -> None:
        attempt = int(job.token("m") or 0) + 1
        finished, delay = self._store.now(), int(outcome.delay * 1000)
        parts = (b"%d" % attempt, word, started, b"%d" % finished, b"%d" % delay, worker, outcome.text)
        job.runs.append(b"|".join(parts))
        del job.runs[: max(0, len(job.runs) - settings.MAX_RUNS)]

    def _finish(self, job: Stored, kind: str, text: bytes, *, worker: bytes, keep: str | None = None) -> None:
        now = self._store.now()
        job.outcome = b"%b|%d|%b|%b" % (kind.encode(), now, worker, text)
        job.state, job.score = _ENDS[kind], now
        self._totals[job.state] = self._totals.get(job.state, 0) + 1
        keep = keep if keep is not None else job.token("q")
        most: int = getattr(settings.queue_or_default(self.name), f"keep_{job.state}")
        job.has_own_keep = keep != ""
        if keep == "0" or (most == 0 and not job.has_own_keep):
            self._farewells[job.key] = job.outcome
            self._erase(job)
        self._trim(job.state, most)

    def _trim(self, state: State, most: int) -> None:
        """Forget the oldest, beyond what the queue keeps; those with a ``keep`` of their own don't count."""
        kept = [job for job in self._in(state) if not job.has_own_keep]
        for job in kept[: max(0, len(kept) - most)]:
            self._erase(job)

    def _put(self, job: Stored, delay_ms: int) -> None:
        if delay_ms > 0:
            job.state, job.score = State.DELAYED, self._store.now() + delay_ms
        else:
            self._wait(job)

    def _wait(self, job: Stored) -> None:
        job.state, job.score, job.place = State.WAITING, None, next(self._places)

    def _erase(self, job: Stored) -> None:
        job.is_gone = True
        self._jobs.pop(job.key, None)

    def _in(self, state: State) -> list[Stored]:
        """In the order of ``Queue.jobs``, oldest or next first."""
        jobs = [job for job in self._jobs.values() if job.state is state]
        if state is State.WAITING:
            return sorted(jobs, key=lambda job: (-job.priority, job.place))
        return sorted(jobs, key=lambda job: job.score or 0)

    # ── scripts: enqueueing ──

    def enqueue(self, sender: bytes, number: bytes, priority: bytes, *items: bytes) -> None:
        for key, record in zip(items[::2], items[1::2], strict=True):
            self._add(Stored(self.name, key, record))

    def enqueue_special(self, sender: bytes, number: bytes, *items: bytes) -> list[bytes]:
        return [self._add_special(*items[i : i + 8]) for i in range(0, len(items), 8)]

    def _add_special(
        self, key: bytes, record: bytes, priority: bytes, delay: bytes, run_at: bytes, expires: bytes,
        unique_ms: bytes, is_forwarded: bytes,
    ) -> bytes:  # fmt: skip
        job = Stored(
            self.name, key, record, delay=int(delay), run_at=int(run_at) if run_at else None,
            expires=int(expires) if expires else None,
        )  # fmt: skip
        if job.token("b") and key in self._known:  # it came through an outbox before
            return b""
        claim = job.token("u")
        if claim and (holder := self._holder(claim, key)):
            self._forward[key] = holder
            return holder
        if key in self._known:
            return key
        now = self._store.now()
        due = now + job.delay if job.run_at is None else job.run_at
        if job.expires is not None:
            job.set(e=max(due, now) + job.expires)
        if due > now:
            job.set(d=due)
            job.state, job.score = State.DELAYED, due
        if claim.endswith(":t"):
            self._locks[claim[:-2]] = key, now + int(unique_ms)
        self._add(job)
        return key

    def _add(self, job: Stored) -> None:
        if job.key not in self._known:
            self._known.add(job.key)
            self._jobs[job.key] = job
            job.place = next(self._places)
            self._store.enqueued.append(job)

    def _holder(self, claim: str, key: bytes) -> bytes | None:
        """The other job that holds this unique key."""
        name, _, mode = claim.partition(":")
        if mode == "t":
            holder, until = self._locks.get(name, (key, 0))
            return holder if holder != key and until > self._store.now() else None
        for job in self._jobs.values():
            held, _, letters = job.token("u").partition(":")
            letter = "x" if job.state is State.CANCELLED else job.state[0]
            if held == name and job.key != key and letters != "t" and letter in letters:
                return job.key
        return None

    # ── scripts: reading ──

    def read(self, *keys: bytes) -> list[list[Any]]:
        found = [self._jobs.get(key) or self._jobs.get(self._forward.get(key, b"")) for key in keys]
        return [job.row() for job in found if job is not None]

    def page(self, state: bytes, offset: bytes, limit: bytes, newest: bytes) -> list[list[Any]]:
        jobs = self._in(State(state.decode()))
        if newest == b"1":
            jobs.reverse()
        return [job.row() for job in jobs[int(offset) : int(offset) + int(limit)]]

    def find(self, most: bytes, *hashes: bytes) -> list[list[Any]]:
        wanted = {one.decode() for one in hashes}
        found = [job for job in self._jobs.values() if wanted <= set(job.token("k").split("+"))]
        return [job.row() for job in found[-int(most) :]]

    def counts(self) -> list[int]:
        return [len(self._in(state)) for state in STATES]

    def lists(self, key: bytes, most: bytes) -> list[Any]:
        own = self._forward.get(key, key)
        job = self._jobs.get(own)
        return [own, job.logs[-int(most) :], job.runs] if job else [own, [], []]

    def facts(self, hours: bytes) -> list[Any]:
        totals = [part for name, count in self._totals.items() for part in (name.encode(), b"%d" % count)]
        paused = b"" if self.paused_since is None else b"%d" % self.paused_since
        return [paused, totals, [], self._store.now()]

    def oldest(self) -> list[Any]:
        firsts: dict[int, Stored] = {}
        for job in self._in(State.WAITING):
            firsts.setdefault(job.priority, job)
        return [self._store.now(), *(part for job in firsts.values() for part in (job.key, job.record))]

    def keys_of(self, state: bytes, first: bytes, most: bytes) -> list[bytes]:
        jobs = self._in(State(state.decode()))
        return [job.key for job in jobs[int(first) : int(first) + int(most)]]

    def farewell(self, key: bytes) -> bytes:
        return self._farewells.get(key, b"")

    def listen(self, ms: bytes) -> int:
        return 0

    # ── scripts: steering ──

    def verbs(
        self, verb: bytes, argument: bytes, retention: bytes, legal_states: bytes, *keys: bytes
    ) -> list[bytes]:
        legal = legal_states.decode().split(",")
        return [self._verb(verb.decode(), argument.decode(), legal, key) for key in keys]

    def _verb(self, verb: str, argument: str, legal_states: Sequence[str], key: bytes) -> bytes:
        job = self._jobs.get(key)
        if job is None:
            return b""
        before = job.state
        if before not in legal_states:
            return before.encode()
        if verb == "requeue" and (claim := job.token("u")) and self._holder(claim, key):
            return b"held"
        steer: Callable[[Stored, str], None] = getattr(self, f"_{verb}")
        steer(job, argument)
        return f"ok:{before}:{self._store.now()}".encode()

    def _promote(self, job: Stored, argument: str) -> None:
        job.set(d=self._store.now())
        self._wait(job)

    def _cancel(self, job: Stored, argument: str) -> None:
        if job.run is not None:
            job.run.is_cancelled = True
        else:
            self._unlock(job)
            self._finish(job, "x", b"|", worker=b"")

    def _requeue(self, job: Stored, argument: str) -> None:
        job.outcome = job.progress = b""
        job.set(m=None, c=None, z=None, y=None, n=None, e=None, d=self._store.now())
        self._wait(job)

    def _remove(self, job: Stored, argument: str) -> None:
        if job.run is not None:
            job.run.is_cancelled = True
        self._unlock(job)
        self._erase(job)

    def _unlock(self, job: Stored) -> None:
        """Free its unique key: it's taken back before it ran."""
        name, _, mode = job.token("u").partition(":")
        if (
            mode == "t"
            and job.state in (State.WAITING, State.DELAYED)
            and self._locks.get(name, (b"", 0))[0] == job.key
        ):
            del self._locks[name]

    def _set_priority(self, job: Stored, argument: str) -> None:
        job.set(p=None if argument == "0" else argument)
        if job.state is State.WAITING:
            self._wait(job)

    def pause(self, paused: bytes) -> int:
        before, is_wanted = self.paused_since, paused == b"1"
        if is_wanted == (before is not None):
            return 0
        self.paused_since = self._store.now() if is_wanted else None
        return 1

    def empty(self, most: bytes) -> list[int]:
        gone = [*self._in(State.DELAYED), *self._in(State.WAITING)][: int(most)]
        for job in gone:
            self._unlock(job)
            self._erase(job)
        return [len(gone), 0]

    def clean(self, state: bytes, before: bytes, most: bytes) -> int:
        old = [job for job in self._in(State(state.decode())) if (job.score or 0) < int(before)][: int(most)]
        for job in old:
            self._erase(job)
        return len(old)
