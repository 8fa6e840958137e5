"""The nodes of a Redis Cluster: which of them has which queue, and which are away at the moment.

A process learns that once, for all its links and bells, and again when a node says that a queue has moved,
or is away, since another may have its queues then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from django.core.signals import setting_changed
from redis.crc import key_slot
from redis.exceptions import RedisError

from django_kue.errors import StoreUnavailable
from django_kue.store import connections
from django_kue.store.calls import pack
from django_kue.store.transport import NETWORK_ERRORS, unavailable

PROBE, LONGEST_PROBE = 0.25, 0.5  # seconds that a node may take to show that it's back, or who has what
PAUSE, LONGEST_PAUSE = 0.05, 3.0  # seconds for which a node that's away is left alone …
SHARE = 8  # … but at least this many times as long as asking it took


class Address(NamedTuple):
    """Where a node is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Absence(NamedTuple):
    """What's noted about a node that didn't answer."""

    tries: int  # in vain
    until: float  # when it may be asked again, by time.monotonic()


class Nodes:
    """What's known about the nodes. Used from any thread: each fact is replaced as a whole."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, Address]] = []  # first slot, last slot, their master
        self._absences: dict[Address, Absence] = {}
        self._is_doubtful = True

    def home(self, key: bytes) -> Address | None:
        """The node that has a key's slot."""
        slot = key_slot(key)
        return next((node for first, last, node in self._ranges if first <= slot <= last), None)

    # ── who is away ──

    def patience(self, node: Address, seconds: float) -> float:
        """How long to wait for a node, if one would wait ``seconds`` for a healthy one. 0: it's away, and has
        to be left alone for the moment."""
        absence = self._absences.get(node)
        if absence is None:
            return seconds
        if time.monotonic() < absence.until:
            return 0.0
        return min(seconds, PROBE * 2.0 ** (absence.tries - 1), LONGEST_PROBE)

    def answered(self, node: Address) -> None:
        """Note that a node answered."""
        if self._absences:
            self._absences.pop(node, None)

    def failed(self, node: Address, spent: float) -> None:
        """Note that a node didn't answer, which took ``spent`` seconds. It's left alone for so long that
        asking it again costs only a small share of the time that the others have."""
        tries = self._absences[node].tries + 1 if node in self._absences else 1
        pause = max(min(PAUSE * 2**tries, 1.0), SHARE * spent)
        self._absences[node] = Absence(min(tries, 10), time.monotonic() + min(pause, LONGEST_PAUSE))
        self._is_doubtful = True

    # ── who has what ──

    def doubt(self) -> None:
        """Note that what's known about the slots may be outdated."""
        self._is_doubtful = True

    def refresh(self, seconds: float) -> None:
        """Learn which node has which slots, if that's in doubt: from a node that's present, or else from the
        one that the settings name. Each that's asked may take ``seconds``.

        Raises:
            StoreUnavailable: no node could be asked, and nothing is known.
        """
        if not self._is_doubtful:
            return
        error: Exception | None = None
        if self._ranges:
            seconds = min(seconds, LONGEST_PROBE)
        candidates: Sequence[Address | None] = self.present() or [None]
        for node in candidates:
            begun = time.monotonic()
            try:
                self._ranges = _ask(node, seconds)
            except (*NETWORK_ERRORS, RedisError) as failure:
                error = failure
                if node is not None:
                    self.failed(node, time.monotonic() - begun)
            else:
                self._is_doubtful = False
                return
        if error is not None and not self._ranges:
            raise unavailable(error, may_be_applied=False) from error

    def one_present(self) -> Address:
        """The first node that isn't known to be away.

        Raises:
            StoreUnavailable: all nodes are away.
        """
        for node in self.present():
            return node
        raise StoreUnavailable("Redis is unavailable: all nodes are away", may_be_applied=False)

    def present(self) -> list[Address]:
        """The nodes that aren't known to be away."""
        known = dict.fromkeys(node for _, _, node in self._ranges)
        return [node for node in known if node not in self._absences]


def _ask(node: Address | None, seconds: float) -> list[tuple[int, int, Address]]:
    """Ask a node which node has which slots; ``None``: ask the one that the settings name."""
    connection: Any = (
        connections.new_connection(seconds) if node is None else connections.connection_to(*node, seconds)
    )
    try:
        connection.connect()
        connection.send_packed_command([pack(b"CLUSTER", b"SLOTS")], check_health=False)
        reply = connection.read_response()
    finally:
        with suppress(*NETWORK_ERRORS):
            connection.disconnect()
    return [(first, last, _address(master, connection.host)) for first, last, master, *_ in reply]


def _address(node: list[Any], asked: str) -> Address:
    """A node's address. One that doesn't know its own name is at the address where it was asked."""
    host = node[0].decode() if node[0] else ""
    return Address(asked if host in ("", "?") else host, node[1])


@cache
def known() -> Nodes:
    """What this process knows."""
    return Nodes()


def forget(**kwargs: Any) -> None:
    """Forget everything, for example because the settings changed."""
    if kwargs.get("setting") in (None, "KUE"):
        known.cache_clear()


setting_changed.connect(forget, dispatch_uid="django_kue.nodes")
