"""Much at once: everybody's hands on the same jobs, and very many that are due in one moment."""

from __future__ import annotations

import threading
from collections import Counter

from django_kue import bulk, get_queue
from django_kue.conf import settings
from django_kue.listing import Listing
from django_kue.states import State
from tests.conftest import redis_client
from tests.test_engine.hands import Hands, completed, failed, put, texts
from tests.test_faults import percentile, tell
from tests.worker_process import is_well


def test_a_thousand_jobs_that_two_people_retry_at_once_run_once_each() -> None:
    put(count=1000)
    hands = Hands()
    while hands.take(100):
        hands.settle_all(failed())
    assert get_queue().counts()["failed"] == 1000
    begin = threading.Barrier(2)
    done: list[int] = []

    def retry() -> None:
        begin.wait()
        done.append(bulk.apply(Listing(state=State.FAILED), "retry").done)

    people = [threading.Thread(target=retry) for _ in range(2)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert sum(done) == 1000
    keys = Hands().run_all()
    assert max(Counter(keys).values()) == 1
    assert len(keys) == 1000
    assert is_well("default")


def test_a_hundred_thousand_jobs_due_at_once_are_promoted_in_batches() -> None:
    total = 100_000
    for _ in range(total // 1000):
        put(count=1000, delay=3_600_000)
    client = redis_client()
    delayed = f"{settings.PREFIX}:{{default}}:z"
    client.zunionstore(delayed, {delayed: 0})  # an hour later: all are due
    assert get_queue().counts()["delayed"] == total
    hands = Hands()
    hands.turn(0)
    assert get_queue().counts()["delayed"] == total - 256
    keys: set[str] = set()
    took: list[float] = []
    while len(keys) < total:
        before = busy_ms()
        turn = hands.turn(128, dict.fromkeys(list(hands.leases), completed()))
        took.append(busy_ms() - before)
        assert turn.keys
        assert keys.isdisjoint(texts(turn.keys))
        keys.update(texts(turn.keys))
    tell(f"{total} jobs: {len(took)} calls, p99 {percentile(took, 99):.1f} ms, slowest {max(took):.1f} ms")
    assert max(took) < 50
    hands.settle_all(completed())
    assert is_well("default")


def busy_ms() -> float:
    """What Redis has worked so far, which other programs of this machine don't change."""
    cpu = redis_client().info("cpu")
    return 1000 * float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])
