"""A job that runs another program, ffmpeg, reports its progress, and kills it when the job is stopped."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.core.files.storage import default_storage
from django_kue import current_job, job

from video.ffmpeg import command, read_lines, read_progress
from video.models import Clip


class TranscodingFailed(Exception):
    """ffmpeg gave up; the message is its own."""


# timeout: when it's over, JobTimeout is raised *inside* this function, at its next line of Python. That's why
# read_lines() wakes up five times a second, whether or not ffmpeg has said something. If a function sleeps in
# C for more than 0.8 s after that, its process is killed, and the other jobs there start again.
@job(queue="video", attempts=2, backoff=5, timeout=120, title="Clip {clip_id}")
def transcode(clip_id: int, *, realtime: bool = False) -> dict[str, Any]:
    """Turn a clip into H.264 that every browser plays. Returns ``{"files": {"Clip": URL}}``.

    Args:
        realtime: read the source no faster than it plays, to be gentle on a machine with other work, too.
    """
    run = current_job()
    clip = Clip.objects.get(pk=clip_id)
    name = f"clips/{clip.pk}.mp4"
    target = Path(default_storage.path(name))
    # Written beside the target and moved over it at the end: anyone who opens the target sees a whole file,
    # even if this process is killed in the middle. The random name keeps two runs apart.
    part = target.with_name(f"{target.stem}.{uuid4().hex}.part.mp4")
    with tempfile.TemporaryFile("w+") as complaints:
        try:
            with subprocess.Popen(
                command(Path(clip.source.path), part, realtime=realtime),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
            ) as process:
                follow(process, clip.seconds)
            if process.returncode != 0:
                complaints.seek(0)
                raise TranscodingFailed(complaints.read()[-500:].strip())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    clip.playable = name
    clip.save(update_fields=["playable"])
    run.log("%d kB became %d kB", clip.source.size // 1000, clip.playable.size // 1000)
    return {"files": {"Clip": clip.playable.url}}


def follow(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Report ffmpeg's progress until it ends. ffmpeg never outlives this function."""
    run = current_job()
    run.log("ffmpeg has process %d", process.pid)
    assert process.stdout is not None
    try:
        for report in read_progress(read_lines(process.stdout)):
            data = {"frame": report.frame, "speed": report.speed, "process": os.getpid()}
            run.progress(min(report.seconds, seconds), seconds, data)
            run.raise_if_cancelled()
    except BaseException:  # an error, the timeout, a cancellation: whatever stops us stops ffmpeg
        process.kill()
        raise
