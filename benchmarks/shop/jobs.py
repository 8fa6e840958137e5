"""The project's jobs, named like those of an app ``shop``; ``benchmarks/work.py`` says what they do."""

from __future__ import annotations

import os
from typing import Any

from django.dispatch import Signal

from benchmarks import work
from django_kue import job, signals

noop = job(name="shop.jobs.noop")(work.noop)
noop_async = job(name="shop.jobs.noop_async")(work.noop_async)
io = job(name="shop.jobs.io")(work.io_async)
cpu = job(name="shop.jobs.cpu")(work.cpu)
stamp = job(name="shop.jobs.stamp")(work.stamp)
late = job(name="shop.jobs.late")(work.late)


def take_notice(**kwargs: Any) -> None:
    """A receiver that does nothing: what remains is the cost of calling it."""


if os.environ.get("BENCH_RECEIVERS"):
    for signal in vars(signals).values():
        if isinstance(signal, Signal):
            signal.connect(take_notice)
