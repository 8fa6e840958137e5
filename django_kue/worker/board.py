"""Memory that a child shares with its supervisor: what it runs, and until when its leases hold.

The child writes what it does without a system call; the supervisor can read it even when the child
is stuck, or dead. Times are ``time.monotonic()``, which all processes of a host share.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

_COUNT = Struct("<Q")  # jobs done
_QUEUE = Struct("<Qdd")  # leases held, valid until: by the child's claims, by the supervisor's beats
_HELD = Struct("<Q")
_TIME = Struct("<d")
# free, or 1 + suspicion; queue; key; started; must be over by (0: no limit); delay of a retry after that
_SLOT = Struct("<BH22sddd")

FREE, BUSY = 0, 1
NO_DELAY = -1.0

ALONE = 1.0  # seconds that a process takes nothing more after a suspect's start
NOTORIOUS = 3  # suspicions with which a run is alone to its end


class Busy(NamedTuple):
    """A slot in which a job is running."""

    queue: str
    key: bytes
    suspicion: int  # how often it was among those that ran when their process died
    started: float
    deadline: float  # 0: none
    delay: float | None  # seconds, by the project's own backoff function: only the child may call it


class Board:
    """One child's board, made by its supervisor before the fork."""

    def __init__(self, queues: Sequence[str], slots: int) -> None:
        self._queues = list(queues)
        self._number = {queue: i for i, queue in enumerate(queues)}
        self._queues_at = _COUNT.size
        self._slots_at = self._queues_at + _QUEUE.size * len(queues)
        self._slots = slots
        self._memory = mmap.mmap(-1, self._slots_at + _SLOT.size * slots)

    # ── by the child ──

    def begin(
        self, slot: int, queue: str, key: bytes, started: float, deadline: float, suspicion: int
    ) -> None:
        _SLOT.pack_into(
            self._memory, self._slots_at + _SLOT.size * slot,
            BUSY + min(suspicion, 100), self._number[queue], key, started, deadline, NO_DELAY,
        )  # fmt: skip

    def note_delay(self, slot: int, delay: float) -> None:
        """What the project's own backoff function says of the run in this slot."""
        _TIME.pack_into(self._memory, self._slots_at + _SLOT.size * (slot + 1) - _TIME.size, delay)

    def blame(self, runs: Iterable[tuple[str, bytes, float, int]]) -> None:
        """Put runs into free slots again, as far as there are some: the process dies of one of them."""
        free = (slot for slot in range(self._slots) if self._state(slot) == FREE)
        for slot, (queue, key, started, suspicion) in zip(free, runs, strict=False):
            self.begin(slot, queue, key, started, 0.0, suspicion)

    def _state(self, slot: int) -> int:
        return self._memory[self._slots_at + _SLOT.size * slot]

    def end(self, slot: int) -> None:
        self._memory[self._slots_at + _SLOT.size * slot] = FREE

    def set_done(self, count: int) -> None:
        _COUNT.pack_into(self._memory, 0, count)

    def set_held(self, queue: str, count: int) -> None:
        _HELD.pack_into(self._memory, self._at(queue), count)

    def set_claimed(self, queue: str, until: float) -> None:
        _TIME.pack_into(self._memory, self._at(queue) + 8, until)

    def valid_until(self, queue: str) -> float:
        """Until when no other worker may have got this child's jobs of a queue."""
        claimed: float
        beaten: float
        _, claimed, beaten = _QUEUE.unpack_from(self._memory, self._at(queue))
        return max(claimed, beaten)

    # ── by the supervisor ──

    def set_beaten(self, queue: str, until: float) -> None:
        _TIME.pack_into(self._memory, self._at(queue) + 16, until)

    def done(self) -> int:
        count: int = _COUNT.unpack_from(self._memory, 0)[0]
        return count

    def held(self) -> dict[str, int]:
        """Queues of which the child holds leases, and how many."""
        counts = {queue: _HELD.unpack_from(self._memory, self._at(queue))[0] for queue in self._queues}
        return {queue: count for queue, count in counts.items() if count}

    def busy(self) -> Iterator[Busy]:
        """What is running."""
        for slot in range(self._slots):
            state, number, key, started, deadline, delay = _SLOT.unpack_from(
                self._memory, self._slots_at + _SLOT.size * slot
            )
            if state != FREE:
                noted = None if delay == NO_DELAY else delay
                yield Busy(self._queues[number], key, state - BUSY, started, deadline, noted)

    def busy_count(self, first: int, end: int) -> int:
        """How many of the slots from ``first`` to before ``end`` are in use."""
        at, size = self._slots_at, _SLOT.size
        states = self._memory[at + size * first : at + size * end : size]
        return len(states) - states.count(FREE)

    def close(self) -> None:
        self._memory.close()

    def _at(self, queue: str) -> int:
        return self._queues_at + _QUEUE.size * self._number[queue]
