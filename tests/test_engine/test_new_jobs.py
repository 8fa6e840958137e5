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


def test_plain_ones_are_sent_with_what_they_share_at_the_beginning() -> None:
    jobs = Alike(NewJob(b"", "tests.noop", priority=7), [b"A" * 22, b"B" * 22], [b"", b"[1]"])
    call = moves.enqueue("default", jobs, sender=b"me", number=5)
    assert call.script.name == "enqueue"
    assert call.arguments[:3] == [b"me", b"5", b"7"]
    assert call.arguments[3:] == [b"A" * 22, b"p7|tests.noop|", b"B" * 22, b"p7|tests.noop|[1]"]
    assert call.read(None) == jobs.keys


def test_those_that_take_a_decision_are_sent_one_by_one() -> None:
    jobs = Alike(NewJob(b"", "tests.noop", delay=5000), [b"A" * 22, b"B" * 22], [b"", b"[1]"])
    call = moves.enqueue("default", jobs, sender=b"me", number=5, is_forwarded=True)
    assert call.script.name == "enqueue_special"
    *first, second = (list(call.arguments)[at : at + 8] for at in (2, 10))
    assert first == [[b"A" * 22, b"|tests.noop|", b"0", b"5000", b"", b"", b"0", b"1"]]
    assert second == [b"B" * 22, b"|tests.noop|[1]", b"0", b"5000", b"", b"", b"0", b"1"]


def test_they_are_a_sequence_of_jobs(alike: Alike) -> None:
    made = list(alike)
    assert [alike[number] for number in range(len(alike))] == made
    assert list(alike[1:]) == made[1:]
    assert {type(job) for job in made} == {type(alike.template)}
    assert [(job.key, job.arguments) for job in made] == list(zip(alike.keys, alike.arguments, strict=True))
