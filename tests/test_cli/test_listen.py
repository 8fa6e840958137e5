"""``kue listen``: events printed as they come, and sent as signals."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from django_kue import get_queue
from tests.conftest import redis_client
from tests.test_cli.hands import command, enqueued, environment, kue
from tests.test_engine.hands import Hands, completed, failed
from tests.worker_process import wait_for


class Listener:
    """``kue listen`` as a process; ``lines`` is what it has printed."""

    def __init__(self, *words: str, **changes: str) -> None:
        self.process = subprocess.Popen(
            command("listen", *words),
            env=environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def line_with(self, text: str) -> str:
        return wait_for(
            lambda: next((line for line in self.lines if text in line), ""),
            10,
            lambda: f"{text!r}: {self.lines}",
        )

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(10)
        self._reader.join(10)
        return code


@contextmanager
def listening(*words: str, queue: str = "default", **changes: str) -> Iterator[Listener]:
    """A listener that hears: its subscription stands."""
    listener = Listener(*words, **changes)
    try:
        channel = f"kue:{{{queue}}}:ev"
        wait_for(lambda: redis_client().pubsub_numsub(channel)[0][1], 20, "the subscription")
        wait_for(lambda: redis_client().hexists(f"kue:{{{queue}}}:h", "ev"), 10, "its wish for events")
        yield listener
    finally:
        if listener.process.poll() is None:
            listener.process.kill()
            listener.process.wait(10)
        for stream in (listener.process.stdout, listener.process.stderr):
            assert stream is not None
            stream.close()


def test_events_are_printed_as_they_come() -> None:
    with listening() as listener:
        job_id = enqueued("tests.app.jobs.add")
        hands = Hands()
        key = hands.take_one()
        hands.settle(key, completed(3))
        assert listener.line_with("completed").endswith(f"{job_id}  tests.app.jobs.add  result=3")
        assert [line.split()[1] for line in listener.lines] == ["enqueued", "started", "completed"]
        get_queue("email").pause()
        assert listener.line_with("paused").split()[1:] == ["paused", "email"]
        assert listener.end() == 0
        assert "Traceback" not in listener.process.stderr.read()  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_in_order(number: int) -> None:
    with listening() as listener:
        assert listener.end(number) == 0
        assert listener.process.stderr.read() == (  # type: ignore[union-attr]
            "Listening to default, email, other, narrow, slow. Ctrl-C ends it.\n"
        )


def test_one_queue_and_a_json_object_a_line() -> None:
    with listening("email", "--json", queue="email") as listener:
        enqueued()
        job_id = enqueued("tests.app.jobs.add", queue="email")
        hands = Hands("email")
        hands.settle(hands.take_one(), failed(message="a\nb\x9b"))
        listener.line_with('"failed"')
        assert listener.end() == 0
        events: list[dict[str, Any]] = [json.loads(line) for line in listener.lines]
    assert [event["event"] for event in events] == ["enqueued", "started", "failed"]
    assert {event["job"]["id"] for event in events} == {job_id}
    assert events[-1]["data"]["error"]["message"] == "a\nb\x9b"
    assert all("\x9b" not in line for line in listener.lines)


def test_hostile_errors_are_spelt_out() -> None:
    with listening() as listener:
        enqueued("tests.app.jobs.add")
        hands = Hands()
        hands.settle(hands.take_one(), failed(message="a\nb\x1b[31m"))
        assert r"a\nb\x1b[31m" in listener.line_with("failed")
        listener.end()


def test_events_become_signals_for_this_projects_receivers() -> None:
    with listening("--as-signals", KUE_TEST_RECEIVERS="1") as listener:
        job_id = enqueued("tests.app.jobs.add")
        hands = Hands()
        hands.settle(hands.take_one(), failed(message="card declined"))
        heard = wait_for(lambda: heard_signals("job_failed"), 10, "the receiver's mark")
        assert heard[0]["job"] == job_id
        assert heard[0]["sender"] == "tests.app.jobs.add"
        assert "card declined" in heard[0]["exception"]
        assert listener.end() == 0


def heard_signals(name: str) -> list[dict[str, Any]]:
    """What the receivers of ``tests/app/receivers.py`` noted of a signal."""
    notes = [json.loads(note) for note in redis_client().lrange("mark:signals", 0, -1)]
    return [note for note in notes if note["signal"] == name]


def test_an_unknown_queue_is_an_error() -> None:
    said = kue("listen", "emial")
    assert said.code == 1
    assert "Did you mean 'email'?" in said.err
