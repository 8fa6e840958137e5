"""Places where a worker's process can be made to end, once: ``KUE_TEST_FAILPOINT=place:path``.

The file ``path`` is made when it happens. Nothing in the package knows of this.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django_kue.worker.crew import Crew


def _die_once(path: Path) -> None:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _before(method: Callable[..., Any], path: Path) -> Callable[..., Any]:
    def dying(*args: Any, **kwargs: Any) -> Any:
        _die_once(path)
        return method(*args, **kwargs)

    return dying


if wanted := os.environ.get("KUE_TEST_FAILPOINT"):
    place, _, name = wanted.partition(":")
    method = {"claimed": "hand_out", "ended": "done"}[place]
    setattr(Crew, method, _before(getattr(Crew, method), Path(name)))
