"""A database server that ends the connections of a worker that's at work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from django_kue.worker.databases import FRESH
from tests.app import abuse
from tests.databases import SERVERS, Settings
from tests.worker_process import WorkerProcess, finished

CONNECTIONS = {
    "postgresql": "SELECT pid FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE user = 'root' AND id <> connection_id()",
}
END = {"postgresql": "SELECT pg_terminate_backend({})", "mariadb": "KILL CONNECTION {}"}


class Server:
    """A database server, and a session of its administrator's."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings = name, settings
        self._session = _connect(name, settings)
        self.ask("CREATE TABLE left_behind (text VARCHAR(50))")

    def ask(self, statement: str) -> list[Any]:
        with closing(self._session.cursor()) as cursor:
            cursor.execute(statement)
            return [row[0] for row in cursor.fetchall()] if cursor.description else []

    def end_connections(self) -> int:
        """End the connections of all others; returns how many there were."""
        others = self.ask(CONNECTIONS[self.name])
        for number in others:
            try:
                self.ask(END[self.name].format(number))
            except Exception as error:
                if "Unknown thread id" not in str(error):  # MariaDB's words for one that has ended by itself
                    raise
        return len(others)

    def close(self) -> None:
        self._session.close()


def _connect(name: str, settings: Settings) -> Any:
    where = {"host": settings["HOST"], "port": settings["PORT"], "user": settings["USER"]}
    if name == "postgresql":
        import psycopg

        return psycopg.connect(**where, dbname=settings["NAME"], autocommit=True)
    import pymysql

    return pymysql.connect(**where, database=settings["NAME"], autocommit=True)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param]() as settings, closing(Server(request.param, settings)) as server:
        yield server


def worker_of(server: Server, **options: Any) -> WorkerProcess:
    databases = {"default": {**server.settings, **options}}
    return WorkerProcess("--processes", "1", "--threads", "1", KUE_TEST_DATABASES=json.dumps(databases))


def test_of_two_jobs_after_a_connection_was_ended_the_second_works(server: Server) -> None:
    """As with two requests to Django: the first may meet the broken connection."""
    with worker_of(server, CONN_MAX_AGE=None) as worker:
        worker.wait_started()
        assert finished(abuse.write_row.enqueue("one", "before")).state == "completed"
        assert server.end_connections(), "the worker kept its connection"
        first = finished(abuse.write_row.enqueue("two", "first"))
        second = finished(abuse.write_row.enqueue("three", "second"))
        assert second.state == "completed", second.error
        if first.state == "failed":
            assert "Error" in first.error.type
        assert server.ask("SELECT text FROM left_behind")[-1] == "second"
        assert worker.stop() == 0


def test_a_worker_that_checks_its_connections_notices_none_of_it(server: Server) -> None:
    with worker_of(server, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True) as worker:
        worker.wait_started()
        for text in ("third", "fourth"):
            job = finished(abuse.write_row.enqueue("one", text), 20)
            assert job.state == "completed", job.error
            assert server.end_connections(), "the worker kept its connection"  # and the relay may have one
            time.sleep(FRESH + 0.2)  # as long as connections aren't looked at again
        assert finished(abuse.write_row.enqueue("one", "fifth")).state == "completed"
        assert worker.stop() == 0
