"""The command as a whole: Redis away, general options, pipes."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_kue.management.commands.kue import SUBCOMMANDS, Command
from tests.conftest import NOBODY
from tests.test_cli.hands import command, enqueued, environment, kue, kue_process
from tests.test_engine.hands import put

ID = "default.AaIO0T7uUtXcBpd13f3FTQ"
CALLS = {
    "stats": [], "jobs": [], "show": [ID], "enqueue": ["tests.app.jobs.noop"], "retry": [ID], "cancel": [ID],
    "promote": [ID], "remove": [ID], "pause": ["email"], "resume": ["email"], "empty": ["email", "--yes"],
    "clean": ["email", "failed", "--yes"], "listen": [], "workers": [], "schedules": [],
    "doctor": [], "top": [],
}  # fmt: skip


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


EACH = [  # the doctor looks into the outboxes, too
    pytest.param(name, marks=pytest.mark.django_db) if name == "doctor" else name for name in CALLS
]


def test_every_subcommand_is_tested_here() -> None:
    assert {*CALLS, "outbox"} == set(SUBCOMMANDS)  # the outbox is in a database: see test_outbox.py


@pytest.mark.parametrize("name", EACH)
def test_redis_away_is_one_clear_line_and_exit_code_1(name: str) -> None:
    with override_settings(KUE={"REDIS": NOBODY, "QUEUES": {"email": {}}}):
        said = kue(name, *CALLS[name])
    assert said.code == 1
    if name == "doctor":
        assert "✗ Redis is unavailable" in said.out
    else:
        assert said.out == ""
        assert "Redis is unavailable: " in said.err
        assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("name", EACH)
def test_a_redis_that_never_answers_is_given_up_in_time(name: str, black_hole: str) -> None:
    kue_settings = {"REDIS": black_hole, "QUEUES": {"email": {}}, "ENQUEUE_TIMEOUT": 0.3}
    started = time.monotonic()
    with override_settings(KUE=kue_settings):
        said = kue(name, *CALLS[name])
    assert said.code == 1
    assert time.monotonic() - started < 1.5


def test_wrong_settings_are_told_without_a_traceback() -> None:
    said = kue_process("stats", KUE_TEST_LEASE="0")
    assert said.code == 1
    assert said.err.startswith('CommandError: KUE["LEASE"] must be seconds')
    assert "Traceback" not in said.err


def test_a_process_ends_with_exit_code_1_when_redis_is_away() -> None:
    nobody = NOBODY
    said = kue_process("stats", KUE_TEST_REDIS=nobody, KUE_TEST_REDIS_AS=nobody)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("CommandError: Redis is unavailable: ")
    assert said.err.endswith("manage.py kue doctor tells you more.\n")


@pytest.mark.parametrize(
    "words",
    [
        "enqueue tests.app.jobs.add --priority highest",
        "enqueue tests.app.jobs.add --attempts 0",
        "enqueue tests.app.jobs.add --attempts x",
        "clean default waiting",
        "jobs --limit 0",
        "jobs --find order_id=1 --text x",
        "jobs --find nobody_declares_this=1",
        "retry",
        "empty default --json",
        "doctor --repair",
        "nonsense",
    ],
)
def test_what_can_not_be_meant_ends_with_exit_code_2(words: str) -> None:
    with pytest.raises(SystemExit) as end:
        Command().run_from_argv(["manage.py", "kue", *words.split()])
    assert end.value.code == 2


def test_djangos_own_options_go_before_and_after_the_subcommand() -> None:
    assert kue_process("--no-color", "stats").code == 0
    assert kue_process("stats", "--no-color", "--settings", "tests.settings", "-v", "0").code == 0


def test_a_reader_that_closes_its_pipe_gets_no_traceback() -> None:
    put("default", 600, options={"title": "x" * 200})  # more than a pipe holds
    process = subprocess.Popen(
        command("jobs", "--limit", "600"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(10) == 1


def test_a_terminal_that_lacks_characters_gets_them_spelt_out() -> None:
    enqueued(options={"title": "Größe – 日本"})
    said = kue_process("jobs", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert said.code == 0
    assert r"Gr\xf6\xdfe \u2013 \u65e5\u672c" in said.out


def test_without_a_subcommand_it_names_them() -> None:
    for said in (kue_process(), kue_process("--help")):
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("usage: ")
        assert all(f"    {name}" in said.out for name in CALLS)
    assert "COMMAND" in kue("--no-color").err


@pytest.mark.parametrize("name", CALLS)
def test_each_subcommand_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert kue(name, "--help").code == 0
    assert SUBCOMMANDS[name].help in " ".join(capsys.readouterr().out.split())
