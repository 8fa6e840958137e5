"""``kue top``: what it draws, and that the terminal is afterwards as it was before."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from django_kue import get_queue, overview
from django_kue.cli import top
from django_kue.cli.text import width
from django_kue.overview import Watch
from django_kue.store import send
from tests.conftest import redis_client
from tests.test_cli.hands import command, enqueued, environment, kue, kue_process
from tests.test_cli.test_workers import announce
from tests.test_engine.hands import Hands, put
from tests.worker_process import hear_interrupts, wait_for

ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"


def look() -> top.Look:
    return top._look(Watch(most=top.MOST_QUEUES, running=top.RUNNING), top.History())


def drawn(columns: int = 80, lines: int = 24, note: str = "") -> list[str]:
    return top.picture(look(), columns, lines, lambda text, role: text, note)


def line_of(start: str, lines: list[str]) -> list[str]:
    [found] = [line for line in lines if line.startswith(start)]
    return found.split()


class Live:
    """``kue top`` on a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], fd: int) -> None:
        self.process = process
        self.fd = fd
        self.said = ""

    def read(self) -> str:
        while select.select([self.fd], [], [], 0)[0]:
            try:
                chunk = os.read(self.fd, 65536)
            except OSError:  # it has ended
                break
            if not chunk:
                break
            self.said += chunk.decode()
        return self.said

    def until(self, text: str) -> None:
        wait_for(lambda: text in self.read(), 20, lambda: f"{text!r} in {self.said[-500:]!r}")

    def press(self, key: str) -> None:
        os.write(self.fd, key.encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def end(self) -> int:
        wait_for(lambda: self.read() and self.process.poll() is not None, 20, "its end")
        self.read()
        assert self.process.returncode is not None
        return self.process.returncode


@contextmanager
def live(*words: str, **changes: str) -> Iterator[Live]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {**environment(**changes), "TERM": "xterm"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        env.pop(name, None)
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        command("top", *words), env=env, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=hear_interrupts,
    )  # fmt: skip
    try:
        yield Live(process, ours)
        assert termios.tcgetattr(theirs) == before
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        os.close(theirs)
        os.close(ours)


# ── what it draws ──


def test_queues_workers_and_running_jobs_are_on_it() -> None:
    process = {"pid": 1, "jobs": [], "done": 0, "memory": 50 * 2**20, "busy": 3, "slots": 8}
    announce("w1", queues=["email"], processes=[process, process])
    enqueued(queue="email")
    enqueued(queue="email", delay=60_000)
    enqueued("shop.jobs.send_receipt", queue="default")
    Hands("default").take()
    lines = drawn()
    head = "1 worker, 2 processes   busy ▕░░░░░░░░░░░░▏ 0 %   6 running   0 jobs ended/s   100 MB"
    assert head.startswith(lines[1].removesuffix("…"))
    titles = line_of("QUEUE", lines)
    assert titles == ["QUEUE", "WAITING", "DELAYED", "ACTIVE", "FAILED", "OLDEST", "ENDED/S", "WORKERS"]
    assert line_of("email", lines)[:5] == ["email", "1", "1", "0", "0"]
    assert line_of("shop.jobs.send_receipt", lines)[1] == "default"


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60), (40, 10), (20, 6), (120, 3)])
def test_it_never_is_wider_or_higher_than_the_terminal(columns: int, lines: int) -> None:
    put("default", 70, options={"title": "日本語の長い題名" * 20})
    Hands("default").take(60)
    redis_client().sadd("{kue}:queues", *(f"queue-with-a-long-name-{number}" for number in range(80)))
    found = drawn(columns, lines, "Redis is unavailable: " + "x" * 300)
    assert len(found) == lines
    if columns >= 40:  # below that it's cut by the terminal
        assert max(map(width, found)) <= columns


def test_where_not_all_queues_fit_those_with_work_come_first() -> None:
    redis_client().sadd("{kue}:queues", *(f"a{number:02}" for number in range(50)))
    enqueued(queue="zebra")
    lines = drawn()
    head = next(number for number, line in enumerate(lines) if line.startswith("QUEUE"))
    assert lines[head + 1].startswith("zebra")


def test_both_tables_have_room_when_both_are_long() -> None:
    redis_client().sadd("{kue}:queues", *(f"a{number:02}" for number in range(50)))
    put("default", 40)
    Hands("default").take(40)
    lines = drawn()
    at = next(number for number, line in enumerate(lines) if line.startswith("RUNNING"))
    assert 8 <= at <= 18


def test_rates_are_differences_of_counters_and_the_trend_shows_them() -> None:
    history = top.History()
    watch = Watch(most=10, running=0)

    def email() -> Any:
        return next(queue for queue in watch.look().overview.queues if queue.name == "email")

    history.add(email(), 100.0)
    for _ in range(6):
        enqueued(queue="email")
    Hands("email").run_all()
    assert history.add(email(), 102.0)[-1] == 3.0
    assert history.add(email(), 104.0)[-1] == 0.0
    assert top._spark([0, 1, 2, 4, 8, 0.001]).strip("\n")[-5:] == "▁▂▄█▁"
    assert top._spark([0.0, 0.0]).strip() == ""


