"""Jobs whose arguments are nobody's business."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from django_kue import current_job, job


@job(attempts=2, title="Log {user} in with {password}", search_keys=("user", "password"))
def log_in(user: str, password: str, account: dict[str, Any] | None = None) -> None:
    """Says its secrets wherever a job can say something, and fails with them."""
    token = (account or {}).get("token", password)
    current_job().progress(50, data={"password": password, "user": user})
    current_job().log("trying %s, %r and %s", password, {"t": token}, user)
    try:
        {}[token]
    except KeyError as error:
        raise PermissionError(f"{user} may not use {password}") from error


@job(search_keys=("user",), unique=True)
def greet(user: str, path: str = "") -> dict[str, str]:
    """Says who it's for; then waits until there's a file ``path``, if one is named."""
    current_job().progress(50, data={"for": user})
    current_job().log("for %s", user)
    while path and not Path(path).exists():
        time.sleep(0.01)
    return {"greeting": f"Hello {user}"}


@job(attempts=1)
def complain(user: str) -> None:
    raise ValueError(f"{user} is unknown")


@job
async def agreet(user: str) -> str:
    return f"Hello {user}"


@job
def loaded(names: list[str]) -> list[str]:
    """Which of these modules its process has imported."""
    return [name for name in names if name in sys.modules]


@job
def echo(value: Any) -> Any:
    return value
