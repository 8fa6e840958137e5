"""What stands in Redis when a run is over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from django_kue import Queue, get_queue, records
from django_kue.audit import audit
from tests.chaos.judge import Final
from tests.conftest import redis_client
from tests.test_engine.hands import snapshot

QUEUES = ("default", "long")


def read_finals(url_of: Callable[[str], str]) -> tuple[list[Final], list[str], int]:
    """The jobs; what's wrong with the keys; and how many completions Redis has counted.

    ``url_of`` says where a queue is.
    """
    finals: list[Final] = []
    wrong: list[str] = []
    completions = 0
    for queue in QUEUES:
        os.environ["KUE_TEST_REDIS"] = url_of(queue)
        redis_client.cache_clear()
        values = snapshot(queue)
        finals += _finals(queue, values)
        wrong += map(str, audit(queue))
        completions += int(values.get("tt", {}).get(b"completed", 0))
    return finals, wrong, completions


STATES = {"c": "completed", "f": "failed", "x": "cancelled", "z": "delayed"}


def _finals(queue: str, values: dict[str, Any]) -> list[Final]:
    states = {key: state for suffix, state in STATES.items() for key, _ in values.get(suffix, [])}
    states |= dict.fromkeys(values.get("a", {}), "active")
    found = []
    for key, text in values.get("d", {}).items():
        record = records.decode(text)
        args, _ = records.decode_arguments(record.arguments)
        state, error = states.get(key, "waiting"), ""
        if state == "failed":
            error = _error_in(values["o"][key])
        kind = record.name.rpartition(".")[2]
        job_id, runs = f"{queue}.{key.decode()}", int(record.head.get("m", 0))
        found.append(Final(args[0], job_id, kind, state, error, runs))
    return found


def _error_in(outcome: bytes) -> str:
    """The class of the error; nothing where a broken engine has stored a result in its place."""
    told = json.loads(outcome.split(b"|", 4)[4])
    return told["type"].rpartition(".")[2] if isinstance(told, dict) else ""


def is_drained() -> bool:
    """Whether nothing waits or runs any more."""
    return not any(unfinished(get_queue(queue)) for queue in QUEUES)


def unfinished(queue: Queue) -> int:
    """How many of its jobs wait, are delayed or run."""
    counts: dict[Any, int] = queue.counts()
    return counts["waiting"] + counts["delayed"] + counts["active"]
