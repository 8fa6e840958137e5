"""The judges are judged: scripts with a mistake made on purpose, which the model or the audit must notice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from django_kue import scripts
from django_kue.errors import StoreError
from django_kue.store import calls
from tests.test_engine.test_moves_model import SETTINGS, Life

pytestmark = [pytest.mark.foreign_data, pytest.mark.slow]


class Mutant(NamedTuple):
    """A file of ``scripts/``, what stands there, and what stands there instead."""

    path: str
    text: str
    instead: str = ""


MUTANTS = {
    "a job is claimed without a lease": Mutant(
        "moves/claim", "redis.call('HSET', KEYS.leases, unpack(pairs_))"
    ),
    "nobody would notice the death of who claims": Mutant(
        "moves/claim", "redis.call('ZADD', KEYS.owners, string.format('%d', now + lease_ms), owner)"
    ),
    "an enqueue that's sent again makes a second job": Mutant(
        "enqueue_special", "previous == number", "false"
    ),
    "a completed job is on no shelf": Mutant(
        "moves/complete", "redis.call('ZADD', KEYS.completed, unpack(scored))"
    ),
    "a completed job has no outcome": Mutant(
        "moves/complete", "redis.call('HSET', KEYS.outcomes, unpack(stored))"
    ),
    "a lease isn't dropped": Mutant("lib/settle", "redis.call('HDEL', KEYS.leases, unpack(accepted))"),
    "a cancelled job keeps its seat": Mutant(
        "moves/cancel", "record = with_tokens(record, { s = next_seat(head) })"
    ),
    "a stale entry isn't counted": Mutant("lib/waiting", "count_stale(priority, 1))", "1)"),
    "what's given back joins the wrong way round": Mutant(
        "lib/waiting", "for i = #entries, 1, -1 do reversed", "for i = 1, #entries do reversed"
    ),
    "a failed job isn't listed under its function": Mutant(
        "lib/finish", "redis.call('ZADD', KEYS.failed_by .. name_of(record), now_text, key)"
    ),
    "failed jobs aren't counted": Mutant(
        "lib/finish", "now_text, key)\n    count_failed(name_of(record))", "now_text, key)"
    ),
    "a removed job can still be found": Mutant("lib/erase", "redis.call('ZREM', KEYS.search .. hash, key)"),
    "a removed job's slot is free at once": Mutant(
        "moves/remove", "redis.call('HSET', KEYS.ghosts, key, lease)"
    ),
    "a stale worker's word counts": Mutant(
        "lib/settle", "if held[i] ~= lease then\n      refused", "if false then\n      refused"
    ),
    "the dead's jobs aren't suspects": Mutant(
        "lib/rescue", "suspect_all(oldest_first", "release(oldest_first"
    ),
}

# Most are noticed within 30 examples; which ones are tried isn't the same each time.
QUICK = settings(SETTINGS, max_examples=400, phases=[Phase.generate], print_blob=False)


@pytest.fixture
def mutated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    """The scripts are those of a copy, with one mistake."""
    folder = tmp_path / "scripts"
    shutil.copytree(scripts.FOLDER, folder)
    mutant = MUTANTS[request.param]
    path = folder / f"{mutant.path}.lua"
    source = path.read_text()
    assert source.count(mutant.text) == 1, "the mutant's text isn't there, or more than once"
    path.write_text(source.replace(mutant.text, mutant.instead))
    monkeypatch.setattr(scripts, "FOLDER", folder)
    _forget_scripts()
    yield
    monkeypatch.undo()
    _forget_scripts()


def _forget_scripts() -> None:
    for cached in (scripts.load, calls._keys, calls._packed_head):
        cached.cache_clear()


@pytest.mark.parametrize("mutated", MUTANTS, indirect=True)
def test_a_mistake_in_a_script_is_noticed(mutated: None) -> None:
    with pytest.raises((AssertionError, StoreError, Flaky)):
        run_state_machine_as_test(Life, settings=QUICK)
