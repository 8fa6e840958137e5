"""What a run has measured, on which machine and versions; kept in a file, so that it can be shown again."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

FILE = Path(__file__).parent / "last-run.json"


@dataclass
class Results:
    """Values by workload, driver's name and metric: one for each round."""

    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)  # of a workload with a driver
    about: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each peer says about itself
    missing: dict[str, str] = field(default_factory=dict)  # peers that couldn't be asked, and why
    machine: dict[str, str] = field(default_factory=dict)
    rounds: int = 0

    def of(self, workload: str, driver: str, metric: str) -> list[float]:
        return self.values.get((workload, driver, metric), [])

    def add(self, workload: str, driver: str, values: dict[str, float]) -> None:
        for metric, value in values.items():
            self.values.setdefault((workload, driver, metric), []).append(value)

    def median(self, workload: str, driver: str, metric: str) -> float | None:
        values = self.of(workload, driver, metric)
        return median(values) if values else None

    def save(self) -> None:
        plain = vars(self) | {
            "values": [[*place, values] for place, values in self.values.items()],
            "failures": [[*place, text] for place, text in self.failures.items()],
        }
        FILE.write_text(json.dumps(plain, indent=1))


def load() -> Results:
    """The results of the last run."""
    plain = json.loads(FILE.read_text())
    plain["values"] = {tuple(place): values for *place, values in plain["values"]}
    plain["failures"] = {tuple(place): text for *place, text in plain["failures"]}
    return Results(**plain)


def machine(redis_version: str) -> dict[str, str]:
    """What the numbers depend on."""
    import django

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "django": django.get_version(),
        "redis": redis_version,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]}, {len(models)} cores" if models else platform.machine()
