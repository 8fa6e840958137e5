"""The ledger: an append-only file, outside Redis, of what the producer was told and what jobs really did.

A line is one ``write()``: a letter, the job's number, and what belongs to it. A process that's killed in the
middle of one may leave half a line: so each begins anew, and ends with a full stop, without which it isn't
there. Times are ``time.monotonic()``,
which all processes share and no jump of a clock changes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

ENQUEUED, UNSURE, REFUSED = "e", "u", "n"  # by the producer: acknowledged, no answer, surely not stored
STARTED, FINISHED, HARMFUL, LEFT = "s", "f", "h", "l"  # by a run
TOLD, BACK = "t", "b"  # by a signal's receiver: its end was accepted; it's back in its queue


class Pen:
    """Writes into the ledger; every process has its own."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, letter: str, number: int, *words: object) -> None:
        line = " ".join([letter, str(number), f"{time.monotonic():.6f}", *map(str, words)])
        os.write(self._descriptor, f"\n{line} .".encode())


@dataclass
class Run:
    """One run of a job, as it told of itself."""

    number: int
    attempt: int
    pid: int
    start: float
    end: float | None = None  # None: it never came to its end
    doom: float | None = None  # until when it may take its process with it


@dataclass
class Ledger:
    """What the file says."""

    enqueued: dict[int, float] = field(default_factory=dict)  # number → when Redis had acknowledged it
    unsure: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    runs: dict[int, list[Run]] = field(default_factory=dict)  # in order of their starts
    back: dict[int, list[float]] = field(default_factory=dict)  # when it was taken from the dead
    told: dict[int, list[str]] = field(default_factory=dict)  # the states that receivers heard of
    left: dict[int, int] = field(default_factory=dict)  # process that a job left behind → the job's process

    @classmethod
    def read(cls, path: Path) -> Ledger:
        ledger = cls()
        running: dict[str, Run] = {}
        for line in path.read_text().splitlines():
            if not line.endswith(" ."):
                continue
            letter, number_text, at_text, *words, _ = line.split(" ")
            number, at = int(number_text), float(at_text)
            if letter == ENQUEUED:
                ledger.enqueued[number] = at
            elif letter == UNSURE:
                ledger.unsure.add(number)
            elif letter == REFUSED:
                ledger.refused.add(number)
            elif letter == TOLD:
                ledger.told.setdefault(number, []).append(words[0])
            elif letter == BACK:
                ledger.back.setdefault(number, []).append(at)
            elif letter == LEFT:
                ledger.left[int(words[0])] = int(words[1])
            elif letter == STARTED:
                token, attempt, pid = words
                running[token] = run = Run(number, int(attempt), int(pid), at)
                ledger.runs.setdefault(number, []).append(run)
            elif letter == HARMFUL:
                running[words[0]].doom = at + float(words[1])
            elif letter == FINISHED:
                running[words[0]].end = at
        for runs in ledger.runs.values():
            runs.sort(key=lambda run: run.start)
        return ledger

    @property
    def all_runs(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]
