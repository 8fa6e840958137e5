"""What the dashboard says about Redis: the doctor's findings, and its memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.signals import setting_changed

from django_kue.doctor import Finding, Level
from django_kue.doctor import server as doctor
from django_kue.errors import StoreError
from django_kue.store import server_info

FRESH = 10.0  # seconds; this changes slowly, and takes several round trips to read


@dataclass(frozen=True, slots=True)
class Server:
    """Redis, as it was within the last few seconds."""

    name: str  # Redis or Valkey
    version: str
    used: int  # bytes
    limit: int  # bytes; 0: it has none
    policy: str  # what it does when it's full
    is_persistent: bool  # it writes an append-only file
    findings: tuple[Finding, ...]  # warnings and errors

    @property
    def share(self) -> float | None:
        """How much of its memory is used, in percent; ``None`` without a limit."""
        return 100 * self.used / self.limit if self.limit else None


def server() -> Server | None:
    """The state of the server; ``None`` if it doesn't tell, as some managed ones don't.

    Raises:
        StoreUnavailable: it can't be reached.
    """
    global _known, _until
    if time.monotonic() >= _until:
        try:
            _known = _server(server_info())
        except StoreError:  # INFO is forbidden
            _known = None
        _until = time.monotonic() + FRESH
    return _known


_known: Server | None = None
_until = 0.0


def forget(**kwargs: Any) -> None:
    """Look again on the next page, for example because the settings changed."""
    global _until
    if kwargs.get("setting") in (None, "KUE", "CACHES"):
        _until = 0.0


setting_changed.connect(forget, dispatch_uid="django_kue.admin.server")


def _server(info: Mapping[str, Any]) -> Server:
    is_valkey = "valkey_version" in info
    return Server(
        name="Valkey" if is_valkey else "Redis",
        version=str(info.get("valkey_version" if is_valkey else "redis_version", "?")),
        used=int(info.get("used_memory", 0)),
        limit=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "")),
        is_persistent=str(info.get("aof_enabled", "0")) == "1",
        findings=tuple(
            finding for finding in doctor.examine() if finding.level in (Level.WARNING, Level.ERROR)
        ),
    )
