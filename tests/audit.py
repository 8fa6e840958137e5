"""What must hold for the keys of a queue after every step, whatever was done to it.

>>> from tests.audit import audit
>>> assert audit("default") == []
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django_kue import keys, records
from django_kue.conf import settings
from django_kue.store import reads, send
from tests.conftest import redis_client

SHELVES = {"c": "completed", "f": "failed", "x": "cancelled"}
PREFIXES = tuple(suffix for suffix in keys.QUEUE_KEYS.values() if suffix.endswith(":"))
EXACT = frozenset(keys.QUEUE_KEYS.values()) - set(PREFIXES)


def audit(queue: str) -> list[str]:
    """Everything that's wrong with the keys of a queue; an empty list when all is well."""
    dump = Dump(queue)
    return [
        *_unknown_keys(dump),
        *_wrong_places(dump),
        *_wrong_lists(dump),
        *_wrong_shelves(dump),
        *_wrong_failing(dump),
        *_wrong_leases(dump),
        *_wrong_side(dump),
        *_wrong_unique(dump),
        *_wrong_counts(dump),
    ]


def snapshot(queue: str) -> dict[str, Any]:
    """All keys of a queue with their values, to see whether something changed."""
    return Dump(queue).values


_READERS: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"hash": lambda pipe, name: pipe.hgetall(name),
    b"zset": lambda pipe, name: pipe.zrange(name, 0, -1, withscores=True),
    b"list": lambda pipe, name: pipe.lrange(name, 0, -1),
    b"set": lambda pipe, name: pipe.smembers(name),
    b"string": lambda pipe, name: pipe.get(name),
}


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {_text(key): item for key, item in value.items()}
        case set():
            return {_text(member) for member in value}
        case [(_, _), *_]:
            return {_text(member): score for member, score in value}
        case list():
            return [_text(entry) for entry in value]
    return value


@dataclass
class Seat:
    """An entry of a waiting list."""

    list: str
    priority: int
    key: str
    seat: str | None


