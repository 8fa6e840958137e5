"""The queues that are compared: each has a driver that takes the same verbs.

``python -m benchmarks.peers.<name> VERB …`` or ``node benchmarks/node/<name>.js VERB …``, from the
repository's root, with ``BENCH_REDIS_PORT`` (a private server on 127.0.0.1, database 0) and
``BENCH_TALLY`` (a folder, see ``benchmarks/tally.py``) in the environment:

``enqueue KIND N [--bulk] [--spread SECONDS]``
    prints ``{"seconds": …, "jobs": N}``: the time of the loop alone, up to the last reply. Exit code 3 if
    the peer has no such call. With ``--spread`` the jobs are delayed: due evenly over this many seconds,
    from 1 s after the call, each with its due time as its argument.
    In the environment: ``BENCH_GAP``, seconds to wait before each job of the kind ``stamp``;
    ``BENCH_LEAD``, seconds from the call to the first due time, if enqueueing takes longer than 1 s.
``work KIND [--slots N]``
    becomes the peer's worker command, on two cores in the best configuration for jobs of this kind.
``left``
    prints how many jobs are waiting or running, by the peer's own account.
``about``
    prints ``{"name", "version", "command", "guarantee", "on_kill", "notes"}``.
"""

from __future__ import annotations

PYTHON = ("kue", "rq", "celery", "dramatiq", "huey", "taskiq")
NODE = {"kue-js": "kue.js", "bullmq": "bullmq.js", "bee-queue": "bee-queue.js"}
NAMES = (*PYTHON, *NODE)
