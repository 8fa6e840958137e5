"""A link to a Redis Cluster: a connection to each node that has one of our queues."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from redis.exceptions import AskError, MovedError, TryAgainError

from django_kue.errors import StoreUnavailable
from django_kue.store import connections, nodes
from django_kue.store.calls import Call
from django_kue.store.nodes import Address
from django_kue.store.transport import Meanwhile, ServerLink, all_good, is_one_of

# Older clients only use classes for these errors on connections of their own cluster client.
MOVED, MOVING = re.compile(r"^MOVED\b"), re.compile(r"^(ASK|TRYAGAIN)\b")
AGAIN = 0.05  # seconds until a call is repeated whose queue is moving to another node …
AGAIN_UNTIL = 0.4  # … and for how many seconds that's done


class ClusterLink:
    """Sends each call to the node that has its queue, all calls for a node at once.

    A node that's away affects only its own calls: see ``is_partial`` of :class:`StoreUnavailable`. Unless the
    link ``is_patient``, it doesn't wait for a node that's known to be away: the others' queues can't wait.
    """

    works_ahead = False

    def __init__(self, timeout: float, *, is_patient: bool = True) -> None:
        self.timeout = timeout
        self.sender = os.urandom(9).hex().encode()
        self.number = 0
        self._is_patient = is_patient
        self._links: dict[Address, ServerLink] = {}
        self._posted: Sequence[Call[Any]] = ()

    def send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        """As :meth:`ServerLink.send`. Each node gets the whole ``timeout``."""
        return all_good(self.try_send(*calls, timeout=timeout, meanwhile=meanwhile))

    def try_send(
        self, *calls: Call[Any], timeout: float | None = None, meanwhile: Meanwhile | None = None
    ) -> list[Any]:
        """As :meth:`ServerLink.try_send`."""
        seconds = self.timeout if timeout is None else timeout
        again_until = time.monotonic() + AGAIN_UNTIL
        results: list[Any] = [None] * len(calls)
        left = list(range(len(calls)))
        while left:
            nodes.known().refresh(seconds)
            for node, places in self._by_node(calls, left).items():
                answers = self._send_to(node, [calls[i] for i in places], seconds, meanwhile)
                for i, answer in zip(places, answers, strict=True):
                    results[i] = answer
                meanwhile = None
            left = self._to_send_again(results, left) if time.monotonic() < again_until else []
        return results

    def post(self, *calls: Call[Any]) -> None:
        """As :meth:`ServerLink.post`, but the calls are only sent when they're collected."""
        self._posted = calls

    def collect(self) -> list[Any]:
        """As :meth:`ServerLink.collect`."""
        calls, self._posted = self._posted, ()
        return self.try_send(*calls)

    def carry_out(self, command: bytes) -> bool:
        """There's no fast path: first it must be found out which node has the queue."""
        return False

    def command(self, *words: bytes) -> Any:
        """A plain Redis command, to one of the nodes."""
        nodes.known().refresh(self.timeout)
        return self._link(nodes.known().one_present()).command(*words)

    def is_cut(self) -> bool:
        """Whether a node has closed its connection while it was idle."""
        return any(link.is_cut() for link in self._links.values())

    def close(self) -> None:
        self._posted = ()
        for link in self._links.values():
            link.close()

    def _by_node(self, calls: Sequence[Call[Any]], which: list[int]) -> dict[Address | None, list[int]]:
        places: dict[Address | None, list[int]] = {}
        for i in which:
            places.setdefault(nodes.known().home(calls[i].keys[0]), []).append(i)
        return places

    def _send_to(
        self, node: Address | None, calls: list[Call[Any]], seconds: float, meanwhile: Meanwhile | None
    ) -> list[Any]:
        """The results; the same error for all calls if the node can't be reached."""
        if node is None:
            return [_away("no node of the cluster has this queue")] * len(calls)
        known = nodes.known()
        patience = seconds if self._is_patient else known.patience(node, seconds)
        if not patience:
            return [_away(f"the cluster's node {node} is away")] * len(calls)
        begun = time.monotonic()
        try:
            results = self._link(node).try_send(*calls, timeout=patience, meanwhile=meanwhile)
        except StoreUnavailable as error:
            known.failed(node, time.monotonic() - begun)
            results = [error] * len(calls)
        else:
            known.answered(node)
        for result in results:
            if isinstance(result, StoreUnavailable):
                result.is_partial = True
        return results

    def _link(self, node: Address) -> ServerLink:
        if node not in self._links:
            self._links[node] = ServerLink(self.timeout, partial(connections.connection_to, *node))
        return self._links[node]

    def _to_send_again(self, results: Sequence[Any], sent: list[int]) -> list[int]:
        """The calls whose queue has moved to another node, or is about to."""
        causes = {i: results[i].__cause__ for i in sent if isinstance(results[i], StoreUnavailable)}
        moved = [i for i, cause in causes.items() if is_one_of((MovedError,), MOVED, cause)]
        moving = [i for i, cause in causes.items() if is_one_of((AskError, TryAgainError), MOVING, cause)]
        if moved:
            nodes.known().doubt()
        elif moving and self._is_patient:
            time.sleep(AGAIN)
        return moved or (moving if self._is_patient else [])


def _away(why: str) -> StoreUnavailable:
    return StoreUnavailable(f"Redis is unavailable: {why}", may_be_applied=False, is_partial=True)
