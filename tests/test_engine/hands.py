"""A worker's hands without its head: it takes jobs and settles them, one store call at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_kue import ids
from django_kue.handover import submit
from django_kue.jobs import Job
from django_kue.records import Alike, NewJob
from django_kue.store import ask, moves
from tests.conftest import redis_client

NAME = "tests.noop"


def put(queue: str = "default", count: int = 1, **options: Any) -> list[str]:
    """Enqueue jobs without a function; their keys."""
    return texts(submit(queue, new_jobs(ids.new_keys(count), **options)))


def new_jobs(keys: list[bytes], name: str = NAME, **options: Any) -> Alike:
    """Jobs with these keys and without arguments."""
    return Alike(NewJob(b"", name, **options), keys, [b""] * len(keys))


def put_one(queue: str = "default", **options: Any) -> str:
    return put(queue, 1, **options)[0]


def job_of(key: str, queue: str = "default") -> Job:
    return Job.get(f"{queue}.{key}")


def next_millisecond() -> None:
    """Wait until Redis's clock, which tells milliseconds, has moved on: what comes now is later."""
    client = redis_client()
    seconds, micros = client.time()
    end = seconds * 1000 + micros // 1000 + 1
    while seconds * 1000 + micros // 1000 < end:
        seconds, micros = client.time()


def error_text(message: str = "it broke", kind: str = "builtins.ValueError") -> bytes:
    return json.dumps({"type": kind, "message": message, "traceback": "Traceback: …"}).encode()


# outcomes, in the store's words (see scripts/lib/settle.lua)
def completed(result: object = None, *, started: int = 1) -> bytes:
    return b"c%d|%s" % (started, b"" if result is None else json.dumps(result).encode())


def completed_kept(keep_ms: int | None, result: object = None) -> bytes:
    keep = b"" if keep_ms is None else b"%d" % keep_ms
    return b"C%s|1|%s" % (keep, b"" if result is None else json.dumps(result).encode())


def retried(delay_ms: int = 0, message: str = "it broke") -> bytes:
    return b"r%d|1|%s" % (delay_ms, error_text(message))


def failed(keep_ms: int | None = None, message: str = "it broke") -> bytes:
    return b"f%s|1|%s" % (b"" if keep_ms is None else b"%d" % keep_ms, error_text(message))


def parked(delay_ms: int = 5000) -> bytes:
    return b"k%d" % delay_ms


def crashed(message: str = "killed by SIGKILL") -> bytes:
    return b"d1|" + error_text(message, "django_kue.errors.JobCrashed")


RELEASED = b"b"
STOPPED = b"lstopped|1|"
STALLED = b"lstalled|1|"
SUSPECT = b"z1|"
CANCELLED = b"x1|"


class Hands:
    """One owner of leases on one queue."""

    def __init__(self, queue: str = "default", name: str = "w1") -> None:
        self.queue = queue
        self.owner = moves.owner(name)
        self.sequence = 0
        self.leases: dict[str, bytes] = {}  # key → lease of what's in these hands

    def turn(
        self,
        want: int = 0,
        outcomes: Mapping[str, bytes] | None = None,
        *,
        switches: str = "",
        work_ms: int = 0,
        leases: Mapping[str, bytes] | None = None,
    ) -> moves.Turn:
        """Settle ``outcomes`` under the leases they were claimed under, and claim up to ``want``."""
        held = {**self.leases, **(leases or {})}
        batches: dict[bytes, list[tuple[bytes, bytes]]] = {}
        for key, outcome in (outcomes or {}).items():
            batches.setdefault(held[key], []).append((key.encode(), outcome))
            self.leases.pop(key, None)
        self.sequence += 1
        call = moves.turn(
            self.queue,
            self.owner,
            want=want,
            sequence=self.sequence,
            batches=batches,
            switches=switches,
            work_ms=work_ms,
        )
        turn = ask(call)
        self.leases |= {key.decode(): turn.lease for key in turn.keys}
        return turn

    def take(self, want: int = 1, switches: str = "") -> list[str]:
        """Claim up to ``want`` jobs; their keys, in order."""
        return texts(self.turn(want, switches=switches).keys)

    def take_one(self) -> str:
        [key] = self.take(1)
        return key

    def settle(self, key: str, outcome: bytes) -> moves.Turn:
        return self.turn(0, {key: outcome})

    def settle_all(self, outcome: bytes) -> moves.Turn:
        return self.turn(0, dict.fromkeys(list(self.leases), outcome))

    def run_all(self, batch: int = 100) -> list[str]:
        """Take and complete until nothing waits; the keys, in the order of their claims."""
        order: list[str] = []
        while True:
            turn = self.turn(batch, dict.fromkeys(list(self.leases), completed()))
            order += texts(turn.keys)
            if not turn.keys and turn.wait != 1:
                return order

    def beat(self) -> moves.Beat:
        return ask(moves.beat(self.queue, self.owner))

    def sync(self, leases: Iterable[bytes] = ()) -> list[str]:
        return texts(ask(moves.sync(self.queue, self.owner, leases)))

    def bury(self, culprits: Mapping[str, bytes] | None = None) -> tuple[list[str], list[str]]:
        """As a supervisor that saw this owner die; the keys given back and those settled."""
        pairs = {key.encode(): outcome for key, outcome in (culprits or {}).items()}
        burial = ask(moves.bury(self.queue, self.owner, pairs))
        self.leases.clear()
        return texts(burial.given_back), texts(burial.settled)

    def report(self, key: str, kind: str, text: bytes = b"", lease: bytes | None = None) -> list[str]:
        one = moves.Report(lease or self.leases[key], key.encode(), kind.encode(), text)
        return texts(ask(moves.report(self.queue, [one])))

    def let_lease_run_out(self, client: Any = None) -> None:
        """As if nothing had been heard of this owner for longer than its lease, while others swept."""
        client = client or redis_client()
        client.zadd(f"kue:{{{self.queue}}}:hb", {self.owner.text: 1})
        client.hsetnx(f"kue:{{{self.queue}}}:h", "pulse", client.time()[0] * 1000)


def texts(keys: Iterable[bytes]) -> list[str]:
    return [key.decode() for key in keys]


def rescue(queue: str = "default") -> list[bytes]:
    """A supervisor's sweep; the keys that were taken back."""
    return ask(moves.rescue(queue)).taken


def wait_until(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """The condition's first true value. Fails after ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError("it didn't become true in time")


def snapshot(queue: str = "default") -> dict[str, Any]:
    """All keys of a queue with their values, to see whether something changed."""
    redis, prefix = redis_client(), f"kue:{{{queue}}}:"
    names = sorted(redis.keys(prefix + "*"))
    kinds = {name: redis.type(name) for name in names}  # none: it expired just now
    return {
        name.decode()[len(prefix) :]: _READERS[kind](redis, name)
        for name, kind in kinds.items()
        if kind != b"none"
    }


_READERS: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"hash": lambda redis, name: redis.hgetall(name),
    b"zset": lambda redis, name: redis.zrange(name, 0, -1, withscores=True),
    b"list": lambda redis, name: redis.lrange(name, 0, -1),
    b"set": lambda redis, name: redis.smembers(name),
    b"string": lambda redis, name: redis.get(name),
}


def is_rung(queue: str = "default") -> bool:
    """Whether a waiting worker would be woken; takes the marker."""
    return bool(redis_client().zpopmin(f"kue:{{{queue}}}:k"))
