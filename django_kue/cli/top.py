"""``kue top``: queues, workers and running jobs, live on the whole terminal."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.core.management.base import CommandError

import django_kue
from django_kue.cli import arguments, tables
from django_kue.cli.arguments import Subcommand
from django_kue.cli.screen import Screen
from django_kue.cli.tables import Cell, Column, Dotted, Paint, Painted
from django_kue.cli.terminal import Terminal, taken
from django_kue.cli.text import cut
from django_kue.errors import StoreUnavailable
from django_kue.jobs import Job
from django_kue.overview import Overview, QueueOverview, Watch
from django_kue.states import State
from django_kue.words import NONE, clock, many, one_line, rate, span
from django_kue.workers import WorkerState

MOST_QUEUES = 100
RUNNING = 50  # jobs of a queue that are read
TREND = 16  # looks that a trend covers
BARS = " ▁▂▃▄▅▆▇█"
QUIT = ("q", "Q", "\x1b", "\x04")

QUEUES = (
    Column("QUEUE", least=10),
    Column("WAITING", is_number=True),
    Column("DELAYED", is_number=True, rank=4),
    Column("ACTIVE", is_number=True),
    Column("FAILED", is_number=True),
    Column("OLDEST", is_number=True, rank=2),
    Column("ENDED/S", is_number=True, rank=1),
    Column("TREND", rank=5),
    Column("WORKERS", is_number=True, rank=3),
)
JOBS = (
    Column("RUNNING", least=16),
    Column("QUEUE", least=8, rank=2),
    Column("FOR", is_number=True),
    Column("TRY", is_number=True, rank=4),
    Column("DONE", is_number=True, rank=1),
    Column("WORKER", least=10, rank=3),
)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--interval", type=arguments.whole(1, 60), default=2, metavar="S", help="seconds between looks (2)"
    )
    parser.add_argument("--once", action="store_true", help="look once, print it, and end")


def _top(screen: Screen, options: Namespace) -> int:
    watch, history = Watch(most=MOST_QUEUES, running=RUNNING), History()
    look = _look(watch, history)
    if options.once:
        width, height = screen.size
        for line in _content(look, width, height, screen.paint):
            screen.line(line)
        return 0
    if not screen.is_terminal:
        raise CommandError(
            "kue top needs a terminal, and this isn't one. In a script: manage.py kue stats --json, or "
            "manage.py kue top --once"
        )
    with taken(screen) as terminal:
        _go_on(terminal, screen.paint, watch, history, look, options.interval)
    return 0


def _go_on(
    terminal: Terminal, paint: Paint, watch: Watch, history: History, look: Look, interval: float
) -> None:
    """Go on until somebody quits. While it's held, or Redis is away, the last look stays on screen."""
    is_held, note = False, ""
    next_look = time.monotonic() + interval
    while True:
        terminal.show(picture(look, *terminal.size, paint, "held" if is_held else note))
        keys = terminal.keys(max(0.0, next_look - time.monotonic()))
        if not set(keys).isdisjoint(QUIT):
            return
        is_held ^= keys.count(" ") % 2 == 1
        if time.monotonic() >= next_look or "\n" in keys:
            next_look = time.monotonic() + interval
            if not is_held:
                try:
                    look, note = _look(watch, history), ""
                except StoreUnavailable as error:
                    note = one_line(error)


# ── looking ──


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment."""

    at: datetime
    seen: Overview
    running: Sequence[Job]
    busy_share: float | None
    trends: dict[str, Sequence[float]]  # of each queue: jobs that ended per second, the newest last


@dataclass(slots=True)
class History:
    """How many jobs ended between the looks, from counters that Redis keeps."""

    _ended: dict[str, tuple[float, int]] = field(default_factory=dict)
    _trends: dict[str, deque[float]] = field(default_factory=dict)

    def add(self, queue: QueueOverview, now: float) -> Sequence[float]:
        """The queue's trend, including this look. The first look counts with an estimate."""
        ended = sum(queue.totals.get(state, 0) for state in (State.COMPLETED, State.FAILED))
        before = self._ended.get(queue.name)
        self._ended[queue.name] = now, ended
        if before is None:
            rate = queue.per_minute / 60
        else:
            rate = max(0, ended - before[1]) / max(now - before[0], 0.001)
        trend = self._trends.setdefault(queue.name, deque(maxlen=TREND))
        trend.append(rate)
        return tuple(trend)


def _look(watch: Watch, history: History) -> Look:
    sight, now = watch.look(), time.monotonic()
    trends = {one.name: history.add(one, now) for one in sight.overview.queues}
    return Look(datetime.now(UTC), sight.overview, sight.running, sight.busy_share, trends)


# ── drawing ──


def picture(look: Look, width: int, height: int, paint: Paint, note: str = "") -> list[str]:
    """A look as lines: no more of them, and none wider, than fit the terminal."""
    foot = ["", _foot(look, width, paint, note)]
    content = _content(look, width, height - len(foot), paint)
    return [*content, *[""] * (height - len(content) - len(foot)), *foot][:height]


