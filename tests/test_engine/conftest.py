"""After each test of the engine, all keys of the queues are audited: none may be left behind or be wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_kue.audit import audit
from django_kue.conf import settings
from tests.conftest import redis_client


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "foreign_data: the test itself puts wrong data under our keys")


@pytest.fixture(autouse=True)
def sound_keys(request: pytest.FixtureRequest, empty_redis: None) -> Iterator[None]:
    """Fails a test that leaves keys behind that aren't sound, or a key outside of keys.py."""
    yield
    if request.node.get_closest_marker("foreign_data"):
        return
    prefix = settings.PREFIX
    found = {
        name.decode().partition("}")[0].partition("{")[2] for name in redis_client().keys(f"{prefix}:{{*")
    }
    assert {queue: audit(queue) for queue in found} == {queue: [] for queue in found}
