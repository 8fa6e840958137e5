"""Kills one worker process with -9 in the middle of its work."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field

from django_kue import Job

from shop.demo.plan import Plan, Planned
from shop.demo.processes import DemoError

ENOUGH = 20  # percent of the clip


@dataclass
class Crash:
    """The kill, and what came after it."""

    plan: Plan
    clip: Planned  # the job that's interrupted
    worker: int  # the process id of the worker's supervisor, which must survive
    killed: int | None = None  # a process id
    starts: int = 0  # of ffmpeg for the clip, up to the kill
    victims: list[Planned] = field(default_factory=list)  # what the killed process was running

    def happens_now(self) -> bool:
        """Kill the process that transcodes the clip, once that's under way. True if this call killed it."""
        process = process_of(self.clip.job)
        if self.killed is not None or process is None or self.clip.job.progress < ENOUGH:
            return False
        if process == self.worker:
            raise DemoError("The clip is transcoded in the supervisor itself: there is no child to kill.")
        self.starts = starts_of_ffmpeg(self.clip.job)
        self.victims = [one for one in self.plan.jobs if is_run_by(self.clip.job.worker, one.job.refresh())]
        os.kill(process, signal.SIGKILL)
        self.killed = process
        return True

    @property
    def is_healed(self) -> bool:
        """Whether another process has taken over the job, or finished it."""
        if self.killed is None:
            return False
        return self.clip.job.is_finished or process_of(self.clip.job) not in {None, self.killed}


def starts_of_ffmpeg(job: Job) -> int:
    """How often the job has started ffmpeg, in all its runs so far."""
    return sum("ffmpeg has process" in line.text for line in job.logs())


def process_of(job: Job) -> int | None:
    """The id of the process that runs the job, as the job itself reports it."""
    data = job.progress_data
    return data.get("process") if job.state == "active" and isinstance(data, dict) else None


def is_run_by(worker: str, job: Job) -> bool:
    """Whether this process of a worker, as jobs name it, is running the job now."""
    return job.state == "active" and job.worker == worker
