"""What answers in Redis's place while a project's tests run: see :mod:`django_kue.testing`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from asgiref.sync import sync_to_async

from django_kue.store import transport, transport_async
from django_kue.store.blocking import AsyncSubscription, Subscription
from django_kue.store.calls import Call


class StandIn(Protocol):
    """Answers calls as their scripts would, and knows that no events come from anybody else."""

    def before(self, *calls: Call[Any]) -> None:
        """Called before these calls are answered: it may refuse them, or do something first."""

    def answer(self, call: Call[Any]) -> Any: ...
    def nothing_comes(self) -> Exception: ...


class StandInLink:
    """A link to a stand-in."""

    timeout = 0.0
    sender = b"stand-in"

    def __init__(self, one: StandIn) -> None:
        self.number = 0
        self._one = one

    def send(
        self,
        *calls: Call[Any],
        timeout: float | None = None,
        meanwhile: transport.Meanwhile | None = None,
    ) -> list[Any]:
        self._one.before(*calls)
        return [self._one.answer(call) for call in calls]

    try_send = send

    def carry_out(self, command: bytes) -> bool:
        """Nothing is done: stand-ins take calls, not commands."""
        return False

    def command(self, *words: bytes) -> Any:
        raise NotImplementedError(f"there's no Redis here to ask for {words[0].decode()}")

    def is_cut(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


class AsyncStandInLink:
    """The same for asyncio."""

    sender = b"stand-in"

    def __init__(self, one: StandIn) -> None:
        self.number = 0
        self._one = one

    async def send(
        self,
        *calls: Call[Any],
        timeout: float | None = None,
        meanwhile: transport.Meanwhile | None = None,
    ) -> list[Any]:
        await sync_to_async(self._one.before)(*calls)  # in the thread with the database connections
        return [self._one.answer(call) for call in calls]

    async def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """Nothing is open."""


class _Silence:
    """A subscription to events that nobody sends."""

    def __init__(self, one: StandIn) -> None:
        self._one = one

    def messages(self, timeout: float) -> Iterator[tuple[str, bytes]]:
        raise self._one.nothing_comes()

    def close(self) -> None:
        """Nothing is open."""


class _AsyncSilence:
    def __init__(self, one: StandIn) -> None:
        self._one = one

    async def open(self) -> None:
        """There's nothing to open."""

    async def message(self, timeout: float) -> tuple[str, bytes] | None:
        raise self._one.nothing_comes()

    async def close(self) -> None:
        """Nothing is open."""


_current: StandIn | None = None


def let_answer(one: StandIn | None) -> None:
    """Let ``one`` answer all threads of this process in Redis's place; ``None``: Redis does again."""
    global _current
    _current = one
    transport.stand_in = None if one is None else StandInLink(one)
    transport_async.stand_in = None if one is None else AsyncStandInLink(one)


def subscribe(queues: Sequence[str]) -> Any:
    """A :class:`Subscription` to the events of some queues."""
    return Subscription(queues) if _current is None else _Silence(_current)


def asubscribe(queues: Sequence[str]) -> Any:
    """An :class:`AsyncSubscription`, not yet open."""
    return AsyncSubscription(queues) if _current is None else _AsyncSilence(_current)
