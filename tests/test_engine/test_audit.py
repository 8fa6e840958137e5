"""The audit of a queue: at work, in small slices, with rights that are missing; and what repairs leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from django_kue import keys, schedules
from django_kue.audit import KINDS, Auditor, Fault, audit, look, mend, repair
from django_kue.audit import keys as audited
from django_kue.audit.walk import Pace
from django_kue.codecs import SEAL, search_hash
from django_kue.conf import settings
from django_kue.errors import StoreError
from django_kue.queue import Queue
from django_kue.store import ask, moves
from tests.app.jobs import noop
from tests.conftest import redis_client
from tests.test_engine.hands import (
    RELEASED,
    Hands,
    completed,
    failed,
    job_of,
    put,
    put_one,
    rescue,
    retried,
    texts,
)
from tests.test_schedules.hands import tick as scheduling_tick

QUEUE = Queue("default")
PREFIX = "kue:{default}:"
HOUR = 3_600_000


def kinds(queue: str = "default") -> list[str]:
    return [fault.kind for fault in audit(queue)]


def test_every_key_has_its_type_in_the_audit() -> None:
    assert audited.TYPES.keys() == set(keys.QUEUE_KEYS.values()) - {keys.QUEUE_KEYS["events"]}


# ── a queue at work ──


class Bustle:
    """Threads that do to a queue whatever can be done, until they're told to stop."""

    def __init__(self, *acts: Callable[[], Any]) -> None:
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._act, args=(act,)) for act in acts]
        self.errors: list[Exception] = []
        self.steps = 0

    def __enter__(self) -> Bustle:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _act(self, act: Callable[[], Any]) -> None:
        while not self._is_over.is_set():
            try:
                act()
                self.steps += 1
            except Exception as error:  # told by the test
                self.errors.append(error)
                return


def worker_of(name: str, seed: int) -> Callable[[], Any]:
    hands, random = Hands(name=name), Random(seed)
    ends = [completed(), completed(), failed(), retried(), retried(1), RELEASED]

    def work() -> None:
        held = list(hands.leases)
        turn = hands.turn(
            random.randint(0, 30), {key: random.choice(ends) for key in held[: random.randint(0, 30)]}
        )
        if turn.keys and random.random() < 0.3:
            hands.report(turn.keys[0].decode(), "l", b"a line")
        if random.random() < 0.05:
            hands.let_lease_run_out()
            rescue()

    return work


def client_of(seed: int) -> Callable[[], Any]:
    random = Random(seed)
    mine: list[str] = []

    def ask_for_something() -> None:
        options: list[dict[str, Any]] = [
            {"count": 20},
            {"count": 5, "delay": random.randint(1, 50)},
            {"unique": random.choice("ABC") * 22},
            {"search": (search_hash("order_id", random.randint(1, 5)),)},
            {"priority": random.choice([-5, 7])},
        ]
        mine.extend(put(**random.choice(options)))
        del mine[:-300]
        verb = random.choice(["cancel", "remove", "requeue", "promote", "set_priority"])
        ask(moves.verb(verb, "default", random.sample(mine, min(len(mine), 3)), random.randint(-3, 3)))

    return ask_for_something


def test_a_queue_at_work_gives_no_false_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of some entries, so that jobs move between them all the time."""
    monkeypatch.setattr(Pace, "MOST", 50)
    put(count=1500)
    found: list[Fault] = []
    with Bustle(worker_of("w1", 1), worker_of("w2", 2), client_of(3)) as bustle:
        for _ in range(3):
            found += audit("default")
    assert bustle.errors == []
    assert bustle.steps > 100
    assert found == []


def test_a_repair_of_what_is_over_by_now_changes_nothing() -> None:
    """The audit saw a job nowhere, and a worker's entry without a record; then both were put right."""
    key = put_one()
    entry = redis_client().lpop(f"{PREFIX}w:0")
    redis_client().hset(f"{PREFIX}o", key, "c|1|||")
    found = audit("default")
    assert [fault.kind for fault in found] == ["job.nowhere"]
    job_of(key).set_priority(0)  # gives it a seat, and a place
    redis_client().hdel(f"{PREFIX}o", key)
    repair("default", found)
    assert entry == key.encode()
    assert QUEUE.counts()["waiting"] == 1
    assert [job.key for job in QUEUE.jobs("waiting")] == [key]


def test_a_job_that_is_nowhere_goes_back_to_where_it_was() -> None:
    done, later, soon = put_one(), put_one(delay=HOUR), put_one()
    hands = Hands()
    hands.settle(hands.take_one(), completed("good"))
    redis_client().delete(f"{PREFIX}c", f"{PREFIX}z", f"{PREFIX}w:0")
    assert kinds() == ["job.nowhere"] * 3
    assert mend("default").count == 0
    assert [str(job_of(key).state) for key in (done, later, soon)] == ["completed", "delayed", "waiting"]
    assert job_of(done).result == "good"
    assert hands.take(5) == [soon]


