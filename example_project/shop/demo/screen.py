"""The terminal: lines that stay, and below them bars that are redrawn. Without a terminal: only the lines."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TextIO

from django_kue import Job

from shop.demo.plan import Planned

BAR = 24  # characters
ROWS_OF_RUNNING = 4
GREEN, RED, YELLOW, FAINT, BOLD = "32", "31", "33", "2", "1"


class Screen:
    """Writes to the terminal, or plain lines to a pipe or file."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self.out = out
        self.is_live = out.isatty() and os.environ.get("TERM") != "dumb"
        self.has_colour = self.is_live and "NO_COLOR" not in os.environ
        self.started = time.monotonic()
        self.rows = 0  # of bars below the last line

    # ── Lines that stay ───────────────────────────────────────────────────────────────────────────

    def say(self, text: str = "") -> None:
        """A line of its own."""
        self.clear()
        self.out.write((cut(text, self.width) if self.is_live else text) + "\n")
        self.out.flush()

    def heading(self, text: str) -> None:
        """A line that begins a section."""
        self.say()
        self.say(self.paint(text, BOLD))

    def step(self, text: str) -> None:
        """A line with the seconds since the start."""
        self.say(f"{self.paint(f'{time.monotonic() - self.started:6.1f} s', FAINT)}  {text}")

    def tell(self, changes: Iterable[tuple[Planned, Job]]) -> None:
        """What became of jobs, if that's worth a line; those that simply went well share one.

        Args:
            changes: a job as it is now, and as it was before.
        """
        done = defaultdict(list)
        for planned, before in changes:
            job = planned.job
            if job.state == "completed":
                done[job.name, job.attempts_made].append(job)
            elif job.state == "failed":
                told = "failed on purpose" if planned.fails_on_purpose else "FAILED"
                self.outcome("✗", RED, job, f"{told}: {reason(job)}")
            elif job.state == "cancelled":
                self.outcome("✗", RED, job, "CANCELLED")
            elif job.attempts_made > before.attempts_made:
                self.outcome("↻", YELLOW, job, f"run {job.attempts_made} failed, will be tried again")
        for (_, runs), jobs in done.items():
            others = f"and {len(jobs) - 1} more " if len(jobs) > 1 else ""
            self.outcome("✓", GREEN, jobs[0], f"{others}done{f' in run {runs}' if runs > 1 else ''}")

    def outcome(self, sign: str, colour: str, job: Job, told: str) -> None:
        """A job's line."""
        self.step(f"{self.paint(sign, colour)} {job.queue:<9}{job.title}  {self.paint(told, FAINT)}")

    # ── Bars ──────────────────────────────────────────────────────────────────────────────────────

    def draw(self, planned: Iterable[Planned]) -> None:
        """Draw the bars: one for each queue, and one for each of a few running jobs."""
        if not self.is_live:
            return
        jobs = [one.job for one in planned]
        rows = ["", *(self.queue_row(queue, jobs) for queue in dict.fromkeys(job.queue for job in jobs))]
        running = [job for job in jobs if job.state == "active" and job.progress]
        rows += [self.running_row(job) for job in running[:ROWS_OF_RUNNING]]
        self.clear()
        for row in rows:
            self.out.write(cut(row, self.width) + "\n")
        self.rows = len(rows)
        self.out.flush()

    def clear(self) -> None:
        """Remove the bars."""
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

    @property
    def width(self) -> int:
        return shutil.get_terminal_size().columns

    def paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self.has_colour and text else text


def reason(job: Job) -> str:
    """Why a job failed, in one short line."""
    if job.error is None:
        return "no error is stored"
    message = job.error.message.strip().splitlines()
    return f"{job.error.type.rpartition('.')[2]}: {message[0][:90] if message else ''}"


def cut(text: str, width: int) -> str:
    """The text cut to ``width`` columns, not counting colour codes: a wrapped row would spoil the redraw."""
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
