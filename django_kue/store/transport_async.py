"""How calls get to Redis and back, under asyncio. Each event loop has a pool of idle links."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, ResponseError

from django_kue.conf import settings
from django_kue.store import connections
from django_kue.store.calls import Call
from django_kue.store.transport import (
    IDLE,
    NETWORK_ERRORS,
    Meanwhile,
    _read,
    forgotten,
    is_from_replica,
    unavailable,
)

T = TypeVar("T")


class AsyncLink(Protocol):
    """One way to Redis, for one coroutine at a time."""

    sender: bytes
    number: int

    async def send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]: ...
    async def close(self) -> None: ...
    def abandon(self) -> None: ...


class AsyncServerLink:
    """A connection to one server."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.sender = os.urandom(9).hex().encode()
        self.number = 0
        self._connection: Any = None

    async def send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        """As :meth:`ServerLink.send`."""
        deadline = _deadline(self.timeout if timeout is None else timeout)
        replies = await self._exchange([call.packed() for call in calls], deadline, meanwhile)
        if unknown := forgotten(replies):
            again = await self._exchange([calls[i].packed_source() for i in unknown], deadline)
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        if any(map(is_from_replica, replies)):
            await self.close()
        return [_read(call, reply) for call, reply in zip(calls, replies, strict=True)]

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*NETWORK_ERRORS):
                await connection.disconnect(nowait=True)

    def abandon(self) -> None:
        """End the connection to Redis when its event loop is closed, and so can't do it any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _hang_up(connection)

    async def _exchange(
        self, commands: Sequence[bytes], deadline: float, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        is_sent = False
        try:
            async with asyncio.timeout_at(deadline):
                if self._connection is not None and self._connection._reader.at_eof():
                    await self.close()  # Redis has closed it while it was idle
                if self._connection is None:
                    connection = connections.new_async_connection(self.timeout)
                    await connection.connect()
                    self._connection = connection
                connection = self._connection
                is_sent = True
                await connection.send_packed_command([b"".join(commands)], check_health=False)
                if meanwhile is not None:
                    meanwhile()
                return [await self._reply(connection) for _ in commands]
        except (*NETWORK_ERRORS, RedisError, TimeoutError) as error:
            await self.close()
            is_refused = isinstance(error, BusyLoadingError)  # an answer, though redis-py counts it here
            raise unavailable(error, may_be_applied=is_sent and not is_refused) from error
        except BaseException:  # cancelled in the middle: half a reply may be left
            await self.close()
            raise

    @staticmethod
    async def _reply(connection: Any) -> Any:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error


class AsyncClusterLink:
    """redis-py's asyncio cluster client."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.sender = os.urandom(9).hex().encode()
        self.number = 0
        self._client: Any = None

    async def send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        """As :meth:`ServerLink.send`, one call after the other."""
        deadline = _deadline(self.timeout if timeout is None else timeout)
        return [_read(call, await self._run(call, deadline)) for call in calls]

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            close = getattr(client, "aclose", client.close)  # redis-py 5.0 has only close
            await close()

    def abandon(self) -> None:
        """As :meth:`AsyncServerLink.abandon`."""
        client, self._client = self._client, None
        if client is not None:
            for node in client.get_nodes():
                for connection in node._connections:
                    _hang_up(connection)

    async def _run(self, call: Call[Any], deadline: float) -> Any:
        keys = call.keys
        tail = (len(keys), *keys, *call.arguments)
        is_sent = False
        try:
            async with asyncio.timeout_at(deadline):
                if self._client is None:
                    self._client = connections.new_async_cluster(self.timeout)
                await self._client.initialize()  # finds the nodes, unless they're known
                is_sent = True
                try:
                    return await self._client.execute_command("EVALSHA", call.script.digest, *tail)
                except NoScriptError:
                    return await self._client.execute_command("EVAL", call.script.source, *tail)
        except ResponseError as error:
            return error
        except (*NETWORK_ERRORS, RedisError, TimeoutError) as error:
            await self.close()
            raise unavailable(error, may_be_applied=is_sent) from error


def _deadline(timeout: float) -> float:
    """By the running event loop's clock."""
    return asyncio.get_running_loop().time() + timeout


def _hang_up(connection: Any) -> None:
    """End a closed loop's connection: its transport would need the loop, a copy of its socket doesn't."""
    if connection._writer is None:
        return
    with suppress(OSError):
        descriptor = os.dup(connection._writer.get_extra_info("socket").fileno())
        with socket.socket(fileno=descriptor) as copy:
            copy.shutdown(socket.SHUT_RDWR)
    connection._reader = connection._writer = None


@dataclass(slots=True)
class _Pool:
    """The idle links of one event loop."""

    closing: AsyncGenerator[None, None]
    links: deque[AsyncLink] = field(default_factory=deque)


stand_in: AsyncLink | None = None  # what answers instead of Redis, in tests: see stand_in.py

# A link refers to its loop, so this holds loops until they end (see _closing), or a call finds them closed.
_pools: dict[asyncio.AbstractEventLoop, _Pool] = {}


def borrow() -> AsyncLink:
    """An idle link of this event loop, or a new one."""
    if stand_in is not None:
        return stand_in
    _forget_closed_loops()
    pool = _pools.get(asyncio.get_running_loop())
    if pool and pool.links:
        return pool.links.pop()
    timeout = settings.ENQUEUE_TIMEOUT
    return AsyncClusterLink(timeout) if connections.is_cluster() else AsyncServerLink(timeout)


async def give_back(link: AsyncLink) -> None:
    """Keep a link for the next caller on this event loop, or close it if enough are kept."""
    if link is stand_in:
        return
    pool = await _own_pool()
    if len(pool.links) < IDLE:
        pool.links.append(link)
    else:
        await link.close()


async def asend(*calls: Call[Any]) -> list[Any]:
    """Send calls over an idle link of the running event loop."""
    link = borrow()
    try:
        return await link.send(*calls)
    finally:
        await give_back(link)


async def aask(call: Call[T]) -> T:
    """Send one call and return its result."""
    result: T = (await asend(call))[0]
    return result


async def close_links() -> None:
    """Close this event loop's idle links, as an orderly end of the loop does too."""
    if pool := _pools.get(asyncio.get_running_loop()):
        await pool.closing.aclose()


async def _own_pool() -> _Pool:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        _pools[loop] = _Pool(_closing())
        await anext(_pools[loop].closing)
    return _pools[loop]


async def _closing() -> AsyncGenerator[None, None]:
    """Close the links when the loop shuts generators down, as ``asyncio.run`` and asgiref do at the end."""
    try:
        yield
    finally:
        for link in _pools.pop(asyncio.get_running_loop()).links:
            await link.close()
        await connections.close_sentinels()


def _forget_closed_loops() -> None:
    for loop in [loop for loop in list(_pools) if loop.is_closed()]:
        pool = _pools.pop(loop, None)  # another thread may have come first
        for link in pool.links if pool else ():
            link.abandon()
