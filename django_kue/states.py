"""The life cycle of a job. The table ``MOVES`` is authoritative: every row has a Lua file of the same name in
``scripts/moves/`` (``enqueue`` in ``scripts/``), and tests check that table, scripts and store agree."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Where a job is. ``State("inactive")`` and ``State("complete")``, which are Kue's names, work too."""

    DELAYED = "delayed"  #: waits for its time: scheduled, or backing off
    WAITING = "waiting"  #: may run now
    ACTIVE = "active"  #: a worker holds its lease
    COMPLETED = "completed"  #: a run returned
    FAILED = "failed"  #: out of attempts; kept until someone looks
    CANCELLED = "cancelled"  #: somebody did so, or it expired

    @classmethod
    def _missing_(cls, value: object) -> State | None:
        return {"inactive": cls.WAITING, "complete": cls.COMPLETED}.get(str(value))

    @property
    def is_finished(self) -> bool:
        """True for completed, failed and cancelled."""
        return self in FINISHED


FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Move(NamedTuple):
    """A legal move: from which states, to which."""

    sources: frozenset[State]
    targets: frozenset[State]


def _move(sources: set[State], *targets: State) -> Move:
    return Move(frozenset(sources), frozenset(targets))


S = State
MOVES: dict[str, Move] = {
    "enqueue": _move(set(), S.WAITING, S.DELAYED),
    "promote": _move({S.DELAYED}, S.WAITING),
    "claim": _move({S.WAITING}, S.ACTIVE),
    "complete": _move({S.ACTIVE}, S.COMPLETED),
    "retry": _move({S.ACTIVE}, S.WAITING, S.DELAYED),
    "fail": _move({S.ACTIVE}, S.FAILED),
    "release": _move({S.ACTIVE}, S.WAITING),  # the worker is stopping, or dead
    "requeue": _move({S.FAILED, S.COMPLETED, S.CANCELLED}, S.WAITING),
    "cancel": _move({S.WAITING, S.DELAYED, S.ACTIVE}, S.CANCELLED),
    "expire": _move({S.WAITING}, S.CANCELLED),  # noticed when it would be claimed
    "remove": _move(set(S)),
}


def mermaid() -> str:
    """The state diagram of ``docs/explanation/lifecycle.md``, drawn from the table."""
    rows = [
        f"    {source} --> {target}: {name}"
        for name, move in MOVES.items()
        for source in sorted(map(str, move.sources)) or ["[*]"]
        for target in sorted(map(str, move.targets)) or ["[*]"]
    ]
    return "\n".join(["stateDiagram-v2", *rows])
