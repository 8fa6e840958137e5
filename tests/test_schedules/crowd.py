"""Three schedulers at once, each of which is killed at a step of a tick, again and again.

    python -m tests.test_schedules.crowd SEED UNTIL

fires what's due in the queue "default" up to UNTIL (Unix ms), and prints how often a scheduler was killed at
each step. It's a process of its own, which forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

STEPS = ("read", "made", "fired", "told")
CROWD = 3


def main(seed: int, until: int) -> None:
    import django

    django.setup()
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    living: dict[int, str] = {}
    turn = 0
    while True:
        while len(living) < CROWD:
            step = STEPS[turn % len(STEPS)]
            turn += 1
            # One look may fire all that's due: who is killed at a look is killed at the first.
            living[_forked(step, 1 if step == "read" else chance.randint(1, 30), until)] = step
        pid, status = os.wait()
        step = living.pop(pid)
        if os.WIFSIGNALED(status):
            killed[step] += 1
        elif os.waitstatus_to_exitcode(status) == 0:  # nothing is due any more
            break
        else:
            sys.exit(f"a scheduler ended with {status}")
    for pid in living:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(json.dumps(killed))  # noqa: T201


def _forked(step: str, number: int, until: int) -> int:
    if pid := os.fork():
        return pid
    try:
        _schedule(step, number, until)
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def _schedule(step: str, number: int, until: int) -> None:
    """A scheduler that's killed when it comes to a step for the so-manieth time."""
    from django_kue.schedules import firing
    from django_kue.store import ask, ticking
    from django_kue.worker import scheduling

    count = 0

    def at(reached: str) -> None:
        nonlocal count
        count += reached == step
        if count >= number:
            os.kill(os.getpid(), signal.SIGKILL)

    def asking(call: Any) -> Any:
        if call.script.name == "fire":
            at("made")
        reply = ask(call)
        at({"fire": "fired", "due": "read"}.get(call.script.name, ""))
        return reply

    def tell(telling: Callable[[], None]) -> None:
        telling()
        at("told")

    firing.ask = scheduling.ask = asking  # type: ignore[attr-defined]
    scheduler = scheduling.Scheduler(("default",), tell)
    scheduler._reconcile_at = time.monotonic() + 1000  # nothing is declared here
    while True:
        due = ask(ticking.due("default", 1))
        if not due.schedules or (due.schedules[0].next_ms or 0) > until:
            return
        scheduler.tick()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
