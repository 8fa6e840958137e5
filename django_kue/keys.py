"""Every key that django-kue writes, one line each.

All keys of a queue share the hash tag ``{queue}``, so that a queue lives on one Cluster shard and
each move is one atomic script. Names that end in ``:`` are prefixes of many keys.
"""

from __future__ import annotations

from functools import cache

QUEUE_KEYS = {
    "jobs": "d",  # hash   key → record
    "waiting": "w:",  # list   one per priority: key or key~seat
    "levels": "p",  # zset   priorities that have a list, highest first
    "stale": "st",  # hash   priority → number of entries in its list that are no job's seat
    "leases": "a",  # hash   key → lease of an active job
    "ghosts": "g",  # hash   key → lease of a job that was removed while active
    "marks": "cm",  # hash   key → lease of an active job that should stop
    "owners": "hb",  # zset   owner of leases → their deadline, Unix ms
    "delayed": "z",  # zset   key → due, Unix ms
    "completed": "c",  # zset   key → finished, Unix ms
    "failed": "f",
    "cancelled": "x",
    "failed_by": "fn:",  # zset   one per function (its stored name): its failed jobs, as in failed
    "failing": "fs",  # zset   name of a function that has failed jobs → how many
    "kept_completed": "kc",  # zset   key → when its own retention ends, Unix ms
    "kept_failed": "kf",
    "kept_cancelled": "kx",
    "outcomes": "o",  # hash   key → outcome of a finished job
    "progress": "pr",  # hash   key → JSON [percent, data]
    "logs": "l:",  # list   one per job that logged something
    "runs": "r:",  # list   one per job whose runs didn't all complete
    "side": "sd",  # set    keys that have logs, runs or search keys to clean up
    "unique": "u",  # hash   hash of a unique key → key of the job that holds it, by its state
    "locks": "ul:",  # string one per unique key that's held for a time → key
    "search": "s:",  # zset   one per search key value: key → created, Unix ms
    "farewells": "by:",  # string outcome of a job that isn't kept, for a moment, for whoever awaits it
    "forward": "fw:",  # string key of a duplicate → key of the first
    "bygone": "gn:",  # string one per removed job that came through an outbox: its id isn't taken again
    "senders": "n:",  # string one per sending connection: the number of its last send
    "flags": "h",  # hash   paused, ev (until when somebody listens), pulse (last rescue), trim cursors
    "wake": "k",  # zset   a marker for a blocked worker
    "rate": "rl",  # list   count:ms:sum of recent starts, for RATE
    "totals": "tt",  # hash   all-time sums: completed, failed, …, parked, work_ms
    "stats": "t:",  # hash   one per hour: counters co<minute>, fa<minute>, ca<minute>
    "events": "ev",  # channel
    "measures": "ms:",  # hash   one per tier and block of time: bucket → row of measurements (measures.py)
    "function_measures": "mf:",  # hash   one per tier and block of time: function → row
    "run_sums": "rs",  # hash   all-time sums of runs: <outcome>:, us:, and wait:<cell>, run:<cell>
    "function_sums": "rf",  # hash   the same for the queue's functions: <outcome>:<name>, us:<name>
    "schedules": "sc",  # hash   name → record of a schedule (schedules/record.py)
    "ticks": "sz",  # zset   name of an active schedule → its next tick, Unix ms
    "ticked": "sr:",  # list   one per schedule: its last ticks and their outcomes, newest first
    "quarantined": "bad:",  # any type: what was under one of our keys and couldn't be read; for people
}

GLOBAL_KEYS = {
    "queues": "queues",  # set    every queue that ever had a job
    "workers": "workers",  # hash   worker → JSON of what people see
    "pulses": "pulses",  # zset   worker → last heartbeat, Unix ms
    "orders": "orders",  # hash   worker → order (stop)
    "scheduled": "scheduled",  # set    every queue that ever had a schedule
    "makers": "mk:",  # string one per name: who is creating a schedule with it, for a few seconds
    "load": "load:",  # hash   one per tier and block of time: busy and all slots, as sampled
}


@cache
def of_queue(prefix: str, queue: str, name: str) -> str:
    """The key called ``name`` of a queue: ``kue:{email}:d``."""
    return f"{prefix}:{{{queue}}}:{QUEUE_KEYS[name]}"


@cache
def of_all(prefix: str, name: str) -> str:
    """A key that belongs to no queue: ``kue:{}:workers`` would break Cluster, so ``{kue}`` is the tag."""
    return f"{{{prefix}}}:{GLOBAL_KEYS[name]}"
