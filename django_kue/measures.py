"""How runs are measured: buckets of time, histograms, quantiles, and the rows that hold them.

A **row** holds what happened on a queue, or to a function, within one bucket of time::

    completed failed retried other   four whole numbers of 32 bits
    work                             seconds of running, a float of 64 bits
    depth                            the most waiting jobs that were seen; -1 if nobody looked
    waits, runs                      two histograms: first cell, number of cells, 32 bits per cell

``scripts/lib/measures.lua`` reads and adds up the same layout, little-endian.

**Histograms** have cells whose limits are a factor of √2 apart: cell *n* holds times of 2^((n-1)/2) to
2^(n/2) µs. So ``(µs × µs).bit_length()`` is the cell, without a logarithm or a search. A quantile is
interpolated within its cell, as Prometheus's ``histogram_quantile`` does for classic histograms
(https://prometheus.io/docs/practices/histograms/#errors-of-quantile-estimation): the true value is in the
same cell, so the estimate is off by a factor of √2 (41 %) at most, and by a few percent if times
are spread over the cell. Times beyond the last cell (see :data:`CELLS`), from 6 days on, count in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from struct import Struct, pack
from typing import NamedTuple

CELLS = 80
OTHERS = "(others)"  # stands for functions beyond MOST_FUNCTIONS in a block
MOST_FUNCTIONS = 500

_HEAD = Struct("<4Idi")
_HISTOGRAM_AT = _HEAD.size
_EMPTY = _HISTOGRAM_AT + 4  # bytes of a row without runs
_CELL = 32  # bits
UNSEEN = -1


class Tier(NamedTuple):
    """Buckets of one size: ``step`` seconds each, ``block`` seconds of them per hash, kept for ``keep`` s."""

    name: str
    step: int
    block: int
    keep: int

    def __str__(self) -> str:
        return f"{self.name}:{self.step}:{self.block}:{self.keep}"


HOUR, DAY = 3600, 86400

# For a queue. Worst case, with all cells in use: 60 + 90 + 360 + 192 rows (those that are kept, and a block
# more) of 672 bytes, plus some 150 each in a hash: 580 KB per queue. A typical row has 10 cells: 120 KB.
TIERS = (
    Tier("10s", 10, 300, 300),
    Tier("1m", 60, 1800, HOUR),
    Tier("5m", 300, 6 * HOUR, DAY),
    Tier("1h", HOUR, DAY, 7 * DAY),
)

# For its functions, of which a block holds only the sums. Worst case: 41 blocks of 500 functions with some
# 160 bytes, 3.3 MB per queue, plus one block of each tier until it expires; with ten functions, 70 KB.
FUNCTION_TIERS = (
    Tier("5m", 60, 60, 300),
    Tier("1h", 600, 600, HOUR),
    Tier("24h", 2 * HOUR, 2 * HOUR, DAY),
    Tier("7d", 12 * HOUR, 12 * HOUR, 7 * DAY),
)


def in_words(tiers: Iterable[Tier]) -> str:
    """Tiers as the scripts read them: ``name:step:block:keep``, separated by spaces."""
    return " ".join(map(str, tiers))


# ── histograms ──


def cell_of(seconds: float) -> int:
    """The cell of a time, 0 to :data:`CELLS` - 1."""
    micros = int(seconds * 1e6)
    return min((micros * micros).bit_length(), CELLS - 1)


def limits_of(cell: int) -> tuple[float, float]:
    """The shortest and the longest time of a cell, in seconds."""
    return (2 ** ((cell - 1) / 2) / 1e6 if cell else 0.0), 2 ** (cell / 2) / 1e6


_LIMITS = [limits_of(cell) for cell in range(CELLS)]


def quantiles(histogram: int, wanted: Sequence[float]) -> list[float | None]:
    """The times below which these shares of all times lie (0 to 1, ascending), in seconds; ``None`` if empty.

    ``histogram`` is a row's: one whole number.
    """
    if not histogram:
        return [None] * len(wanted)
    first = ((histogram & -histogram).bit_length() - 1) // _CELL  # the cells below are empty
    counts = cells(histogram >> (_CELL * first))
    total = sum(counts)
    found: list[float | None] = []
    cell, below = 0, 0
    for share in wanted:
        rank = share * total
        while below + counts[cell] < rank:
            below += counts[cell]
            cell += 1
        shortest, longest = _LIMITS[first + cell]
        found.append(shortest + (longest - shortest) * (rank - below) / counts[cell])
    return found


# ── rows ──


@dataclass(slots=True)
class Row:
    """Sums of runs. Each histogram is one whole number, 32 bits per cell, so that adding two is one step."""

    completed: int = 0
    failed: int = 0
    retried: int = 0
    other: int = 0  # cancelled while they ran, or they killed their process
    work: float = 0.0
    depth: int = UNSEEN
    waits: int = field(default=0, repr=False)
    runs: int = field(default=0, repr=False)

    @property
    def count(self) -> int:
        """How many runs ended."""
        return self.completed + self.failed + self.retried + self.other

    def count_run(self, kind: str, *, times: int = 1, work: float = 0.0) -> None:
        """Count runs that ended as ``kind``, a letter of :class:`django_kue.execution.Outcome`."""
        name = _KINDS.get(kind, "other")
        setattr(self, name, getattr(self, name) + times)
        self.work += work

    def time_run(self, wait: int, run: int, times: int = 1) -> None:
        """Count runs with these cells of waiting and running time."""
        self.waits += times << (_CELL * wait)
        self.runs += times << (_CELL * run)

    def encode(self) -> bytes:
        head = _HEAD.pack(self.completed, self.failed, self.retried, self.other, self.work, self.depth)
        return head + _encode(self.waits) + _encode(self.runs)

    def add(self, *texts: bytes) -> Row:
        """Add encoded rows. The depths of queues are added, too."""
        depth, waits, runs = max(self.depth, 0), 0, 0
        is_seen = self.depth != UNSEEN
        waits_at = _HISTOGRAM_AT + 2
        for text in texts:
            completed, failed, retried, other, work, waiting = _HEAD.unpack_from(text)
            self.completed += completed
            self.failed += failed
            self.retried += retried
            self.other += other
            self.work += work
            if waiting != UNSEEN:
                depth += waiting
                is_seen = True
            if len(text) > _EMPTY:
                runs_at = waits_at + 4 * text[waits_at - 1] + 2
                waits += _whole(text[waits_at : runs_at - 2], "little") << (_CELL * text[waits_at - 2])
                runs += _whole(text[runs_at:], "little") << (_CELL * text[runs_at - 2])
        self.depth = depth if is_seen else UNSEEN
        self.waits += waits
        self.runs += runs
        return self


_whole = int.from_bytes
_KINDS = {"c": "completed", "f": "failed", "r": "retried"}


def is_row(text: bytes) -> bool:
    """Whether a text is a row: one of any other length isn't ours."""
    at = _HISTOGRAM_AT
    for _ in range(2):
        if len(text) < at + 2 or text[at] + text[at + 1] > CELLS:
            return False
        at += 2 + 4 * text[at + 1]
    return at == len(text)


def depth_of(text: bytes) -> int | None:
    """The depth in an encoded row."""
    depth: int = _HEAD.unpack_from(text)[5]
    return None if depth == UNSEEN else depth


def count_of(text: bytes) -> int:
    """How many runs ended, in an encoded row."""
    completed, failed, retried, other, _, _ = _HEAD.unpack_from(text)
    count: int = completed + failed + retried + other
    return count


def cells(histogram: int) -> tuple[int, ...]:
    """A row's histogram as counts by cell."""
    size = -(-histogram.bit_length() // _CELL)
    return _STRUCTS[size].unpack(histogram.to_bytes(size * 4, "little"))


_STRUCTS = [Struct(f"<{size}I") for size in range(CELLS + 1)]


def _encode(histogram: int) -> bytes:
    counts = cells(histogram)
    first = next((cell for cell, count in enumerate(counts) if count), 0)
    used = counts[first:]
    return pack(f"<BB{len(used)}I", first, len(used), *used)
