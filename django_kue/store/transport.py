"""How calls get to Redis and back, synchronously. ``transport_async`` is its twin.

A link is one connection. It isn't shared between threads while in use; a process keeps idle ones
for the next caller. A fork drops them, so that no reply crosses processes.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from django.core.signals import setting_changed
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from django_kue.conf import settings
from django_kue.errors import StoreError, StoreUnavailable
from django_kue.store import connections
from django_kue.store.calls import Call, pack

T = TypeVar("T")

# RedisClusterException, of a cluster that's away, is no RedisError.
NETWORK_ERRORS = (ConnectionError, TimeoutError, OSError, RedisClusterException)
# Redis answers, but not yet, not here or not now: the same call may succeed later.
# redis-py has classes for some and takes the word out of their text; Redis 6.2 has it in a script's error.
TRANSIENT_ERRORS = (  # MovedError is an AskError
    AskError, BusyLoadingError, ClusterDownError, MasterDownError, OutOfMemoryError, ReadOnlyError,
    TryAgainError,
)  # fmt: skip
TRANSIENT = re.compile(
    r"\b(LOADING|READONLY|MISCONF|NOREPLICAS|BUSY|OOM|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK"
    r"|max number of clients)\b"
)
FROM_REPLICA = re.compile(r"\b(READONLY|MASTERDOWN)\b")


class Link(Protocol):
    """One way to Redis."""

    sender: bytes
    number: int

    def send(self, *calls: Call[Any], timeout: float | None = None) -> list[Any]: ...
    def try_send(self, *calls: Call[Any], timeout: float | None = None) -> list[Any]: ...
    def command(self, *words: bytes) -> Any: ...
    def is_cut(self) -> bool: ...
    def close(self) -> None: ...


class ServerLink:
    """A connection to one server (or Sentinel's master of the moment)."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.sender = os.urandom(9).hex().encode()  # names this connection in numbered sends
        self.number = 0
        self._connection: Any = None

    def send(self, *calls: Call[Any], timeout: float | None = None) -> list[Any]:
        """Send all at once, read all; the results in the order of the calls.

        The calls must be independent of each other: one whose script Redis has forgotten is applied
        after the others. ``timeout``: seconds that connecting, sending and waiting for the reply may
        take together, when that's not the link's own.

        Raises:
            StoreUnavailable: Redis is away or refuses for now; its ``may_be_applied`` says whether
                what was sent may have been applied.
            StoreError: Redis says that the call itself is wrong.
        """
        return _all_good(self.try_send(*calls, timeout=timeout))

    def try_send(self, *calls: Call[Any], timeout: float | None = None) -> list[Any]:
        """As :meth:`send`, but an error that concerns one call stands in its place."""
        deadline = self._deadline(timeout)
        replies = self._exchange([call.packed() for call in calls], deadline)
        if again := forgotten(replies):
            answers = self._exchange([calls[i].packed_source() for i in again], deadline)
            for i, reply in zip(again, answers, strict=True):
                replies[i] = reply
        if any(map(is_from_replica, replies)):
            self.close()
        return [_tried(call, reply) for call, reply in zip(calls, replies, strict=True)]

    def command(self, *words: bytes) -> Any:
        """A plain Redis command."""
        (reply,) = self._exchange([pack(*words)], self._deadline(None))
        return _checked(reply)

    def is_cut(self) -> bool:
        """Whether Redis has closed the connection while it was idle: then there's something to read."""
        if self._connection is None:
            return False
        poller = select.poll()
        poller.register(self._connection._sock, select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*NETWORK_ERRORS):
                connection.disconnect()

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _exchange(self, commands: Sequence[bytes], deadline: float) -> list[Any]:
        is_sent = False
        try:
            connection = self._connected(deadline)
            connection._sock.settimeout(_left(deadline))
            is_sent = True
            connection.send_packed_command([b"".join(commands)], check_health=False)
            return [self._reply(connection) for _ in commands]
        except (*NETWORK_ERRORS, RedisError) as error:
            self.close()
            is_refused = isinstance(error, BusyLoadingError)  # an answer, though redis-py counts it here
            raise unavailable(error, may_be_applied=is_sent and not is_refused) from error
        except BaseException:  # half a reply may be left: this connection is of no more use
            self.close()
            raise

    def _connected(self, deadline: float) -> Any:
        if self._connection is None:
            connection = connections.new_connection(_left(deadline))
            connection.connect()
            self._connection = connection
        return self._connection

    @staticmethod
    def _reply(connection: Any) -> Any:
        try:
            return connection.read_response()
        except ResponseError as error:
            return error


class ClusterLink:
    """redis-py's cluster client; each call goes to the node that has its queue.

    The client's sockets have a timeout of their own, the link's: a call's can't shorten it.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.sender = os.urandom(9).hex().encode()
        self.number = 0
        self._client: Any = None

    def send(self, *calls: Call[Any], timeout: float | None = None) -> list[Any]:
        return _all_good(self.try_send(*calls))

    def try_send(self, *calls: Call[Any], timeout: float | None = None) -> list[Any]:
        replies = [self._run(call) for call in calls]
        if any(map(is_from_replica, replies)):
            self.close()
        return [_tried(call, reply) for call, reply in zip(calls, replies, strict=True)]

    def command(self, *words: bytes) -> Any:
        texts = [word.decode() for word in words]  # redis-py looks its policies up by text
        return self._try(
            lambda client: client.execute_command(*texts, target_nodes=client.get_default_node())
        )

    def is_cut(self) -> bool:
        """redis-py's client looks after its connections itself."""
        return False

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _run(self, call: Call[Any]) -> Any:
        keys = call.keys
        tail = (len(keys), *keys, *call.arguments)
        try:
            return self._try(lambda client: client.execute_command("EVALSHA", call.script.digest, *tail))
        except NoScriptError:
            return self._try(lambda client: client.execute_command("EVAL", call.script.source, *tail))

    def _try(self, action: Any) -> Any:
        is_sent = False
        try:
            if self._client is None:
                self._client = connections.new_cluster(self.timeout)
            is_sent = True
            return action(self._client)
        except NoScriptError:
            raise
        except ResponseError as error:
            return error
        except (*NETWORK_ERRORS, RedisError) as error:
            self.close()
            raise unavailable(error, may_be_applied=is_sent) from error


def unavailable(error: Exception, *, may_be_applied: bool = True) -> StoreUnavailable:
    """What to tell people when Redis can't be used. ``may_be_applied``: unless it's known that not."""
    text = str(error).partition(" : <")[0] or type(error).__name__  # without the inside of Sentinels' clients
    return StoreUnavailable(f"Redis is unavailable: {text}", may_be_applied=may_be_applied)


def is_from_replica(reply: Any) -> bool:
    """Whether this server was the master once: a new connection finds the one that is now."""
    return _is_one_of((ReadOnlyError, MasterDownError), FROM_REPLICA, reply)


def forgotten(replies: Sequence[Any]) -> list[int]:
    """Which calls weren't applied, because Redis doesn't know their scripts (any more)."""
    return [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _is_one_of(kinds: tuple[type[Exception], ...], words: re.Pattern[str], reply: Any) -> bool:
    return isinstance(reply, kinds) or (isinstance(reply, ResponseError) and bool(words.search(str(reply))))


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        if _is_one_of(TRANSIENT_ERRORS, TRANSIENT, reply):
            raise unavailable(reply, may_be_applied=False) from reply
        raise StoreError(f"Redis refused a call: {reply}") from reply
    return reply


def _left(deadline: float) -> float:
    """Seconds till then, never none: a socket would take 0 for "don't wait at all"."""
    return max(deadline - time.monotonic(), 0.001)


def _read(call: Call[T], reply: Any) -> T:
    return call.read(_checked(reply))


def _tried(call: Call[T], reply: Any) -> T | StoreUnavailable | StoreError:
    try:
        return _read(call, reply)
    except (StoreUnavailable, StoreError) as error:
        return error


def _all_good(results: list[Any]) -> list[Any]:
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def new_link(timeout: float) -> Link:
    """A link of one's own, for a worker."""
    return ClusterLink(timeout) if connections.is_cluster() else ServerLink(timeout)


IDLE = 64  # links at most that are kept for the next caller
_idle: deque[Link] = deque()


def send(*calls: Call[Any]) -> list[Any]:
    """Send calls over an idle link of this process."""
    link = borrow()
    try:
        return link.send(*calls)
    finally:
        give_back(link)


def ask(call: Call[T]) -> T:
    """Send one call, and give its result."""
    result: T = send(call)[0]
    return result


def borrow() -> Link:
    """An idle link, or a new one."""
    try:
        link = _idle.pop()
    except IndexError:
        return new_link(settings.ENQUEUE_TIMEOUT)
    if link.is_cut():
        link.close()
    return link


def give_back(link: Link) -> None:
    """Keep a link for the next caller, or close it when enough are kept."""
    if len(_idle) < IDLE:
        _idle.append(link)
    else:
        link.close()


def forget_links(**kwargs: Any) -> None:
    """Close idle links, for example because the settings changed."""
    if kwargs.get("setting") in (None, "KUE", "CACHES"):
        while _idle:
            _idle.pop().close()


def _drop_links() -> None:
    global _idle
    _kept.append(_idle)  # not closed: the sockets are the parent's
    _idle = deque()


_kept: list[deque[Link]] = []
os.register_at_fork(after_in_child=_drop_links)
setting_changed.connect(forget_links, dispatch_uid="django_kue.transport")
