"""What waits for a thread: claimed runs, and calls such as those of signals' receivers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django_kue.execution import Run


class Buffer:
    """Runs (and other calls) that wait for a thread: a deque whose takers sleep when it's empty."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._ready = threading.Condition(threading.Lock())
        self._is_closed = False
        self.idle = 0
        self.taken_at = 0.0
        self.on_low: Callable[[], None] = lambda: None
        self.low = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, items: Iterable[Any], wake: int) -> None:
        """Add items and wake up to ``wake`` idle threads."""
        self._items.extend(items)
        self.wake(wake)

    def wake(self, count: int) -> None:
        if self.idle and count > 0:
            with self._ready:
                self._ready.notify(count)

    def take(self) -> Any:
        """The next item; sleeps until there is one; ``None`` when it's closed."""
        while True:
            try:
                item = self._items.popleft()
            except IndexError:
                if not self._sleep():
                    return None
                continue
            self.taken_at = time.monotonic()
            if len(self._items) == self.low:
                self.on_low()
            return item

    def _sleep(self) -> bool:
        with self._ready:
            self.idle += 1
            try:
                while not self._items:
                    if self._is_closed:
                        return False
                    self._ready.wait()
            finally:
                self.idle -= 1
        return True

    def drain(self) -> list[Run]:
        """Take back the runs that no thread has taken; other calls stay."""
        items = []
        with suppress(IndexError):
            while True:
                items.append(self._items.popleft())
        self._items.extend(item for item in items if not isinstance(item, Run))
        return [item for item in items if isinstance(item, Run)]

    def waiting(self) -> list[Run]:
        """The runs that wait, as a snapshot."""
        while True:
            try:
                return [item for item in self._items if isinstance(item, Run)]
            except RuntimeError:  # changed while we looked
                continue

    def close(self) -> None:
        with self._ready:
            self._is_closed = True
            self._ready.notify_all()
