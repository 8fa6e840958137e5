"""Waiting without polling: a blocking pop of the queues' wake markers, and subscriptions."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from django_kue import keys
from django_kue.conf import settings
from django_kue.store import connections, nodes
from django_kue.store.calls import Call, pack
from django_kue.store.transport import NETWORK_ERRORS, tried, unavailable

BLOCK = 5  # seconds that a blocking pop lasts at most; socket timeouts are longer
LATE = 2  # seconds without a reply after that, when the connection must be dead, though nobody closed it


class Behind(NamedTuple):
    """A call to be carried out when a pop is over, and how many seconds that pop lasts at most.

    ``is_known``: Redis should know its script by its digest.
    """

    call: Call[Any]
    seconds: float
    is_known: bool


class Doorbell:
    """Waits until a job may have come to one of the queues.

    A pop stays pending on its own connection while the caller does other things, so that a local
    timer can be as exact as it likes. On one server, a single pop covers all queues.

    It also takes a call *behind* a pop, when that begins or later: Redis carries it out when the pop is
    over, and sends both replies together (:meth:`answer`).
    """

    takes_calls = True

    def __init__(self, queues: Sequence[str]) -> None:
        self._bells: Sequence[_Bell] = [_Bell(queues)]

    @property
    def is_pending(self) -> bool:
        """Whether a pop is pending; then :meth:`wait` starts none."""
        return any(bell.socket is not None for bell in self._bells)

    def wait(
        self,
        timeout: float,
        *others: int,
        is_armed: bool = True,
        last: Collection[str] = (),
        behind: Behind | None = None,
    ) -> list[str]:
        """Wait up to ``timeout`` s, or until one of the file descriptors ``others`` is readable.

        Returns the queues whose marker was taken: this worker is the one to look there.
        ``is_armed=False`` starts no new pop, but still hears a pending one. If markers are there already, a
        new pop takes one of the queues in ``last`` only when there's no other. ``behind`` is sent right after
        the new pop, or after the pending one, which must not have another call behind it.

        Raises:
            StoreUnavailable: the connection was lost, or no longer delivers anything.
        """
        try:
            if is_armed:
                for bell in self._bells:
                    bell.arm(last, behind)
            pending = {bell.socket.fileno(): bell for bell in self._bells if bell.socket is not None}
            ready = _readable([*pending, *others], timeout)
            rang = [bell.take() for descriptor, bell in pending.items() if descriptor in ready]
            if any(bell.is_dead() for bell in self._bells):
                raise TimeoutError("a connection brings nothing any more")
            return [queue for queue in rang if queue]
        except (*NETWORK_ERRORS, RedisError) as error:
            self.close()
            raise unavailable(error) from error

    def left(self, now: float) -> float:
        """Seconds until the pending pop is over; 0 if there's none."""
        (bell,) = self._bells
        return bell.left(now)

    def answer(self) -> Any:
        """What the call behind the last pop brought, given once: its result, or its error. ``None`` when
        there's nothing new, or when that's the result."""
        (bell,) = self._bells
        answer, bell.answer = bell.answer, None
        return answer

    def withdraw(self, patience: float = LATE) -> bool:
        """End a pending pop, and with it the call behind it. False when the call may have been applied
        already; from now on it won't be. Redis has ``patience`` s to answer.

        Raises:
            StoreUnavailable: that's uncertain.
        """
        (bell,) = self._bells
        try:
            return bell.withdraw(patience)
        except NETWORK_ERRORS as error:
            raise unavailable(error) from error
        finally:
            self.close()

    def close(self) -> None:
        for bell in self._bells:
            bell.close()


class ClusterDoorbell(Doorbell):
    """The same for a cluster: each queue has a pop of its own on its node. While a node is away its queues'
    bells are silent, and the others ring."""

    takes_calls = False

    def __init__(self, queues: Sequence[str]) -> None:
        self._of_nodes = [_NodeBell([queue]) for queue in queues]
        self._bells = self._of_nodes

    def wait(
        self,
        timeout: float,
        *others: int,
        is_armed: bool = True,
        last: Collection[str] = (),
        behind: Behind | None = None,
    ) -> list[str]:
        """As :meth:`Doorbell.wait`, but also returns queues whose bell was broken and works again, since it
        may have missed something."""
        if is_armed:
            nodes.known().refresh(LATE)
        rang = super().wait(timeout, *others, is_armed=is_armed, last=last, behind=behind)
        return [*rang, *[queue for bell in self._of_nodes for queue in bell.back()]]


