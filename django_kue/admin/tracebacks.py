"""Takes the text of a traceback apart, so that a page can tell the project's own frames from the others.

Whatever the text is, joining the parts' texts gives it back: what isn't understood is shown as it is.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FRAME = re.compile(r'(?P<indent>[ |+]*)File "(?P<file>[^"\n]+)", line \d+(?:, in .*)?')
_FOREIGN = re.compile(
    r"[\\/](?:site|dist)-packages[\\/]"  # installed, wherever the worker keeps it
    r"|[\\/]lib(?:64)?[\\/]python3(?:\.\d+)?t?[\\/]"  # Python's library on Linux and macOS …
    r"|[\\/]Python3\d*[\\/]Lib[\\/]"  # … and on Windows
    r"|^<",  # <frozen importlib._bootstrap>, <string>
    re.IGNORECASE,
)
_HERE = tuple({sysconfig.get_path("stdlib") + "/", sysconfig.get_path("platstdlib") + "/"})
_PACKAGE = str(Path(__file__).parent.parent) + "/"


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive lines of a traceback, with their line ends.

    ``is_frame``: it's where a call was made, with the code of that line. ``is_own``: in the project's code.
    """

    text: str
    is_frame: bool = False
    is_own: bool = False


def parse(text: str) -> list[Part]:
    """The parts of a traceback: its frames, and what's between them.

    Chained exceptions and groups have their frames too. Nothing is ever left out.

    >>> [part.is_own for part in parse('Traceback …\\n  File "/srv/shop/jobs.py", line 1, in f\\nValueError')]
    [False, True, False]
    """
    return list(_parts(text.splitlines(keepends=True)))


def is_own(file: str) -> bool:
    """True when a file is the project's: neither Python's, nor installed, nor of this package."""
    return not (_FOREIGN.search(file) or file.startswith((*_HERE, _PACKAGE)))


def _parts(lines: list[str]) -> Iterator[Part]:
    between: list[str] = []
    at = 0
    while at < len(lines):
        match = _FRAME.match(lines[at])
        if match is None:
            between.append(lines[at])
            at += 1
            continue
        if between:
            yield Part("".join(between))
            between = []
        end = _end_of_frame(lines, at + 1, match["indent"])
        yield Part("".join(lines[at:end]), is_frame=True, is_own=is_own(match["file"]))
        at = end
    if between:
        yield Part("".join(between))


def _end_of_frame(lines: list[str], at: int, indent: str) -> int:
    """A frame goes on as long as its lines are indented further: code, markers below it, repetitions."""
    deeper = f"{indent}  "
    while at < len(lines) and (lines[at].startswith(deeper) or lines[at].startswith(f"{indent}[Previous")):
        at += 1
    return at
