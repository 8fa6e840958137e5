"""Redis itself: does it answer, keep what it's given and have room, and does its clock agree with ours?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from django_kue.doctor.findings import UNSEEN, Finding, Level
from django_kue.doctor.project import examine_server
from django_kue.errors import StoreError
from django_kue.kinds import MIB
from django_kue.store import ask, reads, server_info, server_setting

CLOCK_TOLERANCE = 2.0  # seconds
FULL, NEARLY_FULL = 0.9, 0.75  # of maxmemory
APPEND_ONLY = "django_kue.I001"


def examine() -> list[Finding]:
    """Findings about the server.

    Raises:
        StoreUnavailable: it can't be reached.
    """
    info = _info()
    return [
        *_answer(info),
        *_what_checks_say(),
        *_writing(info),
        *_memory(info),
        *_clock(),
    ]


def unreachable(error: Exception) -> Finding:
    """The finding when nothing more can be examined."""
    remedy = 'Is it running, can this host reach it, and does KUE["REDIS"] name the right one?'
    if isinstance(error, StoreError) and error.is_forbidden:
        remedy = "Give the Redis user what it has in docs/how-to/redis-users.md."
    return Finding(Level.ERROR, "redis.unreachable", str(error), remedy)


def _info() -> Mapping[str, Any]:
    """What Redis says about itself; empty if this user may not ask, which the checks report."""
    try:
        return server_info()
    except StoreError:
        return {}


def _answer(info: Mapping[str, Any]) -> Iterator[Finding]:
    started = time.perf_counter()
    ask(reads.registry())
    took = (time.perf_counter() - started) * 1000
    name, version = "Redis", info.get("redis_version", "of unknown version")
    if "valkey_version" in info:
        name, version = "Valkey", info["valkey_version"]
    yield Finding(Level.OK, "redis.answers", f"{name} {version} answers in {took:.1f} ms.")


def _what_checks_say() -> Iterator[Finding]:
    """Its version, eviction and persistence, which ``manage.py check --deploy`` looks at too."""
    fsync = server_setting("appendfsync")
    for finding in examine_server():
        if finding.code != APPEND_ONLY:
            yield finding
        elif fsync is None:
            yield Finding(
                Level.INFO,
                UNSEEN,
                "Redis writes an append-only file, but refuses CONFIG GET to this user: how often that file "
                "reaches the disk can't be seen. With appendfsync no, a power cut can lose half a minute of "
                "jobs.",
                "Ask as a user who may: redis-cli CONFIG GET appendfsync",
            )
        elif fsync == "no":
            yield Finding(
                Level.WARNING,
                "redis.fsync",
                "Redis writes an append-only file, but leaves it to the system when the file reaches the "
                "disk (appendfsync no): a power cut can lose half a minute of jobs.",
                "Write `appendfsync everysec` into redis.conf.",
            )
        elif fsync != "always":
            yield finding


def _writing(info: Mapping[str, Any]) -> Iterator[Finding]:
    if info.get("role") == "slave":
        yield Finding(
            Level.ERROR,
            "redis.replica",
            "This Redis is a replica, which refuses everything that changes jobs.",
            'Name the primary in KUE["REDIS"], or use Sentinel, which finds it.',
        )
    for name, what in (
        ("aof_last_write_status", "append-only file"),
        ("rdb_last_bgsave_status", "snapshot"),
    ):
        if info.get(name, "ok") != "ok":
            yield Finding(
                Level.ERROR,
                "redis.disk",
                f"Redis could not write its {what}. It may refuse new jobs until it can.",
                "Look at its log: most often the disk is full, or its folder isn't writable.",
            )


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    if "used_memory" not in info:
        return
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if not limit:
        yield Finding(Level.OK, "redis.memory", f"Redis uses {_size(used)}; it has no maxmemory.")
        return
    share = used / limit
    what = f"Redis uses {_size(used)} of its maxmemory of {_size(limit)} ({share:.0%})."
    if share < NEARLY_FULL:
        yield Finding(Level.OK, "redis.memory", what)
        return
    yield Finding(
        Level.ERROR if share >= FULL else Level.WARNING,
        "redis.memory",
        f"{what} When it's full, enqueue raises EnqueueError.",
        "Raise maxmemory, run more workers if jobs pile up, or keep fewer finished jobs (KEEP_COMPLETED, "
        "KEEP_FAILED, manage.py kue clean).",
    )


def _clock() -> Iterator[Finding]:
    before = time.time()
    theirs = ask(reads.registry()).now_ms / 1000
    after = time.time()
    ahead = (before + after) / 2 - theirs
    if abs(ahead) - (after - before) / 2 <= CLOCK_TOLERANCE:
        yield Finding(Level.OK, "redis.clock", "The clocks of this host and of Redis agree.")
        return
    yield Finding(
        Level.WARNING,
        "redis.clock",
        f"This host's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Redis's. Jobs with "
        "a run_at that was computed here run that much too early or late, and ages of jobs are wrong.",
        "Set the clocks with NTP (timedatectl set-ntp true, or chrony) on both hosts.",
    )


def _size(count: int) -> str:
    return f"{count / MIB:,.1f} MiB"
