"""Fixtures for pytest, registered by entry point: they're there once django-kue is installed.

Nothing but pytest is imported until a test asks for one of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_kue.testing import Kue, WorkerThread

EMBEDDED = "embedded"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "kue_redis",
        "the URL of a Redis for kue_worker's tests; by default one is started for them",
        default=EMBEDDED,
    )


@pytest.fixture
def kue() -> Iterator[Kue]:
    """Kue's test mode: enqueued jobs are kept in memory, for assertions; ``kue.drain()`` runs them."""
    from django_kue.testing import fake

    with fake() as mode:
        yield mode


@pytest.fixture
def kue_inline() -> Iterator[Kue]:
    """Kue's test mode, in which jobs run where they're enqueued."""
    from django_kue.testing import inline

    with inline() as mode:
        yield mode


@pytest.fixture(scope="session")
def _kue_redis_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from django_kue import embedded

    folder = tmp_path_factory.mktemp("kue-redis")
    yield folder
    embedded.stop(folder)


@pytest.fixture
def kue_redis_url(request: pytest.FixtureRequest) -> str:
    """The Redis of ``kue_worker``: what the option ``kue_redis`` names, or one started for the tests."""
    named = str(request.config.getini("kue_redis"))
    if named != EMBEDDED:
        return named
    from django_kue import embedded

    # It ends by itself once it's idle for long, in case the tests are killed; if it runs, this costs nothing.
    return embedded.start(request.getfixturevalue("_kue_redis_folder"), idle=30.0)


@pytest.fixture
def kue_worker(kue_redis_url: str) -> Iterator[WorkerThread]:
    """A real worker in threads of this process, on a real Redis, under a prefix that no other test has.

    It sees only what's committed: a test that uses the database needs ``transactional_db``. A test mode
    that's on is suspended meanwhile.
    """
    from django.conf import settings
    from django.test import override_settings

    from django_kue.store import erase_tests_keys
    from django_kue.testing import WorkerThread
    from django_kue.testing.modes import begin_break, end_break

    prefix = f"kue-test-{os.urandom(6).hex()}"
    begin_break()
    try:
        with override_settings(
            KUE={**getattr(settings, "KUE", {}), "REDIS": kue_redis_url, "PREFIX": prefix}
        ):
            try:
                with WorkerThread() as worker:
                    yield worker
            finally:
                erase_tests_keys()
    finally:
        end_break()
