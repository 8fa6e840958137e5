"""A child as its supervisor sees it: its board, and the socket on which it gets its orders."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any

from django_kue.store import moves
from django_kue.worker.board import Board, Busy
from django_kue.worker.graves import Buried


@dataclass
class Sibling:
    """One of a worker's living children."""

    number: int
    pid: int
    owner: moves.Owner
    board: Board
    control: socket.socket
    born: float
    culprit: Busy | None = None  # the overdue run we killed it for
    is_told_to_stop: bool = False
    is_killed: bool = False  # by us, at the end of the shutdown timeout
    words: list[Buried] = field(default_factory=list)  # about dead processes, for it to tell receivers
    heard: int = 0  # how many of those words were dropped, because it began to tell them
    unsent: bytearray = field(default_factory=bytearray)  # orders its socket had no room for yet

    def __post_init__(self) -> None:
        self.control.setblocking(False)  # a child that doesn't read mustn't hold up everyone's heartbeats

    def unheard(self) -> list[Buried]:
        """The words that it hasn't begun to tell receivers."""
        begun = self.board.heard() - self.heard
        self.heard += begun
        del self.words[:begun]
        return self.words

    def tell_of(self, buried: list[Buried]) -> None:
        """Have it tell receivers. That's noted before it's sent: it may begin before this returns."""
        self.unheard().extend(buried)
        self.order(buried=buried)

    def order(self, **order: Any) -> None:
        """Send it an order, now or once it reads again; :meth:`Child._obey` lists them."""
        self.unsent += json.dumps(order).encode() + b"\n"
        self.push()

    def remind(self, **order: Any) -> None:
        """Send it an order that each heartbeat repeats, unless the child isn't reading its orders."""
        if self.is_listening:
            self.order(**order)

    @property
    def is_listening(self) -> bool:
        """Whether its socket has taken all orders so far."""
        return not self.unsent

    def push(self) -> None:
        """Send as much of what's unsent as there's room for."""
        try:
            while self.unsent:
                del self.unsent[: self.control.send(self.unsent)]
        except BlockingIOError:
            pass  # it's busy or frozen; the next tick tries again
        except OSError:  # it's dying
            self.unsent.clear()
