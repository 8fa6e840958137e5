"""A host whose clock jumps: in one worker ``time.time()`` is wrong by up to five minutes, and never for long
by the same."""

from __future__ import annotations

import random
import time

FARTHEST = 300.0  # seconds
EVERY = 3.0


def let_jump(seed: int) -> None:
    """From now on, in this process and in those that it forks."""
    true_time = time.time

    def jumping_time() -> float:
        era = int(time.monotonic() / EVERY)
        return true_time() + random.Random(seed * 1_000_003 + era).uniform(-FARTHEST, FARTHEST)

    time.time = jumping_time
