"""Waiting without polling: a blocking pop of the queues' wake markers, and subscriptions."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from django_kue import keys
from django_kue.conf import settings
from django_kue.store import connections
from django_kue.store.calls import pack
from django_kue.store.transport import NETWORK_ERRORS, unavailable

BLOCK = 20  # seconds a blocking pop lasts at most; socket timeouts are longer


class Doorbell:
    """Waits until a job may have come to one of the queues.

    A pop stays pending on its own connection while the caller does other things, so that a local
    timer can be as exact as it likes. One server has all queues in one pop; on a cluster each
    queue has a connection of its own.
    """

    def __init__(self, queues: Sequence[str]) -> None:
        groups = [[queue] for queue in queues] if connections.is_cluster() else [list(queues)]
        self._bells = [_Bell(group) for group in groups]

    def wait(self, timeout: float, *others: int, is_armed: bool = True) -> list[str]:
        """Wait up to ``timeout`` s, or until one of the file descriptors ``others`` is readable.

        Returns the queues whose marker was taken: this worker is the one to look there.
        ``is_armed=False`` starts no new pop, but still hears one that's pending.

        Raises:
            StoreUnavailable: the connection was lost.
        """
        try:
            if is_armed:
                for bell in self._bells:
                    bell.arm()
            pending = {bell.socket.fileno(): bell for bell in self._bells if bell.socket is not None}
            ready = _readable([*pending, *others], timeout)
            rang = [bell.take() for descriptor, bell in pending.items() if descriptor in ready]
            return [queue for queue in rang if queue]
        except (*NETWORK_ERRORS, RedisError) as error:
            self.close()
            raise unavailable(error) from error

    def close(self) -> None:
        for bell in self._bells:
            bell.close()


def _readable(descriptors: Sequence[int], timeout: float) -> set[int]:
    """Those with something to read, also an end or an error. Not ``select``: it stops at descriptor 1023."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poller.poll(math.ceil(max(0.0, timeout) * 1000))}


class _Bell:
    def __init__(self, queues: list[str]) -> None:
        self._keys = [keys.of_queue(settings.PREFIX, queue, "wake").encode() for queue in queues]
        self._queues = dict(zip(self._keys, queues, strict=True))
        self._connection: Any = None
        self._cluster: Any = None
        self.socket: Any = None

    def arm(self) -> None:
        """Have a pop pending; ``socket`` is readable when it's over."""
        if self.socket is None:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.connect()
            self._connection.send_packed_command(
                [pack(b"BZPOPMIN", *self._keys, b"%d" % BLOCK)], check_health=False
            )
            self.socket = self._connection._sock

    def take(self) -> str | None:
        """Read the reply: the queue of the marker, or ``None`` when the pop's time was over."""
        self.socket = None
        reply = self._connection.read_response()
        return None if reply is None else self._queues[reply[0]]

    def close(self) -> None:
        connection, self._connection, self.socket = self._connection, None, None
        if connection is not None:
            with suppress(*NETWORK_ERRORS):
                connection.disconnect()
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def _connect(self) -> Any:
        if not connections.is_cluster():
            return connections.new_connection(BLOCK + 10)
        self._cluster = connections.new_cluster(settings.ENQUEUE_TIMEOUT)
        node = self._cluster.get_node_from_key(self._keys[0].decode())
        return connections.connection_to(node, BLOCK + 10)


class Subscription:
    """The event channels of some queues. Subscribed when the constructor returns."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._channels = [keys.of_queue(settings.PREFIX, queue, "events").encode() for queue in queues]
        self._queues = dict(zip(self._channels, queues, strict=True))
        self._cluster: Any = None
        try:
            self._connection = self._connect()
            self._connection.connect()
            self._connection.send_packed_command([pack(b"SUBSCRIBE", *self._channels)], check_health=False)
            for _ in self._channels:
                self._connection.read_response()
        except (*NETWORK_ERRORS, RedisError) as error:
            raise unavailable(error) from error

    def messages(self, timeout: float) -> Iterator[tuple[str, bytes]]:
        """``(queue, message)`` as they come, for ``timeout`` s, however many come.

        What has come already is given even with ``timeout`` 0, one message a call.
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
        if self._cluster is not None:
            self._cluster.close()

    def _connect(self) -> Any:
        if not connections.is_cluster():
            return connections.new_connection(settings.ENQUEUE_TIMEOUT)
        self._cluster = connections.new_cluster(settings.ENQUEUE_TIMEOUT)
        return connections.connection_to(self._cluster.get_default_node(), settings.ENQUEUE_TIMEOUT)


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
