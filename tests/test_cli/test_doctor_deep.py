"""``kue doctor --deep``: what the audit found, for people and for programs, and the repair."""

from __future__ import annotations

from pathlib import Path

import pytest

from django_kue import get_queue
from django_kue.audit import KINDS, audit
from tests.conftest import redis_client
from tests.test_cli.hands import enqueued, kue, kue_terminal, without_color
from tests.test_engine.hands import put

PREFIX = "kue:{default}:"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def broken() -> None:
    """Seven waiting jobs are in no list, and two failed ones are counted that aren't there."""
    put(count=7)
    redis_client().delete(f"{PREFIX}w:0")
    redis_client().zadd(f"{PREFIX}fs", {"shop.send": 2})


def test_when_all_is_sound_it_says_so_and_ends_with_0() -> None:
    enqueued()
    said = kue("doctor", "--deep")
    assert said.code == 0
    assert "✓ default: 1 job, nothing is wrong." in said.lines
    assert said.lines[-1] == "All keys are sound."


@pytest.mark.usefixtures("broken")
def test_findings_are_grouped_counted_and_explained_and_nothing_is_changed() -> None:
    said = kue("doctor", "--deep", "--queue", "default")
    assert said.code == 1
    assert said.lines[0] == "✗ default: 7 jobs, 8 faults."
    assert f"  job.nowhere (7): {KINDS['job.nowhere'].meaning}" in said.lines
    assert "    … and 2 more" in said.lines
    assert f"    → Repair: {KINDS['job.nowhere'].repair}" in said.lines
    assert "    shop.send" in said.lines
    assert said.lines[-2:] == [
        "8 faults.",
        "To repair what can be repaired: manage.py kue doctor --deep --repair",
    ]
    assert len(audit("default")) == 8


@pytest.mark.usefixtures("broken")
def test_json_says_the_same() -> None:
    said = kue("doctor", "--deep", "--queue", "default", "--json")
    [one] = said.json
    assert (said.code, one["queue"], one["jobs"], one["unchecked"]) == (1, "default", 7, [])
    assert {fault["kind"]: fault["count"] for fault in one["faults"]} == {
        "job.nowhere": 7,
        "failed.miscounted": 1,
    }
    assert one["faults"][0]["meaning"] == KINDS[one["faults"][0]["kind"]].meaning


@pytest.mark.usefixtures("broken")
def test_a_repair_asks_first_and_then_all_is_sound() -> None:
    said = kue_terminal("doctor", "--deep", "--repair", typed="no\n")
    assert said.code == 1
    assert "Nothing was repaired." in without_color(said.out)
    assert len(audit("default")) == 8
    said = kue_terminal("doctor", "--deep", "--repair", typed="yes\n")
    assert said.code == 0, said.out
    assert "This repairs 8 faults. No job's record is deleted." in without_color(said.out)
    assert without_color(said.out).splitlines()[-1] == "All keys are sound."
    assert get_queue("default").counts()["waiting"] == 7


@pytest.mark.usefixtures("broken")
def test_a_script_repairs_without_being_asked() -> None:
    said = kue("doctor", "--deep", "--repair", "--json")
    assert said.code == 2
    assert "--json --yes" in said.err
    said = kue("doctor", "--deep", "--repair", "--json", "--no-input")
    assert said.code == 0
    assert [one["faults"] for one in said.json if one["queue"] == "default"] == [[]]
    assert audit("default") == []


def test_what_nobody_should_decide_is_left_and_stays_a_fault() -> None:
    redis_client().set(f"{PREFIX}whatsit", 1)
    said = kue("doctor", "--deep", "--repair", "--yes")
    assert said.code == 1
    assert "  key.unknown (1): Keys that this release doesn't know." in said.lines
    assert redis_client().get(f"{PREFIX}whatsit") == b"1"


def test_hostile_names_can_not_steer_the_terminal() -> None:
    redis_client().set(f"{PREFIX}\x1b[31mred\n", 1)
    said = kue("doctor", "--deep")
    assert "\x1b" not in said.out
    assert "red\\n: string" in said.out


def test_repair_and_queue_need_deep() -> None:
    for words in (["--repair"], ["--queue", "default"]):
        said = kue("doctor", *words)
        assert said.code == 2
        assert "doctor --deep --repair" in said.err


def test_a_queue_that_never_was_is_a_clear_error() -> None:
    said = kue("doctor", "--deep", "--queue", "nobody")
    assert said.code == 1
    assert "nobody" in said.err


def test_the_page_lists_every_kind() -> None:
    page = (ROOT / "docs/how-to/audit.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []
