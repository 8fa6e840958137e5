"""What waits for a thread: claimed runs, and other calls, such as those of signal receivers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django_kue.execution import Run

LEAD = object()  # what a taker gets instead of an item when it should lead from now on


class Buffer:
    """Runs (and other calls) that wait for a thread: a deque whose takers sleep when it's empty. Some takers
    may not exist until there's something for them to do."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._ready = threading.Condition(threading.Lock())
        self._is_closed = False
        self._lacks_leader = False
        self._barred = 0  # how many of the idle takers may not take anything
        self._asleep = 0
        self._to_come = 0  # idle takers that don't exist yet
        self._call_one: Callable[[], bool] = lambda: False
        self.idle = 0
        self.taken_at = 0.0
        self.on_low: Callable[[], None] = lambda: None
        self.on_rest: Callable[[], None] = lambda: None  # a taker calls it before it sleeps
        self.low = 0

    def __len__(self) -> int:
        return len(self._items)

    def expect(self, takers: int, call_one: Callable[[], bool]) -> None:
        """Count this many takers as idle, though they only come when called, one by one. ``call_one`` calls
        one and returns whether it comes; the taker then begins with :meth:`take` and ``is_new``."""
        self.idle += takers
        self._to_come = takers
        self._call_one = call_one

    def put(self, items: Iterable[Any], wake: int) -> None:
        """Add items and wake up to ``wake`` idle takers."""
        self._items.extend(items)
        self.wake(wake)

    def wake(self, count: int) -> None:
        if self.idle and count > 0:
            with self._ready:
                self._wake(count)

    def _wake(self, count: int) -> None:
        """Wake takers that may take something, and call others that aren't there yet."""
        asleep = min(count, max(0, self._asleep - self._barred))
        self._notify(asleep)
        for _ in range(min(count - asleep, self._to_come)):
            if not self._call():
                break

    def _notify(self, count: int) -> None:
        self._asleep -= count
        self._ready.notify(count)

    @property
    def _here(self) -> int:
        """Idle takers that have come: asleep, or about to sleep."""
        return self.idle - self._to_come

    def _call(self) -> bool:
        is_coming = not self._is_closed and self._call_one()
        self._to_come -= is_coming
        return is_coming

    def take(self, *, is_new: bool = False) -> Any:
        """The next item; sleeps until there is one. :data:`LEAD` if this thread should lead instead, ``None``
        when the buffer is closed.

        Args:
            is_new: this taker was expected, so it's already counted as idle.
        """
        while is_new or (item := self.pop()) is None:
            if self._is_closed and not self._items:
                return None
            self.on_rest()
            if self._sleep(is_counted=is_new):
                return LEAD
            is_new = False
        if len(self._items) == self.low:
            self.on_low()
        return item

    def first(self) -> Any:
        """What :meth:`pop` would return, unless another thread is quicker."""
        try:
            return self._items[0]
        except IndexError:
            return None

    def pop(self) -> Any:
        """The next item, ``None`` when there's none."""
        try:
            item = self._items.popleft()
        except IndexError:
            return None
        self.taken_at = time.monotonic()
        return item

    def put_first(self, item: Any) -> None:
        """Give back what was taken, and wake one thread for it."""
        self._items.appendleft(item)
        self.wake(1)

    def _sleep(self, *, is_counted: bool) -> bool:
        """Sleep until there's an item to take; True when this thread should lead instead."""
        with self._ready:
            self.idle += not is_counted
            try:
                while not self._is_closed and not self._lacks_leader:
                    if self._items and self._here > self._barred:
                        return False
                    self._asleep += 1
                    self._ready.wait()
                is_leader, self._lacks_leader = self._lacks_leader, False
                return is_leader
            finally:
                self.idle -= 1

    def bar(self) -> bool:
        """Keep one of the idle takers from taking anything; False when there's none. It must be a thread that
        exists, because it may have to lead."""
        with self._ready:
            if self.idle <= self._barred:
                return False
            if self._here <= self._barred and not self._call():
                return False
            self._barred += 1
            return True

    def unbar(self) -> None:
        """The opposite of :meth:`bar`."""
        with self._ready:
            self._barred -= 1
            if self._items:
                self._wake(1)

    def call_leader(self) -> None:
        """Have the barred taker lead."""
        with self._ready:
            self._barred -= 1
            self._lacks_leader = True
            self._wake(1)

    def drain(self) -> list[Run]:
        """Take back the runs that no thread has taken; other calls stay."""
        items = []
        with suppress(IndexError):
            while True:
                items.append(self._items.popleft())
        self._items.extend(item for item in items if not isinstance(item, Run))
        return [item for item in items if isinstance(item, Run)]

    def waiting(self) -> list[Run]:
        """A snapshot of the waiting runs."""
        while True:
            try:
                return [item for item in self._items if isinstance(item, Run)]
            except RuntimeError:  # it changed while we were looking
                continue

    def close(self) -> None:
        with self._ready:
            self._is_closed = True
            self._notify(self._asleep)
