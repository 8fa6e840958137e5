"""The limit: django-kue's own scripts in a bare loop, without jobs, Django or a worker's bookkeeping.

It takes the verbs of a peer's driver. Two processes claim and complete as many jobs per turn as a
worker does, and do nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn

from benchmarks import tally
from benchmarks.peers import kue
from benchmarks.peers.driver import start_django

BATCH = 128  # as many as a worker claims
PROCESSES = 2
BEAT_EVERY = 3.0
QUEUE = "default"
PATIENCE = 5.0


def run() -> NoReturn:
    """One process of the bare loop."""
    from django_kue.execution import DONE, Run
    from django_kue.store import moves, new_doorbell, new_link

    owner = moves.owner(f"bare-{os.getpid()}")
    link, bell = new_link(PATIENCE), new_doorbell([QUEUE])
    outcome = DONE.encode(Run(QUEUE, b"", b"", b"", int(time.time() * 1000), 0.0))
    batches: dict[bytes, list[tuple[bytes, bytes]]] = {}
    sequence, beaten, switches = 0, 0.0, ""
    while True:
        if time.monotonic() - beaten > BEAT_EVERY:
            beaten = time.monotonic()
            link.send(moves.beat(QUEUE, owner))
        sequence += 1
        turn = link.send(
            moves.turn(QUEUE, owner, want=BATCH, sequence=sequence, batches=batches, switches=switches)
        )[0]
        batches = {turn.lease: [(key, outcome) for key in turn.keys]} if turn.keys else {}
        for _ in turn.keys:
            tally.count()
        switches = ""
        if not turn.keys and bell.wait(min(turn.wait / 1000, BEAT_EVERY)):
            switches = "w"  # like a worker, it wakes the next one


def work() -> NoReturn:
    """Like ``runworker``: a process that supervises others, one for each core."""
    start_django()
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            run()
        children.append(child)

    def end(*_: object) -> None:
        for child in children:
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    for child in children:
        os.waitpid(child, 0)
    sys.exit()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work()
    kue.PEER.main()