def new_doorbell(queues: Sequence[str]) -> Doorbell:
    """A doorbell for the kind of server that ``KUE["REDIS"]`` names."""
    return ClusterDoorbell(queues) if connections.is_cluster() else Doorbell(queues)


def _readable(descriptors: Sequence[int], timeout: float) -> set[int]:
    """Those with something to read, be it an end or an error. Not by ``select``, which stops at 1023."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poller.poll(math.ceil(max(0.0, timeout) * 1000))}


class _Bell:
    def __init__(self, queues: Sequence[str]) -> None:
        self._keys = [keys.of_queue(settings.PREFIX, queue, "wake").encode() for queue in queues]
        self._queues = dict(zip(self._keys, queues, strict=True))
        self._connection: Any = None
        self.socket: Any = None
        self._over_by = 0.0  # when the pending pop must be over
        self._behind: Call[Any] | None = None  # what Redis carries out after it
        self.answer: Any = None  # what that brought

    def arm(self, last: Collection[str] = (), behind: Behind | None = None) -> None:
        """Have a pop pending; ``socket`` is readable when it's over."""
        commands = b""
        if self.socket is None:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.connect()
            # Redis looks at the keys in their order.
            names = sorted(self._keys, key=lambda key: self._queues[key] in last) if last else self._keys
            seconds = behind.seconds if behind else BLOCK
            commands = pack(b"BZPOPMIN", *names, b"%g" % seconds)
            self.socket = self._connection._sock
            self._over_by = time.monotonic() + seconds + LATE
        if behind:
            self._behind = behind.call
            commands += behind.call.packed() if behind.is_known else behind.call.packed_source()
        if commands:
            self._connection.send_packed_command([commands], check_health=False)

    def left(self, now: float) -> float:
        """Seconds until the pending pop is over; 0 if there's none."""
        return 0.0 if self.socket is None else max(0.0, self._over_by - LATE - now)

    def is_dead(self) -> bool:
        """Whether its pop should have been over long ago. Not if a reply is there: then we were frozen."""
        return (
            self.socket is not None
            and time.monotonic() > self._over_by
            and not _readable([self.socket.fileno()], 0)
        )

    def take(self) -> str | None:
        """Read the reply: the queue of the marker, or ``None`` when the pop timed out."""
        self.socket = None
        reply = self._connection.read_response()
        behind, self._behind = self._behind, None
        if behind is not None:
            self.answer = tried(behind, self._reply())
        return None if reply is None else self._queues[reply[0]]

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def withdraw(self, patience: float) -> bool:
        """End the pop; True when it wasn't over yet. When a client closes its side of the connection, Redis
        drops the client and closes the other side: after that, nothing that was sent here is carried out."""
        if self.socket is None:
            return True
        self.socket.settimeout(patience)
        self.socket.shutdown(socket.SHUT_WR)
        is_still_pending = True
        while self.socket.recv(4096):
            is_still_pending = False
        return is_still_pending

    def close(self) -> None:
        connection, self._connection, self.socket = self._connection, None, None
        self._behind = self.answer = None
        if connection is not None:
            with suppress(*NETWORK_ERRORS):
                connection.disconnect()

    def _connect(self) -> Any:
        """A connection with a short timeout: we read once there's a reply, whose rest comes soon or never."""
        return connections.new_connection(LATE)