def test_a_job_in_two_places_is_kept_where_it_is_still_to_run() -> None:
    running, waiting, delayed = put(count=3)
    hands = Hands()
    assert hands.take(1) == [running]
    redis, now = redis_client(), 1_700_000_000_000
    redis.rpush(f"{PREFIX}w:0", running)
    redis.zadd(f"{PREFIX}c", {waiting: now})
    redis.lrem(f"{PREFIX}w:0", 1, delayed)
    redis.zadd(f"{PREFIX}z", {delayed: 9_999_999_999_999})
    redis.zadd(f"{PREFIX}x", {delayed: now})
    assert kinds() == ["job.twice"] * 3
    assert mend("default").count == 0
    assert [str(job_of(key).state) for key in (running, waiting, delayed)] == ["active", "waiting", "delayed"]
    assert QUEUE.counts()["waiting"] == 1
    assert hands.take(5) == [waiting]


def test_a_job_that_waits_twice_or_under_another_priority_runs_once_and_under_its_own() -> None:
    twice, astray = put(count=2)
    redis = redis_client()
    redis.lrem(f"{PREFIX}w:0", 1, astray)
    redis.rpush(f"{PREFIX}w:0", twice)
    redis.rpush(f"{PREFIX}w:-5", astray)
    redis.zadd(f"{PREFIX}p", {"-5": 5})
    assert sorted(kinds()) == ["job.misplaced", "job.twice"]
    assert mend("default").count == 0
    assert sorted(Hands().take(5)) == sorted([twice, astray])


def test_an_unreadable_record_is_quarantined_as_failed_and_stays_as_it_is() -> None:
    waiting, delayed = put_one(), put_one(delay=HOUR)
    for key in (waiting, delayed):
        redis_client().hset(f"{PREFIX}d", key, b"rubbish, not a record")
    assert kinds() == ["job.unreadable"] * 2
    assert mend("default").count == 0
    jobs = QUEUE.jobs("failed")
    assert {job.key for job in jobs} == {waiting, delayed}
    assert all(job.error.message == "what is stored is not a job that can be read" for job in jobs)
    assert redis_client().hget(f"{PREFIX}d", waiting) == b"rubbish, not a record"


def test_a_newer_releases_record_is_left_alone() -> None:
    key = put_one()
    redis_client().hset(f"{PREFIX}d", key, b"v9|tests.noop|in words of tomorrow")
    assert audit("default") == []


def test_sealed_arguments_and_progress_are_left_to_who_has_the_key() -> None:
    key = put_one()
    redis_client().hset(f"{PREFIX}d", key, b"|tests.noop|" + SEAL + b"gAAAAA")
    redis_client().hset(f"{PREFIX}pr", key, SEAL + b"gAAAAA")
    assert audit("default") == []


def test_what_is_put_aside_can_be_looked_at() -> None:
    key = put_one()
    redis_client().hset(f"{PREFIX}pr", key, b"{half")
    redis_client().delete(f"{PREFIX}h")
    redis_client().set(f"{PREFIX}h", "a string")
    assert sorted(kinds()) == ["key.type", "progress.unreadable"]
    assert mend("default").count == 0
    assert redis_client().hget(f"{PREFIX}bad:fields", f"pr {key}") == b"{half"
    [aside] = redis_client().keys(f"{PREFIX}bad:h:*")
    assert redis_client().get(aside) == b"a string"


def test_a_lease_that_nobody_watches_gets_a_time_limit_and_then_goes_back() -> None:
    key = put_one()
    hands = Hands()
    hands.take_one()
    redis_client().delete(f"{PREFIX}hb")
    assert kinds() == ["lease.unwatched"]
    assert mend("default").count == 0
    hands.let_lease_run_out()
    assert texts(rescue()) == [key]


def test_an_owner_whose_lease_never_ends_gets_one_that_does() -> None:
    put_one()
    hands = Hands()
    hands.take_one()
    redis_client().zadd(f"{PREFIX}hb", {hands.owner.text: "inf"})
    assert kinds() == ["owner.forever"]
    assert mend("default").count == 0
    seconds, _ = redis_client().time()
    assert redis_client().zscore(f"{PREFIX}hb", hands.owner.text) / 1000 - seconds <= settings.LEASE + 1


def test_a_queue_that_the_registry_forgot_joins_it_again() -> None:
    put_one()
    redis_client().delete("{kue}:queues")
    assert kinds() == ["queue.unregistered"]
    assert mend("default").count == 0
    assert redis_client().smembers("{kue}:queues") == {b"default"}


