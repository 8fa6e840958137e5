"""The stored text of a schedule: ``head|function|JSON``.

The head is a comma-separated list of one-letter tokens, which the scripts read and change:

====  =======================================================================
v     number of this version of the record: a change needs the one that was read
p     paused since, Unix ms
o     no run starts while the one before is still running
d     digest of its declaration, if it's declared in code or settings
z     when a worker last had this declaration, Unix ms
g     no longer declared since, Unix ms: it's off
m     moved: it's off here, and on its way to that queue
t     if it's off (g, m): the tick that would have been next, Unix ms
l     its last tick, Unix ms; noted by the scripts
s     when one of its jobs last completed, Unix ms; noted by the scripts
====  =======================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django_kue import encryption, ticks
from django_kue.codecs import CannotOpen
from django_kue.conf import settings
from django_kue.declared import Plan
from django_kue.ticks import Rule

REMEMBERED = 5  # digests of declarations that newer ones replaced


class Unreadable(ValueError):
    """The stored text isn't a schedule that this release can read."""


@dataclass(frozen=True, slots=True)
class Record:
    """A schedule as stored: what was declared or created, and what was changed since."""

    function: str
    rule: Rule
    catch_up: str
    overlap: bool
    arguments: bytes  # as stored: sealed where encryption is on
    # Of rule, catch_up and overlap, in stored form; everything else belongs to the declaration.
    overrides: Mapping[str, Any] = field(default_factory=dict)
    former: tuple[str, ...] = ()  # digests of older declarations, the newest first
    head: Mapping[str, str] = field(default_factory=dict)

    # ── current values ──

    @property
    def rule_now(self) -> Rule:
        text = self.overrides.get("rule")
        return ticks.decode(text) if text else self.rule

    @property
    def catch_up_now(self) -> str:
        return str(self.overrides.get("catch_up", self.catch_up))

    @property
    def overlap_now(self) -> bool:
        return bool(self.overrides.get("overlap", self.overlap))

    @property
    def version(self) -> str:
        return self.head.get("v", "")

    @property
    def digest(self) -> str:
        """The digest of its declaration; "" if it isn't declared."""
        return self.head.get("d", "")

    @property
    def is_paused(self) -> bool:
        return "p" in self.head

    @property
    def is_off(self) -> bool:
        """Whether it has no next tick."""
        return not self.head.keys().isdisjoint("pgm")

    def ms(self, letter: str) -> int | None:
        """A time in the head."""
        text = self.head.get(letter, "")
        return int(text) if text.isdigit() else None

    def opened(self, queue: str, name: str) -> bytes:
        """Its arguments, unsealed.

        Raises:
            CannotOpen: no key here opens them, or they aren't sealed and ``ONLY_ENCRYPTED`` refuses that.
        """
        if settings.ONLY_ENCRYPTED and encryption.is_on(queue) and not encryption.is_sealed(self.arguments):
            raise CannotOpen(
                'its arguments aren\'t encrypted, and KUE["ONLY_ENCRYPTED"] refuses such schedules'
            )
        return encryption.unseal(self.arguments, encryption.SCHEDULE, queue, name, self.function)

    # ── changes ──

    def with_head(self, **tokens: int | str | None) -> Record:
        """A copy with tokens set, or dropped (``None``)."""
        head = {**self.head, **{letter: str(value) for letter, value in tokens.items() if value is not None}}
        for letter in [letter for letter, value in tokens.items() if value is None]:
            head.pop(letter, None)
        return replace(self, head=head)

    def encode(self) -> bytes:
        """The text to store, as the next version."""
        version = int(self.version or 0) + 1
        head = {**self.head, "v": str(version)}
        head.pop("o", None)
        if not self.overlap_now:
            head["o"] = "1"
        body = {
            "rule": ticks.encode(self.rule),
            "catch_up": self.catch_up,
            "overlap": self.overlap,
            "arguments": self.arguments.decode(),
            "overrides": dict(self.overrides),
            "former": list(self.former),
        }
        tokens = ",".join(sorted(letter + value for letter, value in head.items()))
        return f"{tokens}|{self.function}|{json.dumps(body, ensure_ascii=False)}".encode()


def decode(text: bytes) -> Record:
    """The record that :meth:`Record.encode` wrote.

    Raises:
        Unreadable: it isn't one.
    """
    try:
        tokens, function, rest = text.decode().split("|", 2)
        body = json.loads(rest)
        record = Record(
            function,
            ticks.decode(body["rule"]),
            body["catch_up"],
            body["overlap"],
            body["arguments"].encode(),
            dict(body["overrides"]),
            tuple(body["former"]),
            {token[0]: token[1:] for token in tokens.split(",") if token},
        )
        _ = record.rule_now  # an overridden rule must be readable, too
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"not a schedule's record ({error}): {text[:60]!r}") from error
    return record


def of_plan(plan: Plan, **head: int | str) -> Record:
    """The record of a new schedule."""
    arguments = encryption.seal(plan.arguments, encryption.SCHEDULE, plan.queue, plan.name, plan.function)
    return Record(plan.function, plan.rule, plan.catch_up, plan.overlap, arguments).with_head(**head)
