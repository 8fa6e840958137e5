"""``--json``: a document on stdout and nothing else, in the shape that the page promises."""

from __future__ import annotations

import argparse
import re

import pytest

from django_kue import get_queue, schedules
from django_kue.management.commands.kue import SUBCOMMANDS
from tests.app import jobs
from tests.test_cli.hands import ROOT, ended, enqueued, kue
from tests.test_cli.test_workers import announce
from tests.test_engine.hands import completed, failed

NOBODY = "default.AaIO0T7uUtXcBpd13f3FTQ"
PAGE = (ROOT / "docs/reference/command-line.md").read_text("utf-8")


def test_every_command_but_top_has_it() -> None:
    without = []
    for subcommand in SUBCOMMANDS.values():
        parser = argparse.ArgumentParser(add_help=False)
        subcommand.add_arguments(parser)
        if not any("--json" in action.option_strings for action in parser._actions):
            without.append(subcommand.name)
    assert without == ["top"]


def test_the_page_tells_every_commands_shape() -> None:
    [table] = re.findall(r"\| command with `--json`.*?\n\n", PAGE, re.S)
    assert [name for name in SUBCOMMANDS if name != "top" and f"`{name}" not in table] == []


@pytest.mark.parametrize("verb", ["retry", "cancel", "promote", "remove"])
def test_a_verb_tells_what_is_done_and_what_refused_with_its_reason(verb: str) -> None:
    made = {"retry": lambda: ended(failed()), "promote": lambda: enqueued(delay=60_000)}.get(verb, enqueued)()
    said = kue(verb, made, NOBODY, "--json")
    assert said.code == 1
    [refused] = said.json["refused"]
    assert said.json["done"] == [made]
    assert (sorted(refused), refused["id"]) == (["id", "reason"], NOBODY)
    assert NOBODY in refused["reason"]
    assert NOBODY in said.err  # for people who look on


def test_retrying_all_tells_how_many() -> None:
    for _ in range(3):
        ended(failed(), queue="email")
    said = kue("retry", "--queue", "email", "--all-failed", "--json")
    assert (said.code, said.json) == (0, {"queue": "email", "retried": 3, "stayed": 0})


def test_pausing_tells_if_it_changed_anything() -> None:
    get_queue("email").pause()
    assert kue("pause", "email", "other", "--json").json == [
        {"queue": "email", "is_paused": True, "is_changed": False},
        {"queue": "other", "is_paused": True, "is_changed": True},
    ]
    assert kue("resume", "email", "--json").json == [
        {"queue": "email", "is_paused": False, "is_changed": True}
    ]


def test_removing_tells_how_many() -> None:
    enqueued(queue="email")
    enqueued(queue="email", delay=60_000)
    ended(completed(), queue="other")
    assert kue("empty", "email", "--json", "--yes").json == {"queue": "email", "removed": 2}
    assert kue("clean", "other", "completed", "--json", "--yes").json == {"queue": "other", "removed": 1}


def test_nobody_is_asked() -> None:
    ended(failed(), queue="email")
    enqueued(queue="email")
    for command in ("empty email", "clean email failed"):
        said = kue(*command.split(), "--json")
        assert (said.code, said.out) == (2, "")
        assert f"manage.py kue {command} --json --yes" in said.err
    counts = get_queue("email").counts()
    assert (counts["waiting"], counts["failed"]) == (1, 1)


def test_stopping_workers_has_the_shape_of_other_orders() -> None:
    announce("w1")
    announce("w2", age=3000)
    said = kue("workers", "--stop", "w1", "w2", "--json")
    assert said.code == 1
    assert said.json["done"] == ["w1"]
    assert [one["id"] for one in said.json["refused"]] == ["w2"]


def test_so_have_orders_to_schedules() -> None:
    schedules.create("nightly", jobs.noop, every=60)
    said = kue("schedules", "--pause", "nightly", "nobody", "--json")
    assert said.code == 1
    assert said.json["done"] == ["nightly"]
    assert [one["id"] for one in said.json["refused"]] == ["nobody"]


def test_a_workers_document_has_its_memory_and_how_busy_its_processes_are() -> None:
    announce(processes=[{"pid": 1, "jobs": [], "done": 0, "memory": 50, "busy": 3, "slots": 8}])
    [worker] = kue("workers", "--json").json
    assert worker["memory"] == 50
    assert worker["processes"] == [{"pid": 1, "jobs": [], "done": 0, "memory": 50, "busy": 3, "slots": 8}]
