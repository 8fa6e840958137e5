"""Database servers of the tests' own, as ``conftest.py`` has a Redis: started in a folder in /tmp, and ended.

A server that isn't installed skips the tests that need it, and says so.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import free_port

Settings = dict[str, Any]  # an entry of DATABASES


@contextmanager
def sqlite() -> Iterator[Settings]:
    with _folder() as folder:
        yield {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "db"), "OPTIONS": {"timeout": 20}}


@contextmanager
def postgresql() -> Iterator[Settings]:
    pytest.importorskip("psycopg", reason="psycopg isn't installed: pip install 'psycopg[binary]'")
    initdb = _binary("initdb", "apt-get install postgresql")
    port = free_port()
    with _folder() as folder:
        owner = _unprivileged(folder, "postgres")
        data = str(folder / "data")
        made = [initdb, "-D", data, "-U", "kue", "--auth", "trust", "--no-sync", "--encoding", "UTF8"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **owner)
        quick = ["-c", "fsync=off", "-c", "unix_socket_directories="]
        server = [_binary("postgres", ""), "-D", data, "-p", str(port), "-h", "127.0.0.1", *quick]
        settings = {
            "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "kue", "PASSWORD": "",
            "HOST": "127.0.0.1", "PORT": port,
        }  # fmt: skip
        with _running(server, folder, owner, lambda: _psycopg(port)):
            yield settings


@contextmanager
def mariadb() -> Iterator[Settings]:
    pytest.importorskip("pymysql", reason="PyMySQL isn't installed: pip install pymysql")
    install = _binary("mariadb-install-db", "apt-get install mariadb-server")
    port = free_port()
    with _folder() as folder:
        owner = _unprivileged(folder, "mysql")
        data = f"--datadir={folder / 'data'}"
        made = [install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **owner)
        server = [
            _binary("mariadbd", ""), "--no-defaults", data, f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={folder / 'socket'}", "--innodb-flush-log-at-trx-commit=0",
            "--character-set-server=utf8mb4",
        ]  # fmt: skip
        settings = {
            "ENGINE": "django.db.backends.mysql", "NAME": "kue", "USER": "root", "PASSWORD": "",
            "HOST": "127.0.0.1", "PORT": port,
        }  # fmt: skip
        with _running(server, folder, owner, lambda: _pymysql(port)):
            yield settings


SERVERS = {"sqlite": sqlite, "postgresql": postgresql, "mariadb": mariadb}


def _psycopg(port: int) -> None:
    import psycopg

    psycopg.connect(host="127.0.0.1", port=port, user="kue", dbname="postgres").close()


def _pymysql(port: int) -> None:
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=port, user="root") as connection:
        connection.cursor().execute("CREATE DATABASE IF NOT EXISTS kue")


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kue-tests-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binary(name: str, remedy: str) -> str:
    """Where a program is. Debian keeps PostgreSQL's out of PATH."""
    places = [os.environ["PATH"], "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} isn't on this machine: {remedy}")
    return found


def _unprivileged(folder: Path, name: str) -> dict[str, Any]:
    """What runs a server as somebody else than root, which most refuse to run as."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def _running(
    command: list[str], folder: Path, owner: dict[str, Any], connect: Callable[[], None]
) -> Iterator[None]:
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **owner)
    try:
        _wait_until_it_answers(process, connect, folder / "log")
        yield
    finally:
        process.kill()  # its data go with its folder
        process.wait(10)


def _wait_until_it_answers(process: subprocess.Popen[bytes], connect: Callable[[], None], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return connect()
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args[0]} did not start:\n{log.read_text()[-2000:]}") from error  # type: ignore[index]
            time.sleep(0.05)
