"""The store: the only package that talks to Redis, in the terms of the domain.

``moves``, ``reads``, ``audits`` and ``ticking`` say what is asked, as :class:`Call` values; :func:`send` and
:func:`asend` take them to Redis; ``blocking`` waits.
"""

from __future__ import annotations

from typing import Any

from django_kue.errors import StoreError
from django_kue.store import moves, reads, ticking, transport
from django_kue.store.blocking import new_doorbell
from django_kue.store.calls import Call
from django_kue.store.erasing import erase_tests_keys
from django_kue.store.stand_in import StandIn, asubscribe, let_answer, subscribe
from django_kue.store.transport import Link, OwnLink, ask, forget_links, new_link, send
from django_kue.store.transport_async import aask, asend, close_links

__all__ = [
    "Call", "Link", "OwnLink", "StandIn", "aask", "asend", "ask", "asubscribe", "close_links",
    "erase_tests_keys", "forget_links", "moves", "new_doorbell", "new_link", "reads", "send",
    "server_info", "server_setting", "let_answer", "subscribe", "ticking",
]  # fmt: skip


def server_info() -> dict[str, Any]:
    """Redis's own ``INFO``, as texts by name; for a cluster, that of one of its nodes.

    Raises:
        StoreUnavailable: Redis is away.
    """
    link = transport.borrow()
    try:
        reply = link.command(b"INFO")
    finally:
        transport.give_back(link)
    lines = reply.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def server_setting(name: str) -> str | None:
    """A setting of the server's configuration; ``None`` if we may not ask, as on managed servers.

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
    return reply[1].decode() if reply else None
