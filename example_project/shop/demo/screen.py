"""The terminal: lines that stay, and under them bars that are drawn anew. No terminal: only the lines."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from django_kue import Job

from shop.demo.plan import Planned

BAR = 24  # characters
ROWS_OF_RUNNING = 4
GREEN, RED, YELLOW, FAINT, BOLD = "32", "31", "33", "2", "1"


class Screen:
    """Writes to the terminal, or calmly to a pipe or file."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self.out = out
        self.is_live = out.isatty() and os.environ.get("TERM") != "dumb"
        self.has_colour = self.is_live and "NO_COLOR" not in os.environ
        self.started = time.monotonic()
        self.rows = 0  # of bars that stand under the last line

    # ── Lines that stay ───────────────────────────────────────────────────────────────────────────

    def say(self, text: str = "") -> None:
        """A line of its own."""
        self.clear()
        self.out.write(text + "\n")
        self.out.flush()

    def heading(self, text: str) -> None:
        """A line that begins something."""
        self.say()
        self.say(self.paint(text, BOLD))

    def step(self, text: str) -> None:
        """A line with the seconds since the start."""
        self.say(f"{self.paint(f'{time.monotonic() - self.started:6.1f} s', FAINT)}  {text}")

    def tell(self, planned: Planned, before: Job) -> None:
        """What became of a job, if that's worth a line."""
        job = planned.job
        name = f"{job.queue:<9}{job.title}"
        if job.state == "completed":
            runs = f" in run {job.attempts_made}" if job.attempts_made > 1 else ""
            self.step(f"{self.paint('✓', GREEN)} {name}{self.paint(f'  done{runs}', FAINT)}")
        elif job.state == "failed":
            as_planned = "failed on purpose" if planned.fails_on_purpose else "FAILED"
            self.step(f"{self.paint('✗', RED)} {name}{self.paint(f'  {as_planned}: {reason(job)}', FAINT)}")
        elif job.state == "cancelled":
            self.step(f"{self.paint('✗', RED)} {name}  CANCELLED")
        elif job.attempts_made > before.attempts_made:
            told = self.paint(f"  run {job.attempts_made} failed, will be tried again", FAINT)
            self.step(f"{self.paint('↻', YELLOW)} {name}{told}")

    # ── Bars ──────────────────────────────────────────────────────────────────────────────────────

    def draw(self, planned: Iterable[Planned]) -> None:
        """Draw the bars: one a queue, and one for each of a few jobs that run."""
        if not self.is_live:
            return
        jobs = [one.job for one in planned]
        width = shutil.get_terminal_size().columns
        rows = ["", *(self.queue_row(queue, jobs) for queue in dict.fromkeys(job.queue for job in jobs))]
        running = [job for job in jobs if job.state == "active" and job.progress]
        rows += [self.running_row(job) for job in running[:ROWS_OF_RUNNING]]
        self.clear()
        for row in rows:
            self.out.write(cut(row, width) + "\n")
        self.rows = len(rows)
        self.out.flush()

    def clear(self) -> None:
        """Take the bars away."""
        if self.rows:
            self.out.write(f"\033[{self.rows}F\033[J")
            self.rows = 0

    def queue_row(self, queue: str, jobs: list[Job]) -> str:
        own = [job for job in jobs if job.queue == queue]
        done = sum(job.is_finished for job in own)
        share = sum(1 if job.is_finished else job.progress / 100 for job in own) / len(own)
        states = Counter(str(job.state) for job in own)
        words = {"active": "running", "delayed": "for later"}
        told = ", ".join(f"{states[state]} {word}" for state, word in words.items() if states[state])
        return f"  {queue:<10}{self.bar(share)}  {done:>3} of {len(own):<4}{self.paint(told, FAINT)}"

    def running_row(self, job: Job) -> str:
        data = job.progress_data or {}
        told = self.paint(", ".join(f"{key} {value}" for key, value in data.items()), FAINT)
        return f"    {self.paint('▸', FAINT)} {job.title[:28]:<28} {job.progress:3.0f} %  {told}"

    def bar(self, share: float) -> str:
        full = round(share * BAR)
        return self.paint("█" * full, GREEN) + self.paint("░" * (BAR - full), FAINT)

    def paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self.has_colour and text else text


def reason(job: Job) -> str:
    """Why it failed, in one short line."""
    if job.error is None:
        return "no error is stored"
    message = job.error.message.strip().splitlines()
    return f"{job.error.type.rpartition('.')[2]}: {message[0][:90] if message else ''}"


def cut(text: str, width: int) -> str:
    """The text in ``width`` columns at most, colour codes not counted: a wrapped row spoils the redraw."""
    shown, result, inside = 0, "", False
    for character in text:
        inside = inside or character == "\033"
        if not inside:
            shown += 1
            if shown >= width:
                return result + "\033[0m"
        result += character
        inside = inside and character != "m"
    return result
