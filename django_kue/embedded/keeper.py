"""The keeper: a small process of its own that starts the private Redis server, watches it, and ends it
when nobody has been connected for a while.

It's run as a script, and with the standard library alone, so that it starts fast and stays small::

    python -I -S keeper.py FOLDER SOCKET IDLE_SECONDS SERVER [OPTION …]

Until the server answers, what it writes to its standard output is why it couldn't start one.

Three lock files in the folder tell who lives. The system frees them however a process ends:

=============  ==============================================================================
start.lock     held by whoever starts or stops: one at a time, and never both at once
keeper.lock    held by the keeper
server.lock    held by the server, which inherits it; so two never write the same files
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

PATIENCE = 10.0  # seconds for a server that ends to be gone, or for another keeper to finish its work
LOADING_PATIENCE = 25.0  # seconds for a server to read its files
QUICK_DEATH = 2.0  # seconds; a server that crashes sooner isn't started again
LOG_LIMIT = 1_000_000  # bytes


class CannotStart(Exception):
    """The server didn't start; the message is for people."""


class Terminated(BaseException):
    """Somebody sent SIGTERM: to the machine's processes when it's switched off, most likely."""


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
            ServerError: the server refuses.
            OSError: it's away, or silent for longer than the timeout.
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
        """Sleep; but wake at once, with True, when the server closes the connection."""
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
    """A lock file. Whoever holds it loses it with its last descriptor, at the latest when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, patience: float = 0.0) -> bool:
        """Try for so many seconds; whether it's ours now."""
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
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a process forked meanwhile has a copy
        os.close(self._descriptor)

    def leave_to(self, command: list[str], log: int) -> subprocess.Popen[bytes]:
        """Start a process that holds the lock from now on."""
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
    """Shut the server down, and wait until it's gone: its files are complete then. Whether it is."""
    with contextlib.suppress(OSError, ServerError), Connection(socket_path) as connection:
        connection.ask("SHUTDOWN")  # the good reply is that the connection ends
    return is_gone(folder, socket_path, PATIENCE)


def is_gone(folder: Path, socket_path: str, patience: float) -> bool:
    """Whether the server has ended; one that doesn't answer gets so many seconds to do so."""
    deadline = time.monotonic() + patience
    while folder.exists() and is_held(folder / "server.lock"):
        if answers(socket_path) or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Keeper:
    """Starts the server, watches it, ends it."""

    def __init__(self, folder: Path, socket_path: str, idle: float, command: list[str]) -> None:
        self.folder = folder
        self.socket_path = socket_path
        self.idle = idle
        self.command = command
        self.log = folder / "server.log"
        self._server: subprocess.Popen[bytes] | None = None  # None: an orphan, not our child
        self._booted_at = 0.0

    def start(self) -> bool:
        """See that the server runs. False: another keeper has seen to that already.

        Raises:
            CannotStart: why not.
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
        """Return when the server has ended, by us or by somebody else."""
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
        """A descriptor that appends to the log, which starts afresh when it has grown large."""
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if os.fstat(log).st_size > LOG_LIMIT:
            os.ftruncate(log, 0)
        return log

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        while not answers(self.socket_path):
            if server.poll() is not None:
                raise CannotStart(f"{self.command[0]} ended at once. Its last words:\n{self._last_words()}")
            if time.monotonic() > self._booted_at + LOADING_PATIENCE:
                server.terminate()
                server.wait()
                raise CannotStart(f"{self.command[0]} wasn't ready within {LOADING_PATIENCE:g} seconds")
            time.sleep(0.01)

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-6:])

    def _should_boot_again(self) -> bool:
        """A server of ours that crashed is, so that those who used it can go on."""
        if self._server is None or self._server.wait() == 0:
            return False
        return time.monotonic() > self._booted_at + QUICK_DEATH and self.folder.exists()

    def _watch_one(self) -> bool:
        """Watch the server until it ends. True: we ended it."""
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
                pass  # cut, or nobody listens
            self._end_the_unreachable()
            if is_gone(self.folder, self.socket_path, 1.0):
                return False

    def _end_the_unreachable(self) -> None:
        """A server whose folder was removed may refuse to shut down, and nobody can ask it again."""
        if self._server is not None and not os.path.exists(self.socket_path):
            self._server.kill()
            self._server.wait()

    def _ended(self, connection: Connection, seen: str) -> bool:
        """End an idle server, unless somebody came at the last moment.

        Whoever starts up connects while they hold ``start.lock``. So either we see the connection, or
        they find the server gone.
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
    """Whether we're the only client, and how many connections there ever were."""
    text = connection.ask("INFO")
    found = dict(re.findall(r"^(connected_clients|total_connections_received):(\d+)", text, re.MULTILINE))
    return found["connected_clients"] == "1", found["total_connections_received"]


def main(folder: str, socket_path: str, idle: str, *command: str) -> None:
    """Leave the starter's family, start the server, tell the starter, watch."""
    if os.fork():  # the starter waits for this process; the keeper is nobody's child
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
    """It reads our output to the end; from now on that goes into the log."""
    signal.signal(signal.SIGTERM, _terminate)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    main(*sys.argv[1:])
