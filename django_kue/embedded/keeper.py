"""The keeper: a small, separate process that starts the private Redis server, watches it, and stops it
when nobody has been connected for a while.

It runs as a script, with nothing but the standard library, so that it starts fast and stays small::

    python -I -S keeper.py FOLDER SOCKET IDLE_SECONDS SERVER [OPTION …]

Until the server answers, anything that the keeper writes to standard output says why it couldn't start one.

Three lock files in the folder show who is alive. The system releases them however a process ends:

=============  ==============================================================================
start.lock     held by whoever starts or stops the server: only one process at a time
keeper.lock    held by the keeper
server.lock    held by the server, which inherits it, so that two never write the same files
=============  ==============================================================================
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PATIENCE = 10.0  # seconds for a stopping server to be gone, or for another keeper to finish its work
LOADING_PATIENCE = 25.0  # seconds for a server to read its files
QUICK_DEATH = 2.0  # seconds; a server that crashes sooner isn't restarted
LOG_LIMIT = 1_000_000  # bytes


class CannotStart(Exception):
    """The server didn't start; the message is for people."""


class Terminated(BaseException):
    """SIGTERM arrived, most likely because the machine is shutting down."""


class ServerError(Exception):
    """The server answered with an error."""


class Connection:
    """A connection to the server: one command, one reply. Usable as a context manager."""

    def __init__(self, path: str, timeout: float = 2.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._replies = self._socket.makefile("rb")

    def ask(self, *words: str) -> str:
        """The reply to a command.

        Raises:
            ServerError: the server refuses it.
            OSError: the server is away, or silent for longer than the timeout.
        """
        parts = [f"*{len(words)}\r\n", *(f"${len(word.encode())}\r\n{word}\r\n" for word in words)]
        self._socket.sendall("".join(parts).encode())
        line = self._replies.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, text = line[:1], line[1:-2].decode(errors="replace")
        if kind == b"-":
            raise ServerError(text)
        if kind == b"$":
            return self._replies.read(int(text) + 2)[:-2].decode(errors="replace")
        return text

    def is_cut_within(self, seconds: float) -> bool:
        """Sleep for so long; if the server closes the connection, return True at once."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def answers(path: str) -> bool:
    """Whether a server listens at this socket and is ready for commands."""
    try:
        with Connection(path) as connection:
            return connection.ask("PING") == "PONG"
    except (OSError, ServerError):  # away, hung, or still loading its files
        return False


class Lock:
    """A lock file. A holder loses it with its last descriptor, at the latest when the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, patience: float = 0.0) -> bool:
        """Try to get the lock for this many seconds; True if it's ours now."""
        deadline = time.monotonic() + patience
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(self._descriptor)
                    return False
                time.sleep(0.01)
            else:
                return True

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a process that was forked meanwhile has a copy
        os.close(self._descriptor)

    def leave_to(self, command: list[str], log: int) -> subprocess.Popen[bytes]:
        """Start a process that takes over the lock."""
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._descriptor],
            )
        finally:
            os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds this lock file."""
    lock = Lock(path)
    if lock.acquire():
        lock.release()
        return False
    return True


def end_server(folder: Path, socket_path: str) -> bool:
    """Shut the server down, and wait until it's gone, with its files complete; False if it isn't gone."""
    with contextlib.suppress(OSError, ServerError), Connection(socket_path) as connection:
        connection.ask("SHUTDOWN")  # success means that the connection is closed
    return is_gone(folder, socket_path, PATIENCE)


def is_gone(folder: Path, socket_path: str, patience: float) -> bool:
    """Whether the server has ended; one that doesn't answer gets this many seconds to end."""
    deadline = time.monotonic() + patience
    while folder.exists() and is_held(folder / "server.lock"):
        if answers(socket_path) or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Keeper:
    """Starts the server, watches it, and stops it."""

    def __init__(self, folder: Path, socket_path: str, idle: float, command: list[str]) -> None:
        self.folder = folder
        self.socket_path = socket_path
        self.idle = idle
        self.command = command
        self.log = folder / "server.log"
        self._server: subprocess.Popen[bytes] | None = None  # None: not our child, but an orphan
        self._booted_at = 0.0

    def start(self) -> bool:
        """Make sure that the server runs; False if another keeper has done that already.

        Raises:
            CannotStart: it doesn't; the message says why.
        """
        if not self._is_the_only_one():
            return False
        lock = Lock(self.folder / "server.lock")
        deadline = time.monotonic() + LOADING_PATIENCE
        while not lock.acquire(0.05):
            if answers(self.socket_path):  # an orphan: its keeper was killed
                return True
            if time.monotonic() > deadline:
                raise CannotStart("an earlier server still runs, but doesn't answer")
        self._boot(lock)
        return True

    def watch(self) -> None:
        """Watch until the server has ended, stopped by us or by somebody else."""
        while not self._watch_one():
            if not self._should_boot_again():
                return
            lock = Lock(self.folder / "server.lock")
            if not lock.acquire(PATIENCE):
                raise CannotStart("the server crashed, but something still holds its lock")
            self._boot(lock)

    def _is_the_only_one(self) -> bool:
        lock = Lock(self.folder / "keeper.lock")  # kept until the process ends
        deadline = time.monotonic() + PATIENCE
        while not lock.acquire(0.05):
            if answers(self.socket_path):
                return False
            if time.monotonic() > deadline:
                raise CannotStart(f"the server at {self.socket_path} runs, but doesn't answer")
        return True

    def _boot(self, lock: Lock) -> None:
        log = self.open_log()
        try:
            self._booted_at = time.monotonic()
            self._server = lock.leave_to(self.command, log)
        except OSError as error:
            raise CannotStart(f"{self.command[0]} can't be run: {error}") from error
        finally:
            os.close(log)
        self._wait_until_ready(self._server)

    def open_log(self) -> int:
        """A descriptor that appends to the log, which is emptied first if it has grown large."""
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if os.fstat(log).st_size > LOG_LIMIT:
            os.ftruncate(log, 0)
        return log

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        while not answers(self.socket_path):
            if server.poll() is not None:
                raise CannotStart(
                    f"{self.command[0]} ended at once. The end of its log:\n{self._last_words()}"
                )
            if time.monotonic() > self._booted_at + LOADING_PATIENCE:
                server.terminate()
                server.wait()
                raise CannotStart(f"{self.command[0]} wasn't ready within {LOADING_PATIENCE:g} seconds")
            time.sleep(0.01)

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-6:])

    def _should_boot_again(self) -> bool:
        """Whether to restart the server: one of ours that crashed is, so that its users can go on."""
        if self._server is None or self._server.wait() == 0:
            return False
        return time.monotonic() > self._booted_at + QUICK_DEATH and self.folder.exists()

    def _watch_one(self) -> bool:
        """Watch the server until it ends; True if we stopped it."""
        quiet_since = time.monotonic()
        seen = ""
        while True:
            try:
                with Connection(self.socket_path) as connection:
                    while not connection.is_cut_within(min(1.0, max(0.05, self.idle / 4))):
                        alone, now_seen = _look(connection)
                        if not alone or now_seen != seen:
                            seen, quiet_since = now_seen, time.monotonic()
                        elif time.monotonic() - quiet_since >= self.idle and self._ended(connection, seen):
                            return True
                        if not os.path.exists(self.socket_path):  # nobody can reach it any more
                            connection.ask("SHUTDOWN")
            except (TimeoutError, ServerError):  # busy; that's not idle
                quiet_since = time.monotonic()
            except OSError:
                pass  # the connection was closed, or nobody listens
            self._end_the_unreachable()
            if is_gone(self.folder, self.socket_path, 1.0):
                return False

    def _end_the_unreachable(self) -> None:
        """Kill a server whose folder was removed: it may refuse to shut down, and nobody can ask it again."""
        if self._server is not None and not os.path.exists(self.socket_path):
            self._server.kill()
            self._server.wait()

    def _ended(self, connection: Connection, seen: str) -> bool:
        """Stop an idle server, unless somebody connected at the last moment.

        A process that starts the server connects while it holds ``start.lock``. So either we see its
        connection, or it finds the server gone.
        """
        lock = Lock(self.folder / "start.lock")
        if not lock.acquire():
            return False
        try:
            if _look(connection) != (True, seen):
                return False
            return end_server(self.folder, self.socket_path)
        finally:
            lock.release()


def _look(connection: Connection) -> tuple[bool, str]:
    """Whether we're the only client, and how many connections there have ever been."""
    text = connection.ask("INFO")
    found = dict(re.findall(r"^(connected_clients|total_connections_received):(\d+)", text, re.MULTILINE))
    return found["connected_clients"] == "1", found["total_connections_received"]


def main(folder: str, socket_path: str, idle: str, *command: str) -> None:
    """Detach from the starter, start the server, let the starter go, and watch."""
    if os.fork():  # the starter waits for this process; the keeper becomes an orphan
        os._exit(0)
    keeper = Keeper(Path(folder), socket_path, float(idle), list(command))
    try:
        if keeper.start():
            _let_the_starter_go(keeper.open_log())
            keeper.watch()
    except CannotStart as error:
        sys.exit(f"django-kue's embedded Redis: {error}")
    except Terminated:
        end_server(keeper.folder, keeper.socket_path)


def _let_the_starter_go(log: int) -> None:
    """The starter reads our output to its end; from now on, output goes into the log."""
    signal.signal(signal.SIGTERM, _terminate)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    main(*sys.argv[1:])
