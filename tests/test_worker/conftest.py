import pytest

from django_kue.worker import databases
from tests.own_server import notes, server

__all__ = ["notes", "server"]


@pytest.fixture(autouse=True)
def no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test leads by hand: connections that others opened in its thread aren't a worker's to close."""
    monkeypatch.setattr(databases._here, "has_connected", False)
