"""The store: the only room that speaks Redis, in the words of the domain.

``moves`` and ``reads`` say what is asked, as :class:`Call` values; :func:`send` and :func:`asend`
bring them to Redis; ``blocking`` waits.
"""

from __future__ import annotations

from typing import Any

from django_kue.errors import StoreError
from django_kue.store import moves, reads, transport
from django_kue.store.blocking import AsyncSubscription, Doorbell, Subscription
from django_kue.store.calls import Call
from django_kue.store.transport import Link, ask, forget_links, new_link, send
from django_kue.store.transport_async import aask, asend, close_links

__all__ = [
    "AsyncSubscription", "Call", "Doorbell", "Link", "Subscription", "aask", "asend", "ask", "close_links",
    "forget_links", "moves", "new_link", "reads", "send", "server_info", "server_setting",
]  # fmt: skip


def server_info() -> dict[str, Any]:
    """Redis's own ``INFO``, as text by name.

    Raises:
        StoreUnavailable: Redis is away.
    """
    link = transport.borrow()
    try:
        reply = link.command(b"INFO")
    finally:
        transport.give_back(link)
    if isinstance(reply, dict):  # redis-py's cluster client has parsed it, node by node
        reply = next(iter(reply.values())) if all(isinstance(v, dict) for v in reply.values()) else reply
        return {str(name): value for name, value in reply.items()}
    lines = reply.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def server_setting(name: str) -> str | None:
    """A setting of the server's configuration; ``None`` where it may not be asked, as on managed ones.

    Raises:
        StoreUnavailable: Redis is away.
    """
    link = transport.borrow()
    try:
        reply = link.command(b"CONFIG", b"GET", name.encode())
    except StoreError:
        return None
    finally:
        transport.give_back(link)
    if isinstance(reply, Exception):  # a cluster's client gives the refusal as the reply
        return None
    pair = next(iter(reply.items())) if isinstance(reply, dict) and reply else reply
    return _text(pair[1]) if pair else None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
