"""A job whose fields are made when the first of them is read: nobody can tell."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from django_kue import Job
from django_kue.states import State


def _lazily(source: Callable[[], Mapping[str, Any]]) -> Job:
    return Job._lazy("default.AY3w8kR2Sx6mTn0pQv4zWg", "default", source)


def _some_fields() -> dict[str, Any]:
    return {
        "name": "tests.described", "state": State.WAITING, "priority": 5, "attempts_made": 0, "attempts": 4,
        "created_at": datetime(2030, 1, 2, tzinfo=UTC), "_options": {}, "_arguments": b"[17]",
    }  # fmt: skip


def _eagerly() -> Job:
    return Job(id="default.AY3w8kR2Sx6mTn0pQv4zWg", queue="default", **_some_fields())


def test_a_job_is_made_when_a_field_is_read_and_only_once() -> None:
    asked = []
    made = _lazily(lambda: asked.append(1) or _some_fields())  # type: ignore[func-returns-value]
    assert (made.id, made.queue, made.key) == (_eagerly().id, "default", "AY3w8kR2Sx6mTn0pQv4zWg")
    assert hash(made) == hash(_eagerly())
    assert not hasattr(made, "nam")
    assert asked == []
    assert (made.name, made.args, made.worker, made.error) == ("tests.described", (17,), "", None)
    assert asked == [1]


@pytest.mark.parametrize(
    "use",
    [
        repr, str, copy.copy, copy.deepcopy, dataclasses.asdict,
        lambda job: replace(job, state=State.ACTIVE), lambda job: pickle.loads(pickle.dumps(job)),
        lambda job: {job},
    ],
)  # fmt: skip
def test_one_that_was_not_looked_into_is_as_good_as_one_that_was(use: Callable[[Job], Any]) -> None:
    assert _all_of(use(_lazily(_some_fields))) == _all_of(use(_eagerly()))
    looked_into = _lazily(_some_fields)
    assert looked_into.name
    assert _all_of(use(looked_into)) == _all_of(use(_eagerly()))


def _all_of(used: Any) -> Any:
    """A job's fields: two jobs are equal by their ids alone."""
    return dataclasses.asdict(used) if isinstance(used, Job) else used


@pytest.mark.parametrize("make", [lambda: _lazily(_some_fields), _eagerly])
def test_a_job_is_frozen_and_has_no_other_fields(make: Callable[[], Job]) -> None:
    made = make()
    for name in ("id", "state", "worker", "_source", "other"):
        with pytest.raises((AttributeError, TypeError)):  # for what's no field, dataclasses say it oddly
            setattr(made, name, None)
        with pytest.raises((AttributeError, TypeError)):
            delattr(made, name)
    with pytest.raises(AttributeError, match="'Job' object has no attribute 'other'"):
        made.other  # type: ignore[attr-defined]  # noqa: B018
    assert made == _eagerly()


def test_a_source_that_raises_is_asked_again() -> None:
    answers = [ConnectionError("no"), _some_fields()]

    def source() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    made = _lazily(source)
    with pytest.raises(ConnectionError):
        made.name  # noqa: B018
    assert made.name == "tests.described"


def test_two_threads_that_look_into_it_at_once_both_see_it_whole() -> None:
    for _ in range(20):
        both = threading.Barrier(2)

        def source(both: threading.Barrier = both) -> dict[str, Any]:
            with suppress(threading.BrokenBarrierError):
                both.wait(0.2)  # the other thread is in here too
            return _some_fields()

        made = _lazily(source)
        with ThreadPoolExecutor(2) as pool:
            seen = list(pool.map(lambda name: getattr(made, name), ("name", "worker")))  # noqa: B023
        assert seen == ["tests.described", ""]
        assert made == _eagerly()
