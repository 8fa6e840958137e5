"""Database connections in a worker: none is shared, none is left broken or in the middle of something."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connection

from django_kue.worker import databases
from tests.app import abuse
from tests.worker_process import WorkerProcess, all_finished, broke, finished, is_running, marks, wait_for


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "test.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE left_behind (text TEXT)")
    return path


@pytest.fixture(scope="module")
def worker(database: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess("--processes", "1", "--threads", "1", KUE_TEST_DB=str(database)) as worker:
        yield worker.wait_started()


@pytest.fixture(autouse=True)
def begin(worker: WorkerProcess, database: Path) -> Iterator[None]:
    worker.bookmark()
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM left_behind")
    yield
    assert not broke(worker.new_log), worker.new_log


def rows(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM left_behind ORDER BY rowid")]


@pytest.mark.parametrize("how", ["atomic", "autocommit"])
def test_a_transaction_that_a_job_left_open_is_rolled_back(database: Path, how: str) -> None:
    """Any of the process's threads may take the next job: it shows something where that's the same one."""
    for turn in range(1, 51):
        left, after = f"left {turn}", f"after {turn}"
        assert finished(abuse.leave_transaction.enqueue(left, how)).state == "completed"
        job = finished(abuse.write_row.enqueue(after, "committed"))
        assert job.state == "completed", job.error
        assert rows(database) == ["committed"] * turn
        thread, *state = marks(after)[0].split()
        assert state == ["False", "True"]
        if [thread] == marks(left):
            return
    pytest.fail("no thread took both jobs")


def test_a_transaction_that_a_timeout_cut_short_is_rolled_back(database: Path) -> None:
    for _ in range(3):
        job = finished(abuse.write_slowly.enqueue())
        assert job.error.type == "django_kue.errors.JobTimeout"
        assert finished(abuse.write_row.enqueue("after", "committed")).state == "completed"
    assert rows(database) == ["committed"] * 3


def test_a_connection_that_broke_is_replaced(database: Path) -> None:
    """The first run to notice may fail, as a web request may; nobody behind it. Any of the process's threads
    may take the next job, each with a connection of its own: so it's summed up."""
    ended = []
    for turn in range(10):
        ended.append(finished(abuse.break_connection.enqueue("broken")))
        ended += [finished(abuse.write_row.enqueue("written", str(turn))) for _ in range(3)]
    failed = [job for job in ended if job.state == "failed"]
    broken = [job for job in ended if job.name.endswith("break_connection") and job not in failed]
    assert len(failed) <= len(broken)
    assert all("closed" in job.error.message for job in failed if job.error)
    assert len(rows(database)) == len(ended) - len(failed) - len(broken)


def test_coroutines_write_through_threads_of_their_own(database: Path) -> None:
    put = [abuse.awrite_row.enqueue("async", f"row {n}") for n in range(10)]
    assert {job.state for job in all_finished(put)} == {"completed"}
    assert sorted(rows(database)) == sorted(f"row {n}" for n in range(10))


@pytest.mark.parametrize("how", ["thread", "coroutine"])
def test_who_has_nothing_to_do_holds_no_connection(worker: WorkerProcess, database: Path, how: str) -> None:
    """As Django closes them at the end of a request; in a thread that sleeps there's no next one soon."""
    job = abuse.write_row.enqueue("row", "text") if how == "thread" else abuse.awrite_row.enqueue("x", "text")
    assert finished(job).state == "completed"
    wait_for(lambda: not has_open(worker.child(), database), 5)


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open. (Linux tells it.)"""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(one.readlink())
    return path in found


def test_a_connection_that_cant_be_closed_ends_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("the socket is gone")

    monkeypatch.setattr(databases._here, "has_connected", True)
    monkeypatch.setattr(databases, "close_old_connections", refuse)
    databases.rest()


@pytest.mark.django_db(transaction=True)
def test_a_pools_connection_goes_back_at_the_end_of_each_job(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def use() -> None:
        connection.ensure_connection()
        with monkeypatch.context() as patch:
            patch.setattr(connection, "close", lambda: closed.append(connection.alias))
            databases.leave_clean()
            patch.setitem(connection.settings_dict["OPTIONS"], "pool", True)
            databases.leave_clean()
        connection.close()

    with ThreadPoolExecutor(1) as own:  # with databases of its own
        own.submit(use).result()
    assert closed == ["default"]


def test_no_connection_crosses_a_fork(worker: WorkerProcess, database: Path) -> None:
    """A process that replaces another opens the database itself."""
    finished(abuse.write_row.enqueue("one", "before"))
    child = worker.kill_child()
    wait_for(lambda: not is_running(child))
    assert finished(abuse.write_row.enqueue("two", "after")).state == "completed"
    assert rows(database) == ["before", "after"]


def test_a_receiver_that_leaves_a_transaction_open_spoils_no_job(database: Path) -> None:
    with WorkerProcess(
        "--processes", "1", "--threads", "1", "--queues", "other",
        KUE_TEST_DB=str(database), KUE_TEST_RECEIVERS="transaction",
    ) as other:  # fmt: skip
        for n in range(3):
            job = finished(abuse.write_row.using(queue="other").enqueue("received", f"row {n}"))
            assert job.state == "completed", (job.error, other.log)
    assert rows(database) == ["row 0", "row 1", "row 2"]
