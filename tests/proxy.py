"""A TCP proxy between the client and Redis that cuts, delays and splits what goes through it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType


class Proxy:
    """Forwards ``127.0.0.1:port`` to ``target`` until it's told to be unkind.

    >>> with Proxy(6379) as proxy:  # doctest: +SKIP
    ...     proxy.cut_reply(after=3)   # of the next reply only three bytes arrive
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        self.split: int | None = None  # replies come in pieces of so many bytes
        self.delay = 0.0  # seconds before each piece of a reply
        self.is_mute = False  # accepts, and says nothing
        self._cut_reply: int | None = None
        self._cut_request: int | None = None
        self._stall_reply: int | None = None
        self._on_cut: Callable[[], object] | None = None
        self._needle: bytes | None = None  # the next request with this in it gets no reply
        self._doomed: set[socket.socket] = set()
        self._holes: set[socket.socket] = set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut_reply(self, after: int, then: Callable[[], object] | None = None) -> None:
        """Of the next reply only ``after`` bytes arrive; then the connection is cut, and ``then`` called."""
        self._cut_reply, self._on_cut = after, then

    def stall_reply(self, after: int) -> None:
        """Of the next reply only ``after`` bytes arrive, and the connection stays open."""
        self._stall_reply = after

    def cut_reply_to(self, needle: bytes) -> None:
        """The next request with these bytes in it is applied, but its connection ends before the reply."""
        self._needle = needle

    @property
    def is_pending(self) -> bool:
        """Whether that request hasn't come yet."""
        return self._needle is not None

    def swallow(self) -> None:
        """From now on nothing comes through on the connections there are; they stay open, new ones work."""
        with self._lock:
            self._holes |= self._sockets

    def cut_request(self, after: int) -> None:
        """Of the next request only ``after`` bytes reach Redis, and the connection is cut."""
        self._cut_request = after

    def cut_all(self) -> None:
        """Cut every connection now."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            _shut(one)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:  # nobody is there, for now
                _shut(client)
                continue
            self.accepted += 1
            with self._lock:
                self._sockets |= {client, server}
            threading.Thread(target=self._pump_requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pump_replies, args=(server, client), daemon=True).start()

    def _pump_requests(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                if client in self._holes:
                    continue
                if self._needle is not None and self._needle in data:
                    self._needle = None
                    self._doomed.add(client)
                after, self._cut_request = self._cut_request, None
                server.sendall(data if after is None else data[:after])
                if after is not None:
                    break
        except OSError:
            pass
        self._end(client, server)

    def _pump_replies(self, server: socket.socket, client: socket.socket) -> None:
        is_stalled = False
        try:
            while data := server.recv(65536):
                if self.is_mute or is_stalled or client in self._holes:
                    continue
                if client in self._doomed:
                    break
                stall, self._stall_reply = self._stall_reply, None
                if stall is not None:
                    client.sendall(data[:stall])
                    is_stalled = True  # a reply may come in several pieces
                    continue
                after, self._cut_reply = self._cut_reply, None
                if after is not None:
                    client.sendall(data[:after])
                    _shut(client)
                    if self._on_cut:
                        self._on_cut()
                    break
                self._forward(client, data)
        except OSError:
            pass
        self._end(client, server)

    def _end(self, *both: socket.socket) -> None:
        for one in both:
            _shut(one)
        with self._lock:
            self._sockets.difference_update(both)

    def _forward(self, client: socket.socket, data: bytes) -> None:
        step = self.split or len(data)
        for first in range(0, len(data), step):
            if self.delay:
                time.sleep(self.delay)
            client.sendall(data[first : first + step])


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
