"""Workers on a Redis Cluster of three masters, one of which is away: only its own queues stand still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from django_kue import Job
from tests.app.jobs import hold, leave, let_go
from tests.own_server import persistently
from tests.test_engine.test_cluster import Cluster, cluster, frozen, running_cluster
from tests.worker_process import WorkerProcess, broke, finished, marks, wait_marks

__all__ = ["cluster", "running_cluster"]

pytestmark = pytest.mark.slow
LEASE = 3
QUEUES = ["default", "other"]  # they're on different nodes; the keys that are no queue's are beside "default"


@pytest.fixture
def workers(
    cluster: Cluster, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[WorkerProcess]]:
    """Two that serve all queues: what one lost, the other would run."""
    assert len({cluster.home_of(queue) for queue in QUEUES}) == 2
    settings.KUE = {**settings.KUE, "LEASE": LEASE, "QUEUES": {queue: {} for queue in QUEUES}}
    monkeypatch.setenv("KUE_TEST_REDIS_SETTING", f"redis+cluster://127.0.0.1:{cluster.ports[0]}")
    options = "--processes", "1", "--queues", ",".join(QUEUES)
    lease = {"KUE_TEST_LEASE": str(LEASE)}
    with WorkerProcess(*options, **lease) as one, WorkerProcess(*options, **lease) as two:
        yield [one.wait_started(), two.wait_started()]


@contextmanager
def killed(cluster: Cluster, index: int) -> Iterator[None]:
    cluster.kill(index)
    try:
        yield
    finally:
        cluster.restart(index)


def start_long_jobs(queues: list[str]) -> dict[str, Job]:
    jobs = {queue: hold.using(queue=queue).enqueue(queue) for queue in queues}
    for queue in queues:
        wait_marks(queue, 1)
    return jobs


def run_short_jobs(queue: str, seconds: float) -> None:
    """One after the other, for so long: each has to be run before the next."""
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        leave.using(queue=queue).enqueue(f"short-{queue}", number)
        number += 1
        wait_marks(f"short-{queue}", number)


def test_a_node_that_hangs_stands_only_its_own_queues_still(
    cluster: Cluster, workers: list[WorkerProcess]
) -> None:
    jobs = start_long_jobs(QUEUES)
    with frozen(cluster, cluster.home_of("default")):
        run_short_jobs("other", 1.7 * LEASE)
        assert marks("other") == ["start"]
        let_go("other")
        assert finished(jobs["other"]).state == "completed"
    let_go("default")
    assert finished(jobs["default"]).state == "completed"
    leave.using(queue="default").enqueue("after", 1)
    wait_marks("after")
    for queue in QUEUES:
        assert marks(queue) == ["start", "end"]
    assert all(not broke(worker.log) for worker in workers)
    assert [worker.stop() for worker in workers] == [0, 0]


def test_a_node_that_is_killed_stands_only_its_own_queues_still(
    cluster: Cluster, workers: list[WorkerProcess]
) -> None:
    jobs = start_long_jobs(QUEUES)
    with killed(cluster, cluster.home_of("other")):
        run_short_jobs("default", 1.3 * LEASE)
        assert marks("default") == ["start"]
        let_go("default")
        assert finished(jobs["default"]).state == "completed"
    assert marks("default") == ["start", "end"]
    persistently(lambda: leave.using(queue="other").enqueue("after", 1))
    wait_marks("after")
    let_go("other")
    assert all(not broke(worker.log) for worker in workers)
