"""A child's main thread, where no signal from outside hits a certain line for sure."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import pytest

from django_kue.store import moves
from django_kue.worker.board import Board
from django_kue.worker.child import Child
from django_kue.worker.codes import STOPPED
from django_kue.worker.options import WorkerOptions


@pytest.fixture
def child() -> Iterator[Child]:
    options = WorkerOptions(queues=("default",), threads=1, coroutines=1)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = Child(moves.owner("me/1"), options, Board(options.queues, 3), theirs)
        yield child
        child._fetcher.close()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_signal_takes_no_lock_of_what_it_interrupts_and_ends_the_child_all_the_same(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread itself may hold the buffer's lock when it's interrupted: it would wait for itself."""
    calls: list[object] = []
    with monkeypatch.context() as interrupted:
        interrupted.setattr(child._crew.buffer, "put", lambda *call: calls.append(call))
        signal.raise_signal(signal.SIGTERM)
    assert calls == []
    assert child.run() == STOPPED