class _NodeBell(_Bell):
    """A queue's bell on a cluster. It breaks on its own, and mends itself when its node is back."""

    def __init__(self, queues: Sequence[str]) -> None:
        super().__init__(queues)
        self._queue = queues[0]
        self._is_broken = self._is_back = False

    def arm(self, last: Collection[str] = (), behind: Behind | None = None) -> None:
        if self.socket is not None or not self._patience():
            return
        begun = time.monotonic()
        try:
            super().arm(last, behind)
        except (*NETWORK_ERRORS, RedisError):
            self._break(time.monotonic() - begun)
        else:
            self._is_back, self._is_broken = self._is_broken, False

    def is_dead(self) -> bool:
        if super().is_dead():
            self._break(0.0)
        return False

    def take(self) -> str | None:
        begun = time.monotonic()
        try:
            return super().take()
        except (*NETWORK_ERRORS, RedisError):
            self._break(time.monotonic() - begun)
            return None

    def back(self) -> list[str]:
        """Its queue, if it was broken and has just been mended."""
        is_back, self._is_back = self._is_back, False
        return [self._queue] if is_back else []

    def _break(self, spent: float) -> None:
        self.close()
        self._is_broken = True
        if (node := self._node()) is not None:
            nodes.known().failed(node, spent)
        nodes.known().doubt()

    def _node(self) -> nodes.Address | None:
        return nodes.known().home(self._keys[0])

    def _patience(self) -> float:
        """Seconds that connecting may take; 0 means not now."""
        node = self._node()
        return 0.0 if node is None else nodes.known().patience(node, LATE)

    def _connect(self) -> Any:
        node = self._node()
        assert node is not None
        return connections.connection_to(*node, self._patience() or nodes.PROBE)


class Subscription:
    """The event channels of some queues. Subscribed when the constructor returns."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._channels = [keys.of_queue(settings.PREFIX, queue, "events").encode() for queue in queues]
        self._queues = dict(zip(self._channels, queues, strict=True))
        try:
            self._connection = self._connect()
            self._connection.connect()
            self._connection.send_packed_command([pack(b"SUBSCRIBE", *self._channels)], check_health=False)
            for _ in self._channels:
                self._connection.read_response()
        except (*NETWORK_ERRORS, RedisError) as error:
            raise unavailable(error) from error

    def messages(self, timeout: float) -> Iterator[tuple[str, bytes]]:
        """``(queue, message)`` pairs as they come, for ``timeout`` s, however many there are.

        Messages that are already there are given even if ``timeout`` is 0, one per call.
        """
        deadline = time.monotonic() + timeout
        try:
            while self._connection.can_read(max(0.0, deadline - time.monotonic())):
                kind, channel, message = self._connection.read_response()
                if kind == b"message":
                    yield self._queues[channel], message
                if time.monotonic() >= deadline:
                    return
        except (*NETWORK_ERRORS, RedisError) as error:
            raise unavailable(error) from error

    def close(self) -> None:
        with suppress(*NETWORK_ERRORS):
            self._connection.disconnect()

    @staticmethod
    def _connect() -> Any:
        """A new connection. On a cluster any node will do: nodes tell each other what's published."""
        timeout = settings.ENQUEUE_TIMEOUT
        if not connections.is_cluster():
            return connections.new_connection(timeout)
        nodes.known().refresh(timeout)
        return connections.connection_to(*nodes.known().one_present(), timeout)


class AsyncSubscription:
    """The same for asyncio. Subscribed when :meth:`open` returns."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._channels = [keys.of_queue(settings.PREFIX, queue, "events").encode() for queue in queues]
        self._queues = dict(zip(self._channels, queues, strict=True))
        self._connection: Any = None
        self._cluster: Any = None

    async def open(self) -> None:
        try:
            self._connection = await self._new_connection()
            await self._connection.connect()
            subscribe = pack(b"SUBSCRIBE", *self._channels)
            await self._connection.send_packed_command([subscribe], check_health=False)
            for _ in self._channels:
                await self._connection.read_response()
        except (*NETWORK_ERRORS, RedisError) as error:
            raise unavailable(error) from error

    async def message(self, timeout: float) -> tuple[str, bytes] | None:
        """The next ``(queue, message)``, or ``None`` when none comes within ``timeout`` s."""
        try:
            reply = await self._connection.read_response(timeout=timeout)
        except (*NETWORK_ERRORS, RedisError) as error:
            raise unavailable(error) from error
        if reply is None or reply[0] != b"message":
            return None
        return self._queues[reply[1]], reply[2]

    async def close(self) -> None:
        with suppress(*NETWORK_ERRORS):
            if self._connection is not None:
                await self._connection.disconnect(nowait=True)
            if self._cluster is not None:
                await self._cluster.aclose()

    async def _new_connection(self) -> Any:
        if not connections.is_cluster():
            return connections.new_async_connection(settings.ENQUEUE_TIMEOUT)
        self._cluster = connections.new_async_cluster(settings.ENQUEUE_TIMEOUT)
        await self._cluster.initialize()
        return self._cluster.get_default_node().acquire_connection()  # closed with the client