def test_a_look_is_one_round_trip_however_many_queues_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(most=100, running=10)
    watch.look()
    redis_client().sadd("{kue}:queues", *(f"a{number:02}" for number in range(50)))
    watch.look()
    assert len(watch.look().overview.queues) == 55
    rounds: list[int] = []
    monkeypatch.setattr(overview, "send", lambda *calls: rounds.append(len(calls)) or send(*calls))
    watch.look()
    assert rounds == [2 + 55 * 4]


def test_a_hostile_title_cannot_steer_the_terminal() -> None:
    put("default", 1, options={"title": "\x1b[31mred\n"})
    Hands("default").take()
    assert any("\\x1b[31mred\\n" in line for line in drawn())
    assert not any("\x1b" in line or "\n" in line for line in drawn())


def test_without_a_worker_it_says_how_to_start_one() -> None:
    assert drawn()[1] == "No worker is running. Start one: manage.py runworker"


def test_paused_queues_are_marked() -> None:
    get_queue("email").pause()
    assert line_of("email", drawn())[1] == "(paused)"


def test_an_outage_is_told_and_from_when_the_picture_is() -> None:
    seen = look()
    foot = top.picture(seen, 80, 24, lambda text, role: text, "Redis is unavailable: gone")[-1]
    assert re.fullmatch(r"As of \d\d:\d\d:\d\d\. Redis is unavailable: gone", foot)


# ── where there's no terminal ──


def test_once_prints_the_picture_and_ends() -> None:
    enqueued(queue="email")
    said = kue("top", "--once")
    assert said.code == 0
    assert line_of("email", said.lines)[1] == "1"
    assert "\x1b" not in said.out
    assert "quits" not in said.out


def test_in_a_pipe_it_says_what_a_script_should_use() -> None:
    said = kue_process("top")
    assert said.code == 1
    assert "manage.py kue stats --json" in said.err
    assert said.out == ""


# ── live ──


def test_it_takes_the_screen_and_q_gives_it_back() -> None:
    with live() as terminal:
        terminal.until("q quits")
        assert terminal.said.count(ENTERED) == 1
        assert LEFT not in terminal.said
        terminal.press("q")
        assert terminal.end() == 0
        assert terminal.said.endswith(f"\x1b[?7h\x1b[?25h{LEFT}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_and_the_terminal_is_as_before(number: int) -> None:
    with live() as terminal:
        terminal.until("q quits")
        terminal.process.send_signal(number)
        assert terminal.end() == 130
        assert terminal.said.endswith(LEFT)


def test_it_sees_what_changes_draws_for_the_size_there_is_and_can_be_held() -> None:
    with live("--interval", "1") as terminal:
        terminal.until("q quits")
        assert "shop.jobs.send_receipt" not in terminal.said
        enqueued("shop.jobs.send_receipt")
        Hands("default").take()
        terminal.until("shop.jobs.send_receipt")
        assert "TREND" not in terminal.said
        terminal.resize(140, 30)
        terminal.until("TREND")
        terminal.press(" ")
        terminal.until("space goes on")
        terminal.press(" q")  # typed faster than they're read
        assert terminal.end() == 0


def test_an_exception_gives_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Paper:
        size = (80, 24)

        def draw(self, text: str) -> None:
            written.append(text)

    from django_kue.cli.terminal import LEAVE, taken

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), taken(Paper()):  # type: ignore[arg-type]
        _ = 1 / 0
    assert written[-1] == LEAVE
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_outage_is_waited_out_and_the_last_picture_stands() -> None:
    from tests.conftest import free_port, start_redis

    port = free_port()
    server = start_redis(port, "/tmp")
    url = f"redis://127.0.0.1:{port}/0"
    try:
        with live("--interval", "1", KUE_TEST_REDIS=url, KUE_TEST_REDIS_AS=url) as terminal:
            terminal.until("q quits")
            server.terminate()
            server.wait(10)
            terminal.until("As of ")
            server = start_redis(port, "/tmp")
            terminal.said = ""
            terminal.until("q quits")
            terminal.press("q")
            assert terminal.end() == 0
    finally:
        server.terminate()
        server.wait(10)


def test_redis_away_at_the_start_is_one_clear_line() -> None:
    nobody = "redis://127.0.0.1:1/0"
    with live(KUE_TEST_REDIS=nobody, KUE_TEST_REDIS_AS=nobody) as terminal:
        assert terminal.end() == 1
        assert "Redis is unavailable" in terminal.said
        assert ENTERED not in terminal.said