def _content(look: Look, width: int, height: int, paint: Paint) -> list[str]:
    head = [*_head(look, width, paint), ""]
    queues = _table(QUEUES, [_queue_row(one, look) for one in _by_need(look)], width, paint)
    jobs = _table(JOBS, [_job_row(job, look.at) for job in look.running], width, paint)
    if not look.running:
        jobs = [paint(cut("Nothing is running.", width), "SQL_FIELD")]
    of_queues, of_jobs = _shared(len(queues), 1 + len(jobs), max(2, height - len(head)))
    return [*head, *queues[:of_queues], *["", *jobs][:of_jobs]]


def _shared(first: int, second: int, room: int) -> tuple[int, int]:
    """How many lines each of two tables gets: if there are too few, the first has two thirds of them."""
    first = min(first, max(room - second, room * 2 // 3))
    return first, min(second, room - first)


def _by_need(look: Look) -> list[QueueOverview]:
    """By name, but those with something to do come first, since not all may fit."""
    return sorted(look.seen.queues, key=lambda one: not (one.counts["waiting"] or one.counts["active"]))


def _head(look: Look, width: int, paint: Paint) -> list[str]:
    workers = [worker for worker in look.seen.workers if worker.state is not WorkerState.LOST]
    lost = len(look.seen.workers) - len(workers)
    running = sum(worker.busy for worker in workers)
    memory = sum(worker.memory or 0 for worker in workers) / 2**20
    ended = sum(trend[-1] for trend in look.trends.values())
    title, at = f"kue top · django-kue {django_kue.__version__}", clock(look.at, "%H:%M:%S")
    gap = " " * max(1, width - len(title) - len(at))
    first = paint(cut(f"{title}{gap}{at}", width), "MIGRATE_HEADING")
    if not workers:
        state = paint(cut("No worker is running. Start one: manage.py runworker", width), "ERROR")
        return [first, state]
    processes = sum(len(worker.processes) for worker in workers)
    parts = [
        f"{many(len(workers), 'worker')}, {many(processes, 'process', 'processes')}",
        f"busy {_bar(look.busy_share or 0.0)}",
        f"{running:,} running",
        f"{rate(ended)} jobs ended/s",
        f"{memory:,.0f} MB",
    ]
    if lost:
        parts.insert(1, f"{lost} lost")
    return [first, paint(cut("   ".join(parts), width), "WARNING" if lost else "")]


def _foot(look: Look, width: int, paint: Paint, note: str) -> str:
    if note and note != "held":
        return paint(cut(f"As of {clock(look.at, '%H:%M:%S')}. {note}", width), "ERROR")
    keys = "q quits   space goes on" if note else "q quits   space holds   enter looks now"
    omitted = f"   {look.seen.others:,} more queues" if look.seen.others else ""
    return paint(cut(f"{keys}{omitted}", width), "WARNING" if note else "SQL_FIELD")


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, paint: Paint) -> list[str]:
    """A table without the note about columns that were left out, which would be there all the time."""
    return tables.render(columns, rows, width, paint)[: 1 + len(rows)]


def _queue_row(queue: QueueOverview, look: Look) -> list[Cell]:
    is_paused = queue.paused_since is not None
    is_needed = queue.counts["waiting"] and not queue.workers
    trend = look.trends[queue.name]
    return [
        Painted(f"{queue.name} (paused)" if is_paused else queue.name, "WARNING" if is_paused else ""),
        Painted(queue.counts["waiting"], "MIGRATE_HEADING" if queue.counts["waiting"] else ""),
        queue.counts["delayed"],
        Painted(queue.counts["active"], "SUCCESS" if queue.counts["active"] else ""),
        Painted(queue.counts["failed"], "ERROR" if queue.counts["failed"] else ""),
        span(queue.oldest_waiting),
        rate(trend[-1]),
        Painted(_spark(trend), "SUCCESS"),
        Painted(len(queue.workers), "ERROR" if is_needed else ""),
    ]


def _job_row(job: Job, now: datetime) -> list[Cell]:
    began = job.started_at or job.created_at
    return [
        Dotted(job.name, "MIGRATE_LABEL") if job.title == job.name else Painted(job.title, "MIGRATE_LABEL"),
        job.queue,
        span(max(0.0, (now - began).total_seconds())),
        f"{job.attempts_made + 1}/{job.attempts}",
        f"{job.progress:.0f} %" if job.progress else NONE,
        job.worker or NONE,
    ]


def _spark(trend: Sequence[float]) -> str:
    """A trend as bars, scaled to the queue's own maximum."""
    most = max(trend, default=0.0)
    bars = "".join(BARS[_eighths(rate, most)] for rate in trend)
    return bars.rjust(TREND)


def _eighths(part: float, whole: float) -> int:
    """A bar's height, 0 to 8; 0 for nothing only, so that whatever is there can be seen."""
    if not part or not whole:
        return 0
    return max(1, round(8 * min(part, whole) / whole))


def _bar(share: float, length: int = 12) -> str:
    filled = round(length * share)
    return f"▕{'█' * filled}{'░' * (length - filled)}▏ {100 * share:.0f} %"


SUBCOMMANDS = (Subcommand("top", "Queues, workers and running jobs, live on the terminal", _arguments, _top),)
