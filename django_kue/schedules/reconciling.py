"""Turns declarations into schedules, and keeps what people have changed.

Each worker does this for its queues, when it starts and regularly after that. Two releases may do it side by
side:

- A declaration that nobody has seen before is the newest, and takes over its schedule. Its digest is noted
  along with those of the declarations before it, so that an older release's workers leave the schedule alone.
- Workers stamp what they declare. A schedule that nobody has stamped for :data:`GONE` is no longer declared:
  it's switched off, and an older declaration may have it back (after a rollback of the release).
- A schedule that moves to another queue, which may be on another shard, is switched off there, created here,
  and then deleted there. If a worker dies in between, the schedule stays off until the next worker goes on.

This also ensures that a schedule that's on has a next tick, even after a clock was wrong or a key was lost.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import chain

from django_kue.declared import Plan
from django_kue.schedules import shelf
from django_kue.schedules.record import REMEMBERED, Record, of_plan
from django_kue.schedules.shelf import Place
from django_kue.store import ask, reads, send, ticking
from django_kue.store.ticking import OFF

logger = logging.getLogger("django_kue.worker")

STAMP = 20.0  # seconds between two rounds of a worker, in which it looks and stamps
GONE = 60_000  # ms without a stamp, after which no running worker declares it


def reconcile(queues: Collection[str], plans: Mapping[str, Plan]) -> None:
    """Bring the schedules of a worker's queues in line with the declarations."""
    mine = {name: plan for name, plan in plans.items() if plan.queue in queues}
    _stamp(mine)  # first: even if one of them goes wrong later, the others count as declared
    places: dict[str, list[Place]] = defaultdict(list)
    for place in shelf.every_place():
        places[place.name].append(place)
    for name, plan in mine.items():
        _declare(plan, places[name])
    for place in chain(*places.values()):
        if place.queue in queues:
            if place.name not in mine:
                _let_go(place)
            _keep_coming(place)


def _stamp(plans: Mapping[str, Plan]) -> None:
    digests: dict[str, dict[str, str]] = defaultdict(dict)
    for plan in plans.values():
        digests[plan.queue][plan.name] = plan.digest
    if digests:
        send(*[ticking.seen(queue, some) for queue, some in digests.items()])


def _declare(plan: Plan, places: list[Place]) -> None:
    on = [place for place in places if "m" not in place.record.head]
    if not places:
        now_ms = ask(reads.registry()).now_ms
        shelf.add_first(plan.queue, plan.name, _new(plan, now_ms), shelf.word(plan.rule.after(now_ms)))
    elif not on:
        _take_over(places[0], plan)  # whoever was moving it died
    elif len(places) > len(on):
        for place in places:
            if place not in on:  # it has arrived in the other queue
                shelf.put(place, None)
    elif on[0].record.digest == plan.digest:
        _revive(on[0])
    elif _is_newest(plan, on[0]):
        logger.info("schedule %r: its declaration is new, and takes over", plan.name)
        _take_over(on[0], plan)


def _take_over(place: Place, plan: Plan) -> None:
    if place.queue != plan.queue:
        _move(place, plan)
    else:
        record = _renewed(place, plan)
        shelf.put(place, record, _next(place, record))


def _new(plan: Plan, now_ms: int) -> Record:
    return of_plan(plan, d=plan.digest, z=now_ms)


def _is_newest(plan: Plan, place: Place) -> bool:
    record = place.record
    return not record.digest or plan.digest not in record.former or _is_gone(place)


def _is_gone(place: Place) -> bool:
    return place.now_ms - (place.record.ms("z") or 0) > GONE


def _renewed(place: Place, plan: Plan) -> Record:
    """The record of a new declaration, keeping what people have changed and what ticks have noted."""
    old = place.record
    former = [digest for digest in (old.digest, *old.former) if digest not in ("", plan.digest)]
    head = {letter: text for letter, text in old.head.items() if letter in "vpls"}
    new = replace(_new(plan, place.now_ms), overrides=old.overrides, former=tuple(former[:REMEMBERED]))
    return new.with_head(**head)


def _next(place: Place, new: Record) -> int | str:
    """The next tick under a new record: the old one, if it's due or the rule hasn't changed."""
    if new.is_off:
        return OFF
    standing = place.stored.next_ms or place.record.ms("t")
    if standing is not None and (
        standing <= place.now_ms or shelf.rules_equal(new.rule_now, place.record.rule_now)
    ):
        return standing
    return shelf.next_of(new.rule_now, place)


def _revive(place: Place) -> None:
    """Switch a schedule on again that nobody declared for a while; its ``catch_up`` applies to that time."""
    if "g" in place.record.head:
        record = place.record.with_head(g=None, t=None, z=place.now_ms)
        shelf.put(place, record, _next(place, record))


def _let_go(place: Place) -> None:
    record = place.record
    if record.digest and _is_gone(place) and record.head.keys().isdisjoint("gm"):
        logger.warning("schedule %r isn't declared any more, and is switched off", place.name)
        shelf.put(place, record.with_head(g=place.now_ms, t=place.stored.next_ms), OFF)


def _keep_coming(place: Place) -> None:
    """Set the next tick of a schedule that's on, if it's missing or later than its rule says."""
    standing, record = place.stored.next_ms, place.record
    if record.is_off:
        return
    coming = shelf.next_of(record.rule_now, place)
    is_lost = isinstance(coming, int) and (standing is None or standing > coming)
    if is_lost and shelf.put(place, record, coming):
        logger.warning(
            "schedule %r had lost its next tick, or a wrong clock had set it too far ahead", place.name
        )


def _move(place: Place, plan: Plan) -> None:
    """Move a schedule to another queue, in three steps; any worker can continue after each."""
    if "m" not in place.record.head:
        leaving = place.record.with_head(m=plan.queue, t=place.stored.next_ms)
        if not shelf.put(place, leaving, OFF):
            return  # another worker was quicker
        there = [one for one in shelf.places_of(plan.name) if one.queue == place.queue]
        if not there:
            return  # another worker has continued
        place = there[0]
    record = _renewed(place, plan).with_head(v=None)
    shelf.add(plan.queue, plan.name, record, _next(place, record))
    shelf.put(place, None)
