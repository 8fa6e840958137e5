"""Jobs that differ in their keys and arguments only are stored as if each had been made."""

from __future__ import annotations

import pytest

from django_kue import ids
from django_kue.records import Alike, NewJob, OutboxJob
from django_kue.store import moves

TEMPLATES = {
    "plain": NewJob(b"", "tests.noop"),
    "with a head": NewJob(b"", "tests.noop", priority=7, options={"attempts": 3}, keep=1000),
    "delayed": NewJob(b"", "tests.noop", delay=5000),
    "by an outbox": OutboxJob(b"", "tests.noop", priority=7),
}


@pytest.fixture(params=TEMPLATES.values(), ids=TEMPLATES.keys())
def alike(request: pytest.FixtureRequest) -> Alike:
    return Alike(request.param, ids.new_keys(3), [b"", b"[1]", b'{"k":{"a":2}}'])


def test_they_are_stored_as_if_each_had_been_made(alike: Alike) -> None:
    assert alike.encode() == [job.encode() for job in alike]


@pytest.mark.parametrize("alike", [one for one in TEMPLATES.values() if not one.is_plain], indirect=True)
def test_those_that_take_a_decision_are_sent_one_by_one(alike: Alike) -> None:
    def sent(jobs: Alike | list[NewJob]) -> object:
        call = moves.enqueue("default", jobs, sender=b"sender", number=1)
        return call.script.name, list(call.arguments), call.read([job.key for job in jobs])

    assert sent(alike) == sent(list(alike))


def test_they_are_a_sequence_of_jobs(alike: Alike) -> None:
    made = list(alike)
    assert [alike[number] for number in range(len(alike))] == made
    assert list(alike[1:]) == made[1:]
    assert {type(job) for job in made} == {type(alike.template)}
    assert [(job.key, job.arguments) for job in made] == list(zip(alike.keys, alike.arguments, strict=True))
