"""Something that goes on at a steady rate while a test does its worst."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType


class Load:
    """Calls ``action(number)`` every ``each`` seconds in a thread, with 0, 1, 2 …; errors end the test.

    >>> with Load(lambda number: noop.enqueue(), each=0.01) as load:  # doctest: +SKIP
    ...     kill_something()
    >>> load.count  # doctest: +SKIP
    """

    def __init__(self, action: Callable[[int], object], *, each: float) -> None:
        self.count = 0
        self.expect_error = False  # from now on an error just ends it
        self._action, self._each = action, each
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._error is not None and error is None:
            raise self._error

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(30)

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            while not self._is_over.is_set():
                self._action(self.count)
                self.count += 1
                self._is_over.wait(max(0.0, begun + self.count * self._each - time.monotonic()))
        except BaseException as error:
            self._error = None if self.expect_error else error
