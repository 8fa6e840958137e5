"""Enqueues jobs of all kinds at a steady pace, whatever happens to Redis, and notes what it was told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from django_kue import EnqueueError
from django_kue.conf import settings
from tests.chaos import jobs
from tests.chaos.ledger import ENQUEUED, REFUSED, UNSURE, Pen

Kind = tuple[Any, Callable[[random.Random], tuple[Any, ...]]]

# A share of all jobs, the function, and its arguments after the number.
PLAIN: list[tuple[float, Kind]] = [
    (45, (jobs.work, lambda chosen: (round(chosen.uniform(1, 30), 1),))),
    (25, (jobs.quiet, lambda chosen: (round(chosen.uniform(1, 30), 1),))),
    (6, (jobs.compute, lambda chosen: (round(chosen.uniform(0.1, 3), 1),))),
    (12, (jobs.await_, lambda chosen: (round(chosen.uniform(1, 50), 1),))),
    (5, (jobs.flaky, lambda chosen: (chosen.randint(1, 3),))),
    (2, (jobs.work.using(delay=0.5), lambda _: (2,))),
    (2, (jobs.work.using(delay=3), lambda _: (2,))),
    (2, (jobs.quiet.using(priority="high"), lambda _: (2,))),
]
LONG: Kind = (jobs.long, lambda chosen: (settings.LEASE * chosen.uniform(2.2, 3),))
ENDS = ("segfault", "abort", "exit")
RAISED = ("exit", "interrupt", "recursion", "unspeakable", "exiting", "cycle", "message", "traceback")
NASTY: list[tuple[float, Kind]] = [
    (0.1, (jobs.die, lambda chosen: (chosen.choice(ENDS),))),
    (0.02, (jobs.die, lambda chosen: (chosen.choice(ENDS), True))),
    (0.03, (jobs.spin, lambda _: ())),
    (0.03, (jobs.ignore_everything, lambda _: ())),
    (0.4, (jobs.raise_, lambda chosen: (chosen.choice(RAISED),))),
    (0.2, (jobs.return_, lambda chosen: (chosen.choice(("object", "huge", "nan", "keys", "deep")),))),
    (0.03, (jobs.eat_memory, lambda _: ())),
    (0.03, (jobs.fork, lambda _: ())),
    (0.03, (jobs.leave_thread, lambda _: ())),
    (0.02, (jobs.log_megabytes, lambda _: ())),
]
MOST = 40  # jobs a call


class Producer(threading.Thread):
    """``goal`` jobs acknowledged within so many seconds, if Redis lets it."""

    def __init__(
        self, path: str, *, goal: int, seconds: float, seed: int, mix: list[tuple[float, Kind]]
    ) -> None:
        super().__init__(name="producer", daemon=True)
        self._pen = Pen(path)
        self._goal = goal
        self._seconds = seconds
        self._chosen = random.Random(seed)
        self._kinds = [kind for _, kind in mix]
        self._weights = [weight for weight, _ in mix]
        self.number = 0
        self.acknowledged = 0
        self.errors = 0
        self.is_cut_short = False

    def run(self) -> None:
        begun = time.monotonic()
        while self.acknowledged < self._goal and not self.is_cut_short:
            elapsed = time.monotonic() - begun
            due = min(self._goal, int(self._goal * elapsed / self._seconds) + 1)
            if due <= self.acknowledged:
                time.sleep(0.005)
            else:
                self._enqueue(min(due - self.acknowledged, MOST))

    def _enqueue(self, count: int) -> None:
        """One call; of one kind, since ``enqueue_many`` is a function's."""
        function, arguments = self._chosen.choices(self._kinds, self._weights)[0]
        numbers = range(self.number, self.number + self._chosen.randint(1, count))
        self.number = numbers.stop
        items = [(number, *arguments(self._chosen)) for number in numbers]
        try:
            if count == 1:
                function.enqueue(*items[0])
            else:
                function.enqueue_many(items)
        except EnqueueError as error:
            self.errors += 1
            letter = UNSURE if error.may_be_stored else REFUSED
        else:
            letter = ENQUEUED
            self.acknowledged += len(numbers)
        for number in numbers:
            self._pen.write(letter, number)