def test_a_schedule_that_lost_its_next_tick_gets_one_which_is_now() -> None:
    schedules.create("hourly", noop, every=3600)
    schedules.create("paused", noop, every=3600)
    schedules.pause("paused")
    redis_client().delete(f"{PREFIX}sz")
    assert [(fault.kind, fault.name) for fault in audit("default")] == [("schedule.stopped", "hourly")]
    assert mend("default").count == 0
    scheduling_tick("default")
    assert [job.schedule for job in QUEUE.jobs("waiting")] == ["hourly"]


def test_ticks_and_memories_of_a_schedule_without_a_record_are_dropped() -> None:
    schedules.create("hourly", noop, every=3600)
    schedules.run_now("hourly")
    redis_client().delete(f"{PREFIX}sc")
    redis_client().zadd(f"{PREFIX}sz", {"infinite": "inf"})
    assert sorted(kinds()) == ["lists.lost", "schedule.gone", "schedule.gone"]
    assert mend("default").count == 0
    assert not redis_client().exists(f"{PREFIX}sz", f"{PREFIX}sr:hourly")


def test_a_paused_queue_whose_flag_is_garbage_stays_paused() -> None:
    QUEUE.pause()
    redis_client().hset(f"{PREFIX}h", "paused", "yes")
    assert kinds() == ["value.wrong"]
    assert mend("default").count == 0
    assert QUEUE.is_paused
    put_one()
    assert Hands().take() == []


@pytest.mark.parametrize("count", [5, 700])
def test_long_lists_are_audited_in_slices(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is found in one slice is found in many."""
    monkeypatch.setattr(Pace, "MOST", 20)
    line = put(count=count)
    ask(moves.verb("cancel", "default", line[::3]))
    assert audit("default") == []
    redis_client().hincrby(f"{PREFIX}st", "0", 1)
    redis_client().rpush(f"{PREFIX}w:0", "nobody", "nobody~1", "nobody~2")
    [fault] = audit("default")
    assert (fault.kind, fault.name) == ("stale.miscounted", "0")
    assert mend("default").count == 0
    assert QUEUE.counts()["waiting"] == count - len(line[::3])


def test_a_search_that_redis_refuses_is_said_and_the_rest_is_audited() -> None:
    redis = redis_client()
    redis.execute_command("ACL", "SETUSER", "default", "-scan")
    try:
        put_one()
        redis.lpop(f"{PREFIX}w:0")
        found = look("default")
    finally:
        redis.execute_command("ACL", "SETUSER", "default", "+scan")
    assert list(found.kinds) == ["job.nowhere"]
    [said] = found.unchecked
    assert said.startswith("Keys that nothing refers to")
    mend("default")


def test_other_queues_and_other_programs_keys_are_left_alone() -> None:
    put_one()
    put_one("email")
    redis_client().set("kue:{default", 1)
    redis_client().set("kue:{email}:whatsit", 1)
    assert audit("default") == []
    assert kinds("email") == ["key.unknown"]
    redis_client().delete("kue:{email}:whatsit", "kue:{default")


def test_a_prefix_that_looks_like_a_pattern_finds_its_own_keys_only(settings: Any) -> None:
    settings.KUE = {**settings.KUE, "PREFIX": "k?e*[a]\\"}
    put_one()
    redis_client().set("kue-kue:{default}:whatsit", 1)
    assert audit("default") == []
    redis_client().set("k?e*[a]\\:{default}:whatsit", 1)
    assert kinds() == ["key.unknown"]
    redis_client().flushall()


def test_an_audit_changes_nothing_and_a_repair_of_a_sound_queue_neither() -> None:
    from tests.test_engine.hands import snapshot

    put(count=5)
    hands = Hands()
    hands.settle(hands.take_one(), failed())
    before = snapshot()
    assert look("default").count == mend("default").count == 0
    assert snapshot() == before
    assert Auditor("default").unchecked == []


def test_every_kind_that_is_found_is_explained() -> None:
    source = "".join(path.read_text() for path in audited_room())
    for kind in KINDS:
        assert f'"{kind}"' in source, kind
        assert all(text.endswith(".") for text in KINDS[kind])


def audited_room() -> Iterator[Any]:
    from pathlib import Path

    room = Path(audited.__file__).parent
    return (path for path in room.glob("*.py") if path.stem != "faults")


def test_a_wrong_type_is_no_reason_for_the_audit_to_stop() -> None:
    put_one()
    redis_client().delete(f"{PREFIX}p")
    redis_client().set(f"{PREFIX}p", "foreign")
    with pytest.raises(StoreError):
        Hands().take()
    assert kinds() == ["key.type", "level.missing"]
    assert mend("default").count == 0
    assert len(Hands().take()) == 1
