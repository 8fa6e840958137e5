"""How calls get to Redis and back, synchronously. ``transport_async`` is its twin.

A link is one connection. It isn't shared between threads while in use; a process keeps idle links
for the next caller. A fork drops them, so that no reply reaches another process.
"""

from __future__ import annotations

import builtins
import os
import re
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Protocol, TypeVar

from django.core.signals import setting_changed
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
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

AWAKE = 0.0001  # seconds for which the thread stays awake waiting for a reply …
SERIES = 0.001  # … if the previous reply came at most this long ago
ASLEEP = 0.1  # seconds for which it doesn't, once another process took this core for longer than SERIES
NEVER = float("-inf")
NIL = b"$-1\r\n"  # an empty reply, in the version of Redis's protocol that connections.py asks for

T = TypeVar("T")
Meanwhile = Callable[[], object]  # what the client does while Redis works

# RedisClusterException, which means that a cluster is away, isn't a RedisError.
NETWORK_ERRORS = (ConnectionError, TimeoutError, OSError, RedisClusterException)
# Redis answers, but not yet, not here or not now: the same call may succeed later.
# redis-py has classes for some, and strips the word from their text; Redis 6.2 has it in a script's error.
TRANSIENT_ERRORS = (  # MovedError is an AskError
    AskError, BusyLoadingError, ClusterDownError, MasterDownError, OutOfMemoryError, ReadOnlyError,
    TryAgainError,
)  # fmt: skip
TRANSIENT = re.compile(
    r"\b(LOADING|READONLY|MISCONF|NOREPLICAS|BUSY|OOM|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK"
    r"|max number of clients|unauthenticated)\b"
)
# What Redis says if there's no password, to a long command without one, and to a wrong password.
NO_ENTRY = re.compile(r"Authentication required|unauthenticated|WRONGPASS|invalid (username-)?password")
# What it says to a user who lacks a right. redis-py strips NOPERM from the text; errors of scripts lack it.
FORBIDDEN = re.compile(r"\bNOPERM\b|no permissions to |user executing the script can't ")
WHICH_RIGHT = "The Redis user lacks a right: ACL LOG shows which, docs/how-to/redis-users.md what it needs"
FULL = "used memory > 'maxmemory'"
# Where in a script Redis refused a call: errors of 6.2 begin with it, those of others end with it.
OF_SCRIPT = re.compile(
    r"^Error running script \(call to f_[0-9a-f]+\): (@user_script: ?\d+: )+(-(OOM )?)?"
    r"|\.? script: [0-9a-f]{40}, on @user_script:\d+\.?$"
)
FROM_REPLICA = re.compile(r"\b(READONLY|MASTERDOWN)\b")


class Link(Protocol):
    """One way to Redis."""

    timeout: float  # seconds that a call may take by default
    sender: bytes
    number: int

    def send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]: ...
    def try_send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]: ...
    def carry_out(self, command: bytes) -> bool: ...
    def command(self, *words: bytes) -> Any: ...
    def is_cut(self) -> bool: ...
    def close(self) -> None: ...


class OwnLink(Link, Protocol):
    """A link that a worker has for itself: the worker can do something else while Redis works."""

    works_ahead: bool  # whether Redis begins at once with what's posted

    def post(self, *calls: Call[Any]) -> None: ...
    def collect(self) -> list[Any]: ...


