"""Every key that django-kue writes, one line each.

All keys of a queue share the hash tag ``{queue}``, so that a queue lives on one Cluster shard and
each move is one atomic script. Names that end in ``:`` are prefixes of many keys.
"""

from __future__ import annotations

from functools import cache

QUEUE_KEYS = {
    "jobs": "d",  # hash   key → record
    "waiting": "w:",  # list   one a priority: key or key~seat
    "levels": "p",  # zset   priorities that have a list, highest first
    "stale": "st",  # hash   priority → entries of its list that are nobody's seat
    "leases": "a",  # hash   key → lease of an active job
    "ghosts": "g",  # hash   key → lease of a job that was removed while active
    "marks": "cm",  # hash   key → lease of an active job that should stop
    "owners": "hb",  # zset   owner of leases → deadline, Unix ms
    "delayed": "z",  # zset   key → due, Unix ms
    "completed": "c",  # zset   key → finished, Unix ms
    "failed": "f",
    "cancelled": "x",
    "failed_by": "fn:",  # zset   one a function (its stored name): its failed jobs, as in failed
    "failing": "fs",  # zset   name of a function that has failed jobs → how many
    "kept_completed": "kc",  # zset   key → when its own keep is over, Unix ms
    "kept_failed": "kf",
    "kept_cancelled": "kx",
    "outcomes": "o",  # hash   key → outcome of a finished job
    "progress": "pr",  # hash   key → JSON [percent, data]
    "logs": "l:",  # list   one a job that logged
    "runs": "r:",  # list   one a job whose runs didn't all complete
    "side": "sd",  # set    keys that have logs, runs or search keys to clean up
    "unique": "u",  # hash   hash of a unique key → key of the job that holds it, by its state
    "locks": "ul:",  # string one a unique key that is held for a time → key
    "search": "s:",  # zset   one a search key's value: key → created, Unix ms
    "farewells": "by:",  # string outcome of a job that isn't kept, for a moment: who waits reads it
    "forward": "fw:",  # string key of a duplicate → key of the first
    "bygone": "gn:",  # string one a job that came by an outbox and was removed: its id isn't taken again
    "senders": "n:",  # string one a sending connection: the number of its last send
    "flags": "h",  # hash   paused, ev (somebody listens until), pulse (last rescue), trim cursors
    "wake": "k",  # zset   a marker for a blocked worker
    "rate": "rl",  # list   count:ms:sum of recent starts, for RATE
    "totals": "tt",  # hash   sums since ever: completed, failed, …, parked, work_ms
    "stats": "t:",  # hash   one an hour: c<minute>, f<minute>
    "events": "ev",  # channel
    "measures": "ms:",  # hash   one a tier and block of time: bucket → row of measurements (measures.py)
    "function_measures": "mf:",  # hash   one a tier and block of time: function → row
    "run_sums": "rs",  # hash   sums of runs since ever: <outcome>:, us:, and wait:<cell>, run:<cell>
    "function_sums": "rf",  # hash   the same of its functions: <outcome>:<name>, us:<name>
    "schedules": "sc",  # hash   name → record of a schedule (schedules/record.py)
    "ticks": "sz",  # zset   name of a schedule that's at work → its next tick, Unix ms
    "ticked": "sr:",  # list   one a schedule: its last ticks and their outcomes, newest first
    "quarantined": "bad:",  # any type: what stood under one of our keys and couldn't be read; for people
}

GLOBAL_KEYS = {
    "queues": "queues",  # set    every queue that ever had a job
    "workers": "workers",  # hash   worker → JSON of what people see
    "pulses": "pulses",  # zset   worker → last heartbeat, Unix ms
    "orders": "orders",  # hash   worker → order (stop)
    "scheduled": "scheduled",  # set    every queue that ever had a schedule
    "makers": "mk:",  # string one a name: who is making a schedule of it, for some seconds
    "load": "load:",  # hash   one a tier and block of time: busy and all slots, as sampled
}


@cache
def of_queue(prefix: str, queue: str, name: str) -> str:
    """The key called ``name`` of a queue: ``kue:{email}:d``."""
    return f"{prefix}:{{{queue}}}:{QUEUE_KEYS[name]}"


@cache
def of_all(prefix: str, name: str) -> str:
    """A key that isn't a queue's: ``kue:{}:workers`` would break Cluster, so ``{kue}`` tags them."""
    return f"{{{prefix}}}:{GLOBAL_KEYS[name]}"
