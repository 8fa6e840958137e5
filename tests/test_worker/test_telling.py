"""Receivers of ends are told one after the other, whatever one of them does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction

from django_kue import ids, signals
from django_kue.execution import DONE, Run
from django_kue.worker.buffer import Buffer
from django_kue.worker.executors import Threads
from django_kue.worker.served import is_short
from django_kue.worker.telling import Ends
from tests.worker_process import wait_for


def ended(count: int) -> list[Run]:
    runs = [Run("default", key, b"1|2|me", b"|tests.gone|", 2, 0.0) for key in ids.new_keys(count)]
    for run in runs:
        run.outcome = DONE
    return runs


def in_a_thread(call: Callable[[], None]) -> None:
    """As an executor does it: with databases of its own. A SystemExit ends no more than the call."""
    thread = threading.Thread(target=Threads._call, args=[call])
    thread.start()
    thread.join()


@contextmanager
def heard(by: Any) -> Iterator[list[str]]:
    """The ids of completed jobs as they're told; ``by`` is called with how many that are by now."""
    told: list[str] = []

    def receiver(job: Any, **kwargs: Any) -> None:
        told.append(job.id)
        by(len(told))

    signals.job_completed.connect(receiver)
    try:
        yield told
    finally:
        signals.job_completed.disconnect(receiver)


@pytest.fixture(autouse=True)
def _unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows yet how long telling takes."""
    monkeypatch.setattr(Ends, "duration", None)


def leave(number: int) -> None:
    if number == 1:
        raise SystemExit


def test_a_receiver_that_exits_keeps_nobody_from_being_told() -> None:
    runs, buffer = ended(3), Buffer()
    with heard(leave) as told:
        in_a_thread(Ends(runs, buffer))
        assert len(told) == 1
        in_a_thread(buffer.pop())
    assert told == [run.id for run in runs]
    assert not len(buffer)


def test_where_telling_takes_long_another_thread_tells_the_rest() -> None:
    runs, buffer, is_over = ended(4), Buffer(), threading.Event()

    def take_long(number: int) -> None:
        if number == 1:
            time.sleep(0.002)
        elif number == 2:
            is_over.wait(10)

    with heard(take_long) as told:
        first = threading.Thread(target=Ends(runs, buffer))
        first.start()
        wait_for(lambda: len(told) == 2)
        assert len(buffer) == 1
        in_a_thread(buffer.pop())
        is_over.set()
        first.join()
    assert told == [run.id for run in runs]
    assert not len(buffer), "one helps"
    assert Ends.duration is not None
    assert not is_short(Ends.duration)


def test_how_long_telling_takes_is_known_afterwards() -> None:
    with heard(lambda number: None):
        in_a_thread(Ends(ended(100), Buffer()))
    assert Ends.duration is not None
    assert 0 < Ends.duration < 0.01


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_a_receiver_leaves_open_isnt_the_next_ones() -> None:
    was_open: list[bool] = []

    def begin(number: int) -> None:
        was_open.append(connections["default"].in_atomic_block)
        transaction.atomic().__enter__()

    with heard(begin):
        in_a_thread(Ends(ended(3), Buffer()))
    assert was_open == [False, False, False]