class ServerLink:
    """A connection to one server (with Sentinel, the current master).

    ``connect`` makes a connection that isn't open yet, instead of :func:`connections.new_connection`.
    """

    works_ahead = True

    def __init__(self, timeout: float, connect: Callable[[float], Any] | None = None) -> None:
        self.timeout = timeout
        self.sender = os.urandom(9).hex().encode()  # names this connection in numbered sends
        self.number = 0
        self._connect = connect
        self._connection: Any = None
        self._poller = select.poll()  # of the connection's socket
        self._prompt_at = NEVER  # when the last reply came, if it came promptly
        self._awake_from = NEVER
        self._allowed = 0.0  # seconds that the socket may wait
        self._posted: Sequence[Call[Any]] = ()

    def send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        """Send all calls at once and read all replies; returns the results in the order of the calls.

        The calls must be independent of each other: one whose script Redis has forgotten is applied
        after the others. ``timeout``: seconds that connecting, sending and waiting for the reply may
        take together, if not the link's own. ``meanwhile`` is called when everything is sent; it must
        not fail.

        Raises:
            StoreUnavailable: Redis is away, or refuses for now; its ``may_be_applied`` says whether
                what was sent may have been applied.
            StoreError: Redis says that the call itself is wrong.
        """
        replies = self._replies(calls, timeout, meanwhile)
        return [_read(call, reply) for call, reply in zip(calls, replies, strict=True)]

    def try_send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        """As :meth:`send`, but an error that concerns only one call takes the place of its result. That a
        node of a cluster is away is such an error, too."""
        replies = self._replies(calls, timeout, meanwhile)
        return [tried(call, reply) for call, reply in zip(calls, replies, strict=True)]

    def carry_out(self, command: bytes) -> bool:
        """Send a packed call whose reply is empty: the fast path of :meth:`send`, which reads this one reply
        itself. False: nothing was done, since there's no connection yet, or Redis has forgotten the script.
        Then use :meth:`send`.

        Raises:
            StoreUnavailable, StoreError: as for :meth:`send`.
        """
        assert not self._posted, "what was posted has to be collected first"
        if self._connection is None:
            return False
        try:
            if self._allowed != self.timeout:
                self._allow(self.timeout)
            sock = self._connection._sock
            sock.sendall(command)
            reply = self._line(sock)
            if reply == NIL:
                return True
            if not reply.startswith(b"-"):
                raise InvalidResponse(f"{reply[:40]!r} where nothing was expected")
            refusal = self._connection._parser.parse_error(reply[1:-2].decode(errors="replace"))
        except BaseException as error:  # noqa: BLE001 - half a command may have got there
            self._give_up(error, may_be_applied=True)
        if isinstance(refusal, NoScriptError):
            return False
        if is_from_replica(refusal):
            self.close()
        raise _meaning_of(refusal) from refusal

    def _line(self, sock: Any) -> bytes:
        """Read a reply of one line.

        In a series of calls that Redis answers at once, the thread stays awake while it waits, since falling
        asleep and being woken would take longer than the answer. Other processes that want this core go
        first, as one may be Redis. One that computes keeps it for so long that it's better not to stay awake
        for a while.
        """
        asked = time.monotonic()
        is_awake = asked - self._prompt_at < SERIES and asked >= self._awake_from
        if is_awake:
            while not self._poller.poll(0) and time.monotonic() - asked < AWAKE:
                os.sched_yield()
            if (now := time.monotonic()) - asked > SERIES:
                self._awake_from = now + ASLEEP
        line = b""
        while not line.endswith(b"\r\n"):
            if not (part := sock.recv(1024)):
                raise ConnectionError("Connection closed by server.")
            line += part
        now = time.monotonic()
        self._prompt_at = now if now - asked < AWAKE else NEVER
        return line

    def post(self, *calls: Call[Any]) -> None:
        """Send calls, and leave reading the replies to :meth:`collect`. Nothing else may be sent before that.
        Raises StoreUnavailable."""
        self._write([call.packed() for call in calls], self._deadline(None))
        self._posted = calls

    def collect(self) -> list[Any]:
        """Wait for the results of what was posted, and return them as :meth:`try_send` does."""
        calls, self._posted = self._posted, ()
        replies = self._mended(calls, self._read_replies(len(calls)), self._deadline(None))
        return [tried(call, reply) for call, reply in zip(calls, replies, strict=True)]

    def _replies(
        self, calls: Sequence[Call[Any]], timeout: float | None, meanwhile: Meanwhile | None
    ) -> list[Any]:
        deadline = self._deadline(timeout)
        return self._mended(
            calls, self._exchange([call.packed() for call in calls], deadline, meanwhile), deadline
        )

    def _mended(self, calls: Sequence[Call[Any]], replies: list[Any], deadline: float) -> list[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                self._mend(calls, replies, deadline)
                break
        return replies

    def _mend(self, calls: Sequence[Call[Any]], replies: list[Any], deadline: float) -> None:
        """Resend what Redis didn't know by its digest; leave a server that's no longer the master."""
        if again := forgotten(replies):
            answers = self._exchange([calls[i].packed_source() for i in again], deadline)
            for i, reply in zip(again, answers, strict=True):
                replies[i] = reply
        if any(map(is_from_replica, replies)):
            self.close()

    def command(self, *words: bytes) -> Any:
        """Send a plain Redis command; returns its reply."""
        (reply,) = self._exchange([pack(*words)], self._deadline(None))
        return _checked(reply)

    def is_cut(self) -> bool:
        """Whether Redis has closed the connection while it was idle, which shows as something to read."""
        return self._connection is not None and bool(self._poller.poll(0))

    def close(self) -> None:
        connection, self._connection, self._posted = self._connection, None, ()
        if connection is not None:
            with suppress(*NETWORK_ERRORS):
                connection.disconnect()

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _exchange(
        self, commands: Sequence[bytes], deadline: float, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        self._write(commands, deadline)
        return self._read_replies(len(commands), meanwhile)

    def _write(self, commands: Sequence[bytes], deadline: float) -> None:
        assert not self._posted, "what was posted has to be collected first"
        is_sent = False
        try:
            connection = self._connected(deadline)
            self._allow(_left(deadline))
            is_sent = True
            connection._sock.sendall(b"".join(commands))
        except BaseException as error:  # noqa: BLE001 - half a command may have got there
            self._give_up(error, may_be_applied=is_sent)

    def _read_replies(self, count: int, meanwhile: Meanwhile | None = None) -> list[Any]:
        try:
            if meanwhile is not None:
                meanwhile()
            return [self._reply(self._connection) for _ in range(count)]
        except BaseException as error:  # noqa: BLE001 - half a reply may be left
            self._give_up(error, may_be_applied=not isinstance(error, BusyLoadingError))

    def _give_up(self, error: BaseException, *, may_be_applied: bool) -> NoReturn:
        """Close the connection, which is of no more use, and raise the error in our terms."""
        self.close()
        if isinstance(error, (*NETWORK_ERRORS, RedisError)):
            raise unavailable(error, may_be_applied=may_be_applied) from error
        raise error

    def _connected(self, deadline: float) -> Any:
        if self._connection is None:
            connection = (self._connect or connections.new_connection)(_left(deadline))
            connection.connect()
            self._connection = connection
            self._allowed = self.timeout
            connection._sock.settimeout(self.timeout)
            self._poller = select.poll()
            self._poller.register(connection._sock, select.POLLIN)
        return self._connection

    def _allow(self, seconds: float) -> None:
        """Set how long the socket may wait. A difference of 1 % isn't worth a system call."""
        if not 0.99 * seconds < self._allowed < 1.01 * seconds:
            self._connection._sock.settimeout(seconds)
            self._allowed = seconds

    @staticmethod
    def _reply(connection: Any) -> Any:
        try:
            return connection.read_response()
        except ResponseError as error:
            return error


def unavailable(error: Exception, *, may_be_applied: bool = True) -> StoreUnavailable:
    """The error to raise when Redis can't be used. ``may_be_applied``: unless that's known to be false."""
    is_silent = isinstance(error, (TimeoutError, builtins.TimeoutError))
    text = str(error).partition(" : <")[0]  # without Sentinel client internals
    text = text or ("no answer in time" if is_silent else type(error).__name__)
    text = OF_SCRIPT.sub("", text)
    if FULL in text:
        text = f"{text.rstrip('.')}. It's full: raise its maxmemory, or make room with manage.py kue clean"
    if NO_ENTRY.search(text):
        text = f'{text.rstrip(".")} (is the password that KUE["REDIS"] leads to right?)'
    if _is_forbidden(error):
        text = f"{text.rstrip('.')}. {WHICH_RIGHT}"
    return StoreUnavailable(
        f"Redis is unavailable: {text.rstrip('.')}", may_be_applied=may_be_applied, is_silent=is_silent
    )


def is_from_replica(reply: Any) -> bool:
    """Whether this server is no longer the master: a new connection finds the one that is."""
    return is_one_of((ReadOnlyError, MasterDownError), FROM_REPLICA, reply)


def forgotten(replies: Sequence[Any]) -> list[int]:
    """The indexes of calls that weren't applied because Redis doesn't know their scripts (any more)."""
    return [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def is_one_of(kinds: tuple[type[Exception], ...], words: re.Pattern[str], reply: Any) -> bool:
    """Whether a reply is an error of these kinds, by the client's class for it or by Redis's own words."""
    return isinstance(reply, kinds) or (isinstance(reply, ResponseError) and bool(words.search(str(reply))))


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise _meaning_of(reply) from reply
    return reply


def _meaning_of(refusal: Exception) -> StoreUnavailable | StoreError:
    """The error to raise when Redis refuses a call."""
    if is_one_of(TRANSIENT_ERRORS, TRANSIENT, refusal):
        return unavailable(refusal, may_be_applied=False)
    if _is_forbidden(refusal):
        text = OF_SCRIPT.sub("", str(refusal)).rstrip(".")
        return StoreError(f"Redis refused a call: {text}. {WHICH_RIGHT}", is_forbidden=True)
    return StoreError(f"Redis refused a call: {refusal}")


def _is_forbidden(error: Exception) -> bool:
    return is_one_of((NoPermissionError,), FORBIDDEN, error)


def _left(deadline: float) -> float:
    """Seconds until then, but never 0, which would tell a socket not to wait at all."""
    return max(deadline - time.monotonic(), 0.001)


def _read(call: Call[T], reply: Any) -> T:
    return call.read(_checked(reply))


def tried(call: Call[T], reply: Any) -> T | StoreUnavailable | StoreError:
    """A call's result, or the error in its place."""
    if not isinstance(reply, Exception):
        return call.read(reply)
    try:
        return _read(call, reply)
    except (StoreUnavailable, StoreError) as error:
        return error


def all_good(results: list[Any]) -> list[Any]:
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def new_link(timeout: float) -> OwnLink:
    """A link for a worker of its own: on a cluster it doesn't wait for a node that's known to be away."""
    if connections.is_cluster():
        return _cluster_link(timeout, is_patient=False)
    return ServerLink(timeout)


def _cluster_link(timeout: float, *, is_patient: bool) -> OwnLink:
    from django_kue.store.cluster import ClusterLink  # it's made of this module's links

    return ClusterLink(timeout, is_patient=is_patient)


stand_in: Link | None = None  # what answers instead of Redis, in tests: see stand_in.py
IDLE = 64  # links that are kept for the next caller, at most
_idle: deque[Link] = deque()


def send(*calls: Call[Any]) -> list[Any]:
    """Send calls over an idle link of this process."""
    link = borrow()
    try:
        return link.send(*calls)
    finally:
        give_back(link)


def ask(call: Call[T]) -> T:
    """Send one call and return its result."""
    result: T = send(call)[0]
    return result


def borrow() -> Link:
    """An idle link, or a new one."""
    if stand_in is not None:
        return stand_in
    try:
        link = _idle.pop()
    except IndexError:
        timeout = settings.ENQUEUE_TIMEOUT
        return _cluster_link(timeout, is_patient=True) if connections.is_cluster() else ServerLink(timeout)
    if link.is_cut():
        link.close()
    return link


def give_back(link: Link) -> None:
    """Keep a link for the next caller, or close it if enough are kept."""
    if link is stand_in:
        return
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