class Dump:
    """All keys of a queue, read once. Keys are their suffixes, as in ``keys.QUEUE_KEYS``."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.redis = redis_client()
        prefix = f"{settings.PREFIX}:{{{queue}}}:"
        names = sorted(self.redis.keys(prefix + "*"))
        suffixes = [_text(name)[len(prefix) :] for name in names]
        self.values = dict(zip(suffixes, self._read(names), strict=True))
        self.jobs = self.hash("d")
        self.heads = {key: _head(record) for key, record in self.jobs.items()}

    def _read(self, names: list[bytes]) -> list[Any]:
        with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.type(name)
            kinds = pipe.execute()
            for kind, name in zip(kinds, names, strict=True):
                _READERS[kind](pipe, name)
            return [_plain(value) for value in pipe.execute()]

    def hash(self, suffix: str) -> dict[str, bytes]:
        return self.values.get(suffix, {})

    def zset(self, suffix: str) -> dict[str, float]:
        return self.values.get(suffix, {})

    def of(self, prefix: str) -> dict[str, Any]:
        """The keys of a prefix, by what follows it."""
        return {name[len(prefix) :]: value for name, value in self.values.items() if name.startswith(prefix)}

    @property
    def entries(self) -> list[Seat]:
        found = []
        for name, entries in self.of("w:").items():
            priority = int(name.removesuffix(":front"))
            for entry in entries:
                key, tilde, seat = entry.partition("~")
                found.append(Seat(name, priority, key, seat if tilde else None))
        return found

    def is_seated(self, entry: Seat) -> bool:
        return entry.key in self.jobs and self.heads[entry.key].get("s") == entry.seat

    @property
    def seated(self) -> list[Seat]:
        return [entry for entry in self.entries if self.is_seated(entry)]


def _head(record: bytes) -> dict[str, str]:
    try:
        return dict(records.decode(record).head)
    except records.UnreadableRecord:
        return {}


def _unknown_keys(dump: Dump) -> list[str]:
    return [
        f"the key {name!r} isn't in keys.py"
        for name in dump.values
        if name not in EXACT and not name.startswith(PREFIXES)
    ]


def _wrong_places(dump: Dump) -> list[str]:
    places: Counter[str] = Counter(entry.key for entry in dump.seated)
    for suffix in ("a", "z", "c", "f", "x"):
        places.update(dump.values.get(suffix, {}).keys())
    found = [f"{key} is in {places[key]} places" for key in dump.jobs if places[key] != 1]
    return found + [f"{key} has a place but no record" for key in places if key not in dump.jobs]


def _wrong_lists(dump: Dump) -> list[str]:
    levels, stale = dump.zset("p"), dump.hash("st")
    found = [f"level {name} has the score {score}" for name, score in levels.items() if score != -int(name)]
    for name in dump.of("w:"):
        priority = name.removesuffix(":front")
        if priority not in levels:
            found.append(f"the list {name} isn't among the levels")
        if name.endswith(":front") and priority not in stale:
            found.append(f"the front list of {priority} isn't noted in stale")
    found += [
        f"{entry.key} waits in the list of another priority, {entry.list}"
        for entry in dump.seated
        if int(dump.heads[entry.key].get("p", 0)) != entry.priority
    ]
    dead = Counter(entry.priority for entry in dump.entries if not dump.is_seated(entry))
    for priority in {*dead, *map(int, stale)}:
        noted = int(stale.get(str(priority), b"0"))
        if noted != dead[priority]:
            found.append(f"level {priority} has {dead[priority]} stale entries, noted are {noted}")
    return found


def _wrong_shelves(dump: Dump) -> list[str]:
    found = []
    finished: set[str] = set()
    for suffix, state in SHELVES.items():
        shelf, kept = dump.zset(suffix), dump.zset("k" + suffix)
        finished |= shelf.keys()
        found += [f"{key} is kept as {state} but isn't {state}" for key in kept if key not in shelf]
        for key in shelf:
            letter = dump.hash("o").get(key, b"").split(b"|")[0].decode()
            if letter != suffix:
                found.append(f"{key} is {state}, its outcome says {letter!r}")
    found += [f"{key} has an outcome but isn't finished" for key in dump.hash("o") if key not in finished]
    found += [f"{key} has progress but no record" for key in dump.hash("pr") if key not in dump.jobs]
    return found


def _wrong_failing(dump: Dump) -> list[str]:
    wanted: dict[str, dict[str, float]] = {}
    for key, at in dump.zset("f").items():
        if record := dump.jobs.get(key):
            name = _text(record.split(b"|", 2)[1]) if record.count(b"|") >= 2 else ""
            wanted.setdefault(name, {})[key] = at
    listed, counted = dump.of("fn:"), dump.zset("fs")
    found = [
        f"of {name!r} {listed.get(name, {})} are listed as failed, {wanted.get(name, {})} are"
        for name in {*wanted, *listed}
        if listed.get(name, {}) != wanted.get(name, {})
    ]
    lengths = {name: float(len(keys)) for name, keys in wanted.items()}
    return found if counted == lengths else [*found, f"{counted} are counted as failing, {lengths} are"]


def _wrong_leases(dump: Dump) -> list[str]:
    leases, ghosts, owners = dump.hash("a"), dump.hash("g"), dump.zset("hb").keys()
    dead = {owner.removeprefix("dead|") for owner in owners if owner.startswith("dead|")}
    found = []
    for key, lease in {**leases, **ghosts}.items():
        if lease.decode().split("|", 2)[2] not in owners | dead:
            found.append(f"{key} is leased to an owner whose death nobody would notice")
    both = [key for key in ghosts if leases.get(key) == ghosts[key]]
    found += [f"{key} is a ghost and active under one lease" for key in both]
    marks = dump.hash("cm").items()
    lost = [key for key, lease in marks if lease not in (leases.get(key), ghosts.get(key))]
    return found + [f"{key} is marked, but no such lease is held" for key in lost]


def _wrong_side(dump: Dump) -> list[str]:
    side = dump.values.get("sd", set())
    found = [f"{key} is in side but has no record" for key in side if key not in dump.jobs]
    for prefix, what in (("l:", "logs"), ("r:", "runs")):
        found += [
            f"{key} has {what}, but nobody would clean them up" for key in dump.of(prefix) if key not in side
        ]
    members = {(value, key) for value, found_keys in dump.of("s:").items() for key in found_keys}
    wanted = {
        (value, key) for key, head in dump.heads.items() for value in head.get("k", "").split("+") if value
    }
    found += [f"{key} can't be found by {value}" for value, key in wanted - members]
    found += [f"{key} is found by {value}, which isn't its" for value, key in members - wanted]
    found += [
        f"{key} has search keys, but nobody would clean them up" for _, key in wanted if key not in side
    ]
    return found


def _wrong_unique(dump: Dump) -> list[str]:
    found = []
    for value, holder in dump.hash("u").items():
        key = holder.decode()
        if dump.heads.get(key, {}).get("u", "").partition(":")[0] != value:
            found.append(f"the unique key {value} is held by {key}, whose it isn't")
    return found


def _wrong_counts(dump: Dump) -> list[str]:
    counts = send(reads.counts(dump.queue))[0]
    real = {
        "waiting": len(dump.seated),
        "delayed": len(dump.zset("z")),
        "active": len(dump.hash("a")),
        **{state: len(dump.zset(suffix)) for suffix, state in SHELVES.items()},
    }
    return [
        f"{counts[state]} {state} jobs are counted, there are {real[state]}"
        for state in real
        if counts[state] != real[state]
    ]
