"""One job of the store without Redis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django_kue import records
from django_kue.execution import Run
from django_kue.states import State


@dataclass(eq=False)
class Stored:
    """A job, as the keys of its queue hold it."""

    queue: str
    key: bytes
    record: bytes
    state: State = State.WAITING
    place: int = 0  # among the waiting jobs of its priority
    score: int | None = None  # due or finished, ms
    lease: bytes = b""
    outcome: bytes = b""
    progress: bytes = b""
    logs: list[bytes] = field(default_factory=list)
    runs: list[bytes] = field(default_factory=list)
    run: Run | None = None  # while it's active
    has_own_keep: bool = False  # how long it's kept, once it's finished, isn't up to the queue
    is_gone: bool = False
    # What it was enqueued with, in ms:
    delay: int = 0
    run_at: int | None = None
    expires: int | None = None

    def token(self, letter: str) -> str:
        """A token of the record's head; "" when it has none."""
        return records.decode(self.record).head.get(letter, "")

    def set(self, **tokens: str | int | None) -> None:
        """Set tokens of the record's head, or drop them (``None``)."""
        head_text, _, rest = self.record.partition(b"|")
        head = {token[0]: token[1:] for token in head_text.decode().split(",") if token}
        for letter, value in tokens.items():
            head.pop(letter, None)
            if value is not None:
                head[letter] = str(value)
        text = ",".join(sorted(f"{letter}{value}" for letter, value in head.items()))
        self.record = text.encode() + b"|" + rest

    @property
    def priority(self) -> int:
        return int(self.token("p") or 0)

    def row(self) -> list[Any]:
        """The job as ``scripts/lib/rows.lua`` returns it."""
        score = b"" if self.score is None else b"%d" % self.score
        last = self.runs[-1] if self.runs else b""
        is_marked = int(self.run is not None and self.run.is_cancelled)
        return [
            self.key, self.state.encode(), self.record, self.lease, score, self.outcome, self.progress, last,
            is_marked,
        ]  # fmt: skip
