"""A supervisor's sweeps: what they say of Redis. Whom they take for dead is the engine's to test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_kue import get_queue
from django_kue.store import new_link
from django_kue.worker.graves import Graves
from django_kue.worker.sweeping import Sweeps
from tests.app import jobs
from tests.conftest import redis_client

LOST = "Redis has lost what it held of queue "


class EachTime(Sweeps):
    """Whose sweeps are always due."""

    def sweep(self) -> None:
        self._due_at = 0.0
        self.sweep_if_due()


@pytest.fixture
def sweeps() -> Iterator[EachTime]:
    link = new_link(2.0)
    yield EachTime(link, ("default", "email"), Graves(link), lambda queue, answer: None)
    link.close()


def test_that_redis_came_back_empty_is_said_once(sweeps: EachTime, caplog: pytest.LogCaptureFixture) -> None:
    sweeps.sweep()
    sweeps.sweep()
    assert LOST not in caplog.text, "a new queue has lost nothing"
    redis_client().flushall()
    sweeps.sweep()
    sweeps.sweep()
    assert caplog.text.count(LOST) == 1
    assert f"{LOST}default, email:" in caplog.text


def test_a_queue_that_was_emptied_by_an_operator_has_lost_nothing(
    sweeps: EachTime, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.noop.enqueue_many([()] * 2)
    sweeps.sweep()
    assert get_queue().empty() == 2
    sweeps.sweep()
    assert LOST not in caplog.text
