"""A terminal that a command takes over for a while: its alternate screen, and keys as they come.

However the command ends, the terminal is left as it was before.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django_kue.cli.screen import Screen

# The alternate screen, without a cursor, long lines cut; and all of that undone.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME, TO_THE_END_OF_LINE, TO_THE_END = "\x1b[H", "\x1b[K", "\x1b[J"
TICK = 0.2  # seconds until a new size is seen


class Terminal:
    """The screen as one picture, and the keyboard as single keys."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        return self._screen.size

    def show(self, lines: list[str]) -> None:
        """Replace the last picture, in one write so that nothing flickers."""
        text = "\r\n".join(f"{line}{TO_THE_END_OF_LINE}" for line in lines)
        self._screen.draw(f"{HOME}{text}{TO_THE_END}")

    def keys(self, seconds: float) -> list[str]:
        """The next keys; none if none is pressed within so many seconds, or if the size changes."""
        until, size = time.monotonic() + seconds, self.size
        while (left := until - time.monotonic()) > 0 and self.size == size:
            if not sys.stdin.isatty():
                time.sleep(min(TICK, left))
            elif select.select([sys.stdin], [], [], min(TICK, left))[0]:
                text = os.read(sys.stdin.fileno(), 64).decode(errors="replace")
                return [text] if text.startswith("\x1b") else list(text)  # an arrow is one key
        return []


@contextmanager
def taken(screen: Screen) -> Iterator[Terminal]:
    """Take over the terminal until the block ends; while Ctrl-Z suspends the command, it's given back."""

    def suspend(number: int, frame: Any) -> None:
        leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # suspended here until somebody types `fg`
        signal.signal(signal.SIGTSTP, suspend)
        enter()

    enter, leave = _switches(screen)
    before = {number: signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGTERM)}
    signal.signal(signal.SIGTSTP, suspend)
    signal.signal(signal.SIGTERM, _ended)
    try:
        enter()
        yield Terminal(screen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        leave()


def _switches(screen: Screen) -> tuple[Callable[[], None], Callable[[], None]]:
    """Functions that take over the terminal, and give it back."""
    has_keys = sys.stdin.isatty()
    keyboard = termios.tcgetattr(sys.stdin) if has_keys else None

    def enter() -> None:
        if has_keys:
            tty.setcbreak(sys.stdin)  # Ctrl-C and Ctrl-Z do what they always do
        screen.draw(ENTER)

    def leave() -> None:
        screen.draw(LEAVE)
        if keyboard is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, keyboard)

    return enter, leave


def _ended(number: int, frame: Any) -> None:
    raise KeyboardInterrupt
