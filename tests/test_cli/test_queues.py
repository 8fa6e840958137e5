"""``kue stats|pause|resume|empty|clean``."""

from __future__ import annotations

from datetime import datetime

import pytest

from django_kue import get_queue
from django_kue.overview import overview
from tests.test_cli.hands import ended, enqueued, kue, kue_process, kue_terminal, without_color
from tests.test_cli.test_workers import announce
from tests.test_engine.hands import Hands, completed, failed

STATES = ["delayed", "waiting", "active", "completed", "failed", "cancelled"]


def row(queue: str) -> list[str]:
    [line] = [line for line in kue("stats").lines if line.startswith(f"{queue} ")]
    return line.split()


def test_stats_has_a_row_for_each_queue_and_a_total() -> None:
    for _ in range(2):
        enqueued(queue="email")
    enqueued(queue="email", delay=60_000)
    ended(failed())
    ended(completed())
    lines = kue("stats").lines
    head = ["QUEUE", "WAITING", "DELAYED", "ACTIVE", "FAILED", "COMPLETED", "CANCELLED", "OLDEST"]
    assert lines[0].split() == [*head, "PER", "MIN", "WORKERS"]
    assert row("email")[1:7] == ["2", "1", "0", "0", "0", "0"]
    assert row("default")[1:7] == ["0", "0", "0", "1", "1", "0"]
    assert row("all")[1:7] == ["2", "1", "0", "1", "1", "0"]


def test_stats_says_when_no_worker_serves_a_queue() -> None:
    announce("w1", queues=["email"])
    assert row("email")[-1] == "1"
    assert row("default")[-2:] == ["no", "worker"]


def test_a_lost_or_stopping_worker_serves_nothing() -> None:
    announce("lost", queues=["email"], age=3000)
    announce("stopping", queues=["email"], state="stopping")
    assert row("email")[-2:] == ["no", "worker"]


def test_stats_marks_what_is_paused_or_undeclared() -> None:
    get_queue("email").pause()
    enqueued(queue="bygone")
    said = kue("stats").out
    assert "email (paused)" in said
    assert "email was paused" in said
    assert "bygone (undeclared)" in said


def test_stats_as_json_has_stable_keys_and_iso_times() -> None:
    get_queue("email").pause()
    enqueued(queue="email")
    [email] = [queue for queue in kue("stats", "--json").json if queue["queue"] == "email"]
    assert sorted(email) == [
        "counts", "is_declared", "oldest_waiting", "paused_since", "per_minute", "queue", "workers",
    ]  # fmt: skip
    assert sorted(email["counts"]) == sorted(STATES)
    assert email["counts"]["waiting"] == 1
    assert email["oldest_waiting"] >= 0
    assert datetime.fromisoformat(email["paused_since"]).utcoffset() is not None


def test_the_rate_counts_what_ended_in_the_last_minute() -> None:
    hands = Hands("email")
    for _ in range(7):
        enqueued(queue="email")
    hands.run_all()
    ended(failed(), queue="email")
    [email] = [queue for queue in overview().queues if queue.name == "email"]
    assert email.per_minute == pytest.approx(8, abs=0.5)  # a little less if a minute begins just now


def test_stats_fits_a_narrow_terminal_by_leaving_columns_out() -> None:
    enqueued()
    said = kue_terminal("stats", columns=60)
    table = without_color(said.out).splitlines()
    assert said.code == 0
    assert all(len(line) <= 60 for line in table[:-1])
    assert "WAITING" in table[0]
    assert "FAILED" in table[0]
    assert table[-1].startswith("(too narrow for: ")


def test_a_terminal_gets_colours_and_a_pipe_none() -> None:
    assert "\x1b[" in kue_terminal("stats").out
    assert "\x1b[" not in kue_process("stats").out
    assert "\x1b[" in kue_process("stats", "--force-color").out


# ── pause and resume ──


def test_pause_and_resume_say_whether_they_changed_something() -> None:
    assert kue("pause", "email", "other").lines == ["email is paused.", "other is paused."]
    assert kue("pause", "email").lines == ["email was paused already."]
    assert get_queue("email").is_paused
    assert kue("resume", "email").lines == ["email is running."]
    assert not get_queue("email").is_paused
    assert get_queue("other").is_paused


def test_an_unknown_queue_is_an_error_with_the_close_name_and_nothing_is_done() -> None:
    said = kue("pause", "other", "emial")
    assert said.code == 1
    assert "Did you mean 'email'?" in said.err
    assert not get_queue("other").is_paused


# ── empty and clean ──


def test_empty_removes_what_waits_and_is_delayed_when_its_sure() -> None:
    for options in ({}, {}, {"delay": 60_000}):
        enqueued(queue="email", **options)
    ended(failed(), queue="other")
    assert kue("empty", "email", "--yes").lines == ["3 jobs removed from email."]
    assert get_queue("email").counts() == dict.fromkeys(STATES, 0)
    assert kue("empty", "other", "--no-input").lines == ["0 jobs removed from other."]
    assert get_queue("other").counts()["failed"] == 1


def test_empty_asks_and_only_yes_is_yes() -> None:
    enqueued(queue="email")
    refused = kue_terminal("empty", "email", typed="y\n")
    assert refused.code == 1
    assert "This removes 1 waiting and 0 delayed jobs of email for good." in without_color(refused.out)
    assert "Nothing was removed." in refused.out
    assert get_queue("email").counts()["waiting"] == 1
    assert kue_terminal("empty", "email", typed="yes\n").code == 0
    assert get_queue("email").counts()["waiting"] == 0


def test_empty_without_anybody_to_ask_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(prompt: str) -> str:
        raise EOFError

    enqueued(queue="email")
    monkeypatch.setattr("builtins.input", nobody)
    said = kue("empty", "email")
    assert said.code == 1
    assert "give --yes" in said.err
    assert get_queue("email").counts()["waiting"] == 1


def test_clean_removes_finished_jobs_of_one_state_by_age() -> None:
    ended(completed())
    ended(failed())
    assert kue("clean", "default", "complete", "--older-than", "1h", "--yes").lines == [
        "0 completed jobs removed from default."
    ]
    assert kue("clean", "default", "complete", "--yes").lines == ["1 completed job removed from default."]
    assert get_queue("default").counts()["failed"] == 1


def test_clean_asks_too() -> None:
    ended(failed())
    refused = kue_terminal("clean", "default", "failed", typed="no\n")
    assert refused.code == 1
    assert "This removes 1 failed job of default for good." in without_color(refused.out)
    older = without_color(kue_terminal("clean", "default", "failed", "--older-than", "3d", typed="\n").out)
    assert "up to 1 failed job of default (those that finished more than 3 d ago) for good." in older
    assert get_queue("default").counts()["failed"] == 1
    assert kue_terminal("clean", "default", "failed", typed="yes\n").code == 0
    assert get_queue("default").counts()["failed"] == 0


def test_clean_refuses_states_that_arent_finished_and_ages_that_arent_times() -> None:
    enqueued()
    said = kue("clean", "default", "waiting")
    assert said.code == 2
    assert "manage.py kue empty default" in said.err
    assert (
        "write for example 90 (seconds), 15m, 12h or 3d"
        in kue("clean", "default", "failed", "--older-than", "x").err
    )
    assert "the states are delayed, waiting" in kue("clean", "default", "done").err
    assert get_queue("default").counts()["waiting"] == 1
