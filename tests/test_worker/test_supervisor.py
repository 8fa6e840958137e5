"""What a supervisor does between two system calls, where no signal from outside hits it for sure."""

from __future__ import annotations

import socket
import time

from django_kue.store import moves
from django_kue.worker.board import Board
from django_kue.worker.options import WorkerOptions
from django_kue.worker.supervisor import Sibling, Supervisor


def test_a_child_that_was_just_being_born_when_the_signal_came_is_told_to_stop_too() -> None:
    supervisor = Supervisor(WorkerOptions(queues=("default",)))
    supervisor._on_signal(15, None)
    ours, theirs = socket.socketpair()
    board = Board(("default",), 1)
    supervisor._children[1] = Sibling(0, 1, moves.owner("me/1"), board, ours, time.monotonic())
    for _ in range(3):
        supervisor._pass_on_stop()
    assert theirs.recv(100) == b'{"stop": true}\n'
    for one in (ours, theirs, board):
        one.close()
