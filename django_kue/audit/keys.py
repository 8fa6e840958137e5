"""Judges a queue's keys by their names and types, and the small ones by their content, too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import isfinite

from django_kue import keys, measures
from django_kue.audit.faults import Fault, LevelRepair
from django_kue.audit.jobs import text_of
from django_kue.kinds import DAY, HOUR
from django_kue.store.audits import Key, KeyRepair

# The types of the keys in keys.py; "" is any.
TYPES = {
    "d": "hash", "w:": "list", "p": "zset", "st": "hash", "a": "hash", "g": "hash", "cm": "hash",
    "hb": "zset", "z": "zset", "c": "zset", "f": "zset", "x": "zset", "fn:": "zset", "fs": "zset",
    "kc": "zset", "kf": "zset", "kx": "zset", "o": "hash", "pr": "hash", "l:": "list", "r:": "list",
    "sd": "set", "u": "hash", "ul:": "string", "gn:": "string", "s:": "zset", "by:": "string",
    "fw:": "string", "n:": "string", "h": "hash", "k": "zset", "rl": "list", "tt": "hash", "t:": "hash",
    "ms:": "hash", "mf:": "hash", "rs": "hash", "rf": "hash", "sc": "hash", "sz": "zset", "sr:": "list",
    "bad:": "",
}  # fmt: skip

# The keys that expire, and after how many seconds at most: a repair gives that time to one that doesn't.
EXPIRING = {
    "by:": 10, "fw:": HOUR, "n:": 600, "gn:": 600, "ul:": DAY, "rl": HOUR, "t:": 25 * HOUR,
    "ms:": 8 * DAY, "mf:": 8 * DAY,
}  # fmt: skip

PREFIXES = tuple(suffix for suffix in keys.QUEUE_KEYS.values() if suffix.endswith(":"))
PRIORITY = re.compile(rb"-?(0|[1-9]\d{0,2})")
LIST = re.compile(rb"w:(-?(?:0|[1-9]\d{0,2}))(:front)?")


def suffix_of(name: bytes) -> str:
    """The key's suffix or prefix in ``keys.py``; "" for an unknown key."""
    text = text_of(name)
    for prefix in PREFIXES:
        if text.startswith(prefix):
            return prefix
    return text if text in TYPES else ""


def judge_key(key: Key) -> Iterator[Fault]:
    """What's wrong with a key itself, regardless of its content."""
    suffix, name = suffix_of(key.name), text_of(key.name)
    if not suffix:
        yield Fault("key.unknown", name, key.type)
        return
    wanted = TYPES[suffix]
    if suffix == "w:" and not LIST.fullmatch(key.name):
        yield Fault("key.type", name, "not a priority", KeyRepair("type", key.name, key.type.encode()))
    elif wanted and key.type != wanted:
        detail = f"{key.type}, not {wanted}"
        yield Fault("key.type", name, detail, KeyRepair("type", key.name, key.type.encode()))
    elif key.lives_ms == -1 and suffix in EXPIRING:
        seconds = EXPIRING[suffix]
        yield Fault("key.forever", name, "", KeyRepair("forever", key.name, b"%d" % (seconds * 1000)))
    elif not key.is_clean:
        yield Fault("lists.lost", name, "", KeyRepair("lists", key.name))


# ── their content ──


def _is_whole(text: bytes) -> bool:
    return re.fullmatch(rb"-?\d{1,18}", text) is not None


def _is_number(text: bytes) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _is_flag(field: bytes, value: bytes) -> bool:
    if field in (b"trim:completed", b"trim:failed", b"trim:cancelled"):
        return _is_number(value)
    return field in (b"paused", b"ev", b"pulse") and _is_whole(value)


# A schedule's head, its function, and the beginning of its JSON: schedules/record.py
SCHEDULE = re.compile(rb"(?:[a-z][^,|]*,)*v\d+(?:,[a-z][^,|]*)*\|[^|]+\|\{")
OFF = re.compile(rb"(?:[^|]*,)?[pgm][^|]*\|")  # paused, no longer declared, or moving to another queue


FIELDS: dict[str, Callable[[bytes, bytes], bool]] = {
    "h": _is_flag,
    "tt": lambda field, value: _is_whole(value),
    "t:": lambda field, value: _is_whole(value),
    "rs": lambda field, value: _is_whole(value),
    "rf": lambda field, value: _is_whole(value),
    "st": lambda field, value: PRIORITY.fullmatch(field) is not None and _is_whole(value),
    "ms:": lambda field, value: measures.is_row(value),
    "mf:": lambda field, value: measures.is_row(value),
    "sc": lambda field, value: SCHEDULE.match(value) is not None,
}
MEMBERS = ("p", "hb")


def judge_field(name: bytes, field: bytes, value: bytes) -> Iterator[Fault]:
    """What's wrong with a field of one of the hashes in :data:`FIELDS`."""
    if not FIELDS[suffix_of(name)](field, value):
        detail = f"{text_of(field)} = {value[:60]!r}"
        yield Fault("value.wrong", text_of(name), detail, KeyRepair("field", name, field, value))


def judge_member(name: bytes, member: bytes, score: bytes, now_ms: int, lease_ms: int) -> Iterator[Fault]:
    """What's wrong with a priority, or with an owner of leases."""
    if name == b"p":
        if not PRIORITY.fullmatch(member):
            yield Fault("level.wrong", text_of(member), "not a priority", KeyRepair("member", name, member))
        elif float(score) != -int(member):
            yield Fault("level.wrong", text_of(member), f"at {text_of(score)}", LevelRepair(text_of(member)))
    elif float(score) > now_ms + DAY * 1000:
        repair = KeyRepair("owner", name, member, b"%d" % lease_ms)
        yield Fault("owner.forever", text_of(member).strip(), f"until {text_of(score)}", repair)


def is_on(record: bytes) -> bool:
    """Whether a schedule must have a next tick."""
    return SCHEDULE.match(record) is not None and OFF.match(record) is None
