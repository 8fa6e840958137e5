"""Memory that a child shares with its supervisor: what it's running, what it hasn't reported yet, until when
its leases are valid, and when the supervisor last showed that it's alive.

The child writes to it without a system call; the supervisor can read it even when the child is stuck
or dead. Times are ``time.monotonic()``, which all processes of a host share.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from django_kue import ids

_COUNTS = Struct("<QQ")  # jobs done; messages about dead processes that it began to pass to receivers
_COUNT = Struct("<Q")
_QUEUE = Struct("<Qdd")  # leases held; valid until, by the child's claims; the same, by the heartbeats
_HELD = Struct("<Q")
_TIME = Struct("<d")
# free, or 1 + suspicion; must end by (0: no limit); queue; key; started; delay of a retry after the limit
_SLOT = Struct("<BdH22sdd")
_OVER = Struct("<Bd")  # its first two fields

# free or noted; queue; key; sequence and time of its lease; length of its outcome; the outcome
_END = Struct("<BH22sQQB200s")
_LONGEST = 200  # bytes of an outcome
_ENDS = 128  # completed runs that aren't reported yet; if there are more, a crash repeats some of them

FREE, BUSY = 0, 1
NO_DELAY = -1.0

ALONE = 1.0  # seconds for which a process takes no other jobs after a suspect's start
NOTORIOUS = 3  # suspicions from which on a run has its process to itself until it ends


class Busy(NamedTuple):
    """A slot in which a job is running."""

    queue: str
    key: bytes
    suspicion: int  # how often a process or worker that had it died without a known culprit
    started: float
    deadline: float  # 0: none
    delay: float | None  # seconds, from the project's own backoff function, which only the child may call

    @property
    def job_id(self) -> str:
        return ids.joined(self.queue, self.key)


class Untold(NamedTuple):
    """A run that completed, which Redis may not know yet."""

    queue: str
    key: bytes
    sequence: int  # of its lease …
    claimed_ms: int  # … and its time
    outcome: bytes  # as encoded for the store


class Board:
    """One child's board, made by its supervisor before the fork."""

    def __init__(self, queues: Sequence[str], slots: int) -> None:
        self.queues = tuple(queues)
        self._number = {queue: i for i, queue in enumerate(queues)}
        self._watched_at = _COUNTS.size
        self._queues_at = self._watched_at + _TIME.size
        slots_at = self._queues_at + _QUEUE.size * len(queues)
        self._slots_at = range(slots_at, slots_at + _SLOT.size * slots, _SLOT.size)
        self._ends_at = slots_at + _SLOT.size * slots
        self._free_ends = deque(range(_ENDS))
        self._memory = mmap.mmap(-1, self._ends_at + _END.size * _ENDS)

    # ── by the child ──

    def begin(
        self, slot: int, queue: str, key: bytes, started: float, deadline: float, suspicion: int
    ) -> None:
        at = self._slots_at[slot]
        _SLOT.pack_into(
            self._memory, at, FREE, deadline, self._number[queue], key, started, NO_DELAY
        )  # fmt: skip
        self._memory[at] = BUSY + min(suspicion, 100)  # last: a half-written run might look overdue

    def note_delay(self, slot: int, delay: float) -> None:
        """Note what the project's own backoff function returned for the run in this slot."""
        _TIME.pack_into(self._memory, self._slots_at[slot] + _SLOT.size - _TIME.size, delay)

    def blame(self, runs: Iterable[tuple[str, bytes, float, int]]) -> None:
        """Put runs back into free slots, as far as there are any: one of them is what the process dies of.

        From any thread, even while others begin runs; so it uses the last slots, which are taken last.
        """
        slots = reversed(range(len(self._slots_at)))
        free = (slot for slot in slots if self._memory[self._slots_at[slot]] == FREE)
        for slot, (queue, key, started, suspicion) in zip(free, runs, strict=False):
            self.begin(slot, queue, key, started, 0.0, suspicion)

    def end(self, slot: int) -> None:
        # The deadline is cleared too: the next run mustn't look overdue by this one's.
        _OVER.pack_into(self._memory, self._slots_at[slot], FREE, 0.0)

    def note_end(self, queue: str, key: bytes, lease: bytes, outcome: bytes) -> int | None:
        """Note that a run completed: if this process dies before it reports that, the supervisor does.

        Returns the number of the note; ``None`` when there's no room for it. May be called from any thread.
        """
        if len(outcome) > _LONGEST or not self._free_ends:
            return None
        try:
            number = self._free_ends.popleft()
        except IndexError:  # another thread was quicker
            return None
        sequence, claimed_ms, _ = lease.split(b"|", 2)
        at = self._ends_at + _END.size * number
        _END.pack_into(
            self._memory, at,
            FREE, self._number[queue], key, int(sequence), int(claimed_ms), len(outcome), outcome,
        )  # fmt: skip
        self._memory[at] = BUSY  # last: a half-written note doesn't count
        return number

    def forget_end(self, number: int) -> None:
        """Drop a note: the end has been reported."""
        self._memory[self._ends_at + _END.size * number] = FREE
        self._free_ends.append(number)

    def set_done(self, count: int) -> None:
        _COUNT.pack_into(self._memory, 0, count)

    def set_heard(self, count: int) -> None:
        _COUNT.pack_into(self._memory, _COUNT.size, count)

    def set_held(self, queue: str, count: int) -> None:
        _HELD.pack_into(self._memory, self._at(queue), count)

    def set_claimed(self, queue: str, until: float) -> None:
        _TIME.pack_into(self._memory, self._at(queue) + 8, until)

    def valid_until(self, queue: str) -> float:
        """The time until which no other worker can have been given this child's jobs of a queue."""
        claimed: float
        beaten: float
        _, claimed, beaten = _QUEUE.unpack_from(self._memory, self._at(queue))
        return max(claimed, beaten)

    def unwatched(self, now: float) -> float:
        """Seconds since the supervisor last showed that it's alive; 0 if there's no supervisor."""
        since: float = _TIME.unpack_from(self._memory, self._watched_at)[0]
        return now - since if since else 0.0

    # ── by the supervisor ──

    def set_watched(self, now: float) -> None:
        _TIME.pack_into(self._memory, self._watched_at, now)

    def set_beaten(self, queue: str, until: float) -> None:
        _TIME.pack_into(self._memory, self._at(queue) + 16, until)

    def done(self) -> int:
        count: int = _COUNT.unpack_from(self._memory, 0)[0]
        return count

    def heard(self) -> int:
        """How many of the messages about dead processes it has begun to pass to receivers, in order."""
        count: int = _COUNT.unpack_from(self._memory, _COUNT.size)[0]
        return count

    def held(self) -> dict[str, int]:
        """The queues in which the child holds leases, and how many."""
        counts = {queue: _HELD.unpack_from(self._memory, self._at(queue))[0] for queue in self.queues}
        return {queue: count for queue, count in counts.items() if count}

    def busy(self) -> Iterator[Busy]:
        """What is running."""
        for at in self._slots_at:
            state, deadline, number, key, started, delay = _SLOT.unpack_from(self._memory, at)
            if state != FREE:
                noted = None if delay == NO_DELAY else delay
                yield Busy(self.queues[number], key, state - BUSY, started, deadline, noted)

    def untold(self) -> Iterator[Untold]:
        """The runs that have completed, but may not have been reported."""
        for at in range(self._ends_at, self._ends_at + _END.size * _ENDS, _END.size):
            state, number, key, sequence, claimed_ms, length, text = _END.unpack_from(self._memory, at)
            if state != FREE:
                yield Untold(self.queues[number], key, sequence, claimed_ms, text[:length])

    def busy_count(self, first: int, end: int) -> int:
        """How many of the slots from ``first`` to before ``end`` are in use."""
        within = self._slots_at[first:end]
        states = self._memory[within.start : within.stop : within.step]
        return len(states) - states.count(FREE)

    def close(self) -> None:
        self._memory.close()

    def _at(self, queue: str) -> int:
        return self._queues_at + _QUEUE.size * self._number[queue]
