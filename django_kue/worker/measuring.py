"""A child's measurements of its runs, gathered and sent every :data:`FLUSH` seconds, and at the end.

Only the leading thread adds and takes, so there's no lock. A run costs one dictionary lookup: runs with the
same function, outcome and cells of time share one entry.
"""

from __future__ import annotations

import logging
from binascii import a2b_base64
from collections.abc import Iterable

from django_kue.errors import StoreError, StoreUnavailable
from django_kue.execution import Run
from django_kue.measures import CELLS, Row
from django_kue.store import Link, moves

logger = logging.getLogger("django_kue.worker")

FLUSH = 2.0  # seconds between two sends to Redis
_PLAIN = bytes.maketrans(b"-_", b"+/")  # from URL-safe base64
_LAST = CELLS - 1


class Measuring:
    """Sums over a child's runs since it last sent them."""

    def __init__(self) -> None:
        # (queue, function, outcome, cell of waiting, cell of running) → number, seconds of work
        self._sums: dict[tuple[str, str, str, int, int], list[float]] = {}
        self._refused: set[str] = set()  # queues for which a refusal was logged
        self.flush_at = 0.0

    def add(self, runs: Iterable[Run]) -> None:
        """Add runs whose ends were accepted.

        After the run itself, this is the most expensive thing done for each run, so it's written out: a plain
        job's wait is the same as :attr:`Run.waited`, without the steps that other jobs need.
        """
        sums = self._sums
        stamp, stamp_ms = b"", 0  # the last key's time, as encoded and as decoded: most keys share it
        for run in runs:
            spent = run.finished - run.started
            micros = int(spent * 1e6)
            if run.record is not None and run.record.head:
                wait = int(run.waited * 1e6)
            else:
                if run.key[:8] != stamp:  # the first 48 bits of 128 are the time
                    stamp = run.key[:8]
                    stamp_ms = _time_in(stamp)
                wait = (run.claimed_ms - stamp_ms) * 1000 + int((run.started - run.fetched) * 1e6)
            key = (
                run.queue,
                run.definition.name if run.definition is not None else "",
                run.outcome.kind if run.outcome is not None else "",
                (wait * wait).bit_length() if wait > 0 else 0,
                (micros * micros).bit_length(),
            )
            entry = sums.get(key)
            if entry is None:
                sums[key] = [1, spent]
            else:
                entry[0] += 1
                entry[1] += spent

    def flush(self, link: Link, watched: Iterable[str], now: float) -> None:
        """Send what was gathered; for the queues ``watched``, have at least the number of waiting jobs noted.

        Raises:
            StoreUnavailable: Redis is away. What certainly didn't get there is kept; what may have got
                there isn't sent twice.
        """
        self.flush_at = now + FLUSH
        sums, self._sums = self._sums, {}
        rows = _rows(sums)
        queues = list(dict.fromkeys([*rows, *watched]))
        if not queues:
            return
        calls = [moves.measure(queue, *rows.get(queue, (None, {}))) for queue in queues]
        try:
            replies = link.try_send(*calls)
        except StoreUnavailable as error:
            if not error.may_be_applied:
                self._sums = sums
            raise
        for queue, reply in zip(queues, replies, strict=True):
            if isinstance(reply, StoreUnavailable) and not reply.may_be_applied:
                self._sums |= {key: entry for key, entry in sums.items() if key[0] == queue}
            if isinstance(reply, StoreError) and queue not in self._refused:
                self._refused.add(queue)
                logger.error("queue %s: measurements can't be stored: %s", queue, reply)


def _time_in(stamp: bytes) -> int:
    """Unix milliseconds in the first characters of a key; 0 when it isn't a key of ours."""
    try:
        return int.from_bytes(a2b_base64(stamp.translate(_PLAIN)), "big")
    except ValueError:
        return 0


def _rows(sums: dict[tuple[str, str, str, int, int], list[float]]) -> dict[str, tuple[Row, dict[str, Row]]]:
    """For each queue: its row, and its functions' rows."""
    rows: dict[str, tuple[Row, dict[str, Row]]] = {}
    for (queue, function, kind, wait, ran), (count, work) in sums.items():
        of_queue, functions = rows.setdefault(queue, (Row(), {}))
        told = [of_queue, functions.setdefault(function, Row())] if function else [of_queue]
        for row in told:
            row.count_run(kind, times=int(count), work=work)
            row.time_run(min(wait, _LAST), min(ran, _LAST), int(count))
    return rows
