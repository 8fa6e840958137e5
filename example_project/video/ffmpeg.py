"""What we know about ffmpeg: how to call it, and how to read its output."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from imageio_ffmpeg import get_ffmpeg_exe


class Report(NamedTuple):
    """One of ffmpeg's progress reports."""

    frame: int
    seconds: float  # of the clip that have been written
    speed: str  # as ffmpeg words it: "1.9x"


def command(source: Path, target: Path, *, realtime: bool = False) -> list[str]:
    """The command line that makes an MP4 for browsers and reports on its standard output."""
    return [
        get_ffmpeg_exe(),
        *("-y", "-nostdin", "-v", "error", "-stats_period", "0.2", "-progress", "pipe:1"),
        *(["-re"] if realtime else []),
        *("-i", str(source)),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "26", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart"),
        str(target),
    ]


def read_lines(pipe: IO[bytes], pause: float = 0.2) -> Iterator[str]:
    """Whole lines, as they come. It never sleeps for longer than ``pause`` seconds, so that a timeout can be
    raised even while ffmpeg has nothing to say."""
    poll, rest = select.poll(), b""
    poll.register(pipe, select.POLLIN)
    while True:
        if not poll.poll(pause * 1000):
            continue
        chunk = os.read(pipe.fileno(), 4096)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode() for line in lines)


def read_progress(lines: Iterable[str]) -> Iterator[Report]:
    """Reports, as they come. ffmpeg writes ``key=value`` lines; ``progress=…`` ends a report."""
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.strip().partition("=")
        values[key] = value.strip()
        if key == "progress":
            yield Report(
                frame=_whole(values.get("frame")),
                seconds=_whole(values.get("out_time_us")) / 1_000_000,
                speed=values.get("speed", ""),
            )


def _whole(text: str | None) -> int:
    """A number, or 0 while ffmpeg says ``N/A``, as it does before the first frame."""
    return max(0, int(text)) if text and text.lstrip("-").isdigit() else 0


def film(target: Path, seconds: int) -> None:
    """Make a clip: ffmpeg's own test card and a tone.

    Raises:
        subprocess.CalledProcessError: ffmpeg failed; its message is on standard error.
    """
    picture = f"testsrc=size=640x360:rate=25:duration={seconds}"
    tone = f"sine=frequency=440:duration={seconds}"
    subprocess.run(
        [
            get_ffmpeg_exe(),
            *("-y", "-nostdin", "-v", "error"),
            *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone),
            *("-c:v", "mpeg4", "-q:v", "4", "-c:a", "aac", "-shortest", str(target)),
        ],
        check=True,
    )
