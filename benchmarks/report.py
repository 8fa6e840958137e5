"""What was measured, as a table in the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.goals import GOALS, Goal
from benchmarks.results import Results
from benchmarks.rows import SECTIONS, Row, number

EXTRA = {"limit": "bare loop", "plain": "no queue"}


def columns(results: Results, rows: tuple[Row, ...]) -> list[str]:
    """The drivers that have a value in one of the rows: django-kue first, then in the order they ran in."""
    have = {
        driver
        for workload, driver, metric in results.values
        for row in rows
        if row.key == f"{workload} {metric}"
    }
    order = [*results.about, *EXTRA]
    return sorted(have, key=lambda driver: (driver != "kue", order.index(driver) if driver in order else 99))


def name_of(results: Results, driver: str) -> str:
    return str(results.about.get(driver, {}).get("name") or EXTRA.get(driver, driver))


def show(results: Results) -> None:
    drivers = columns(results, tuple(row for section in SECTIONS for row in section.rows))
    lines = [["", *(name_of(results, driver) for driver in drivers)]]
    for section in SECTIONS:
        rows = [row for row in section.rows if _is_shown(results, row)]
        if rows:
            lines += [[], [section.title]]
        for row in rows:
            lines.append([f"  {row.label}", *(row.cell(results, driver) or "–" for driver in drivers)])
            lines += [[text] for text in goals_of(results, row)]
    print("\n".join(_aligned(lines)))
    for text in troubles(results):
        print(text)


def _is_shown(results: Results, row: Row) -> bool:
    return bool(columns(results, (row,))) or any(True for _ in goals_of(results, row))


def goals_of(results: Results, row: Row) -> Iterator[str]:
    for goal, value in judged(results):
        if goal.row == row.key:
            what = f" of {goal.text}" if goal.unit == "×" else ""
            yield f"      {mark(goal, value)} {measured(goal, value)}{what}; goal: {goal.asked}"


def judged(results: Results) -> list[tuple[Goal, float]]:
    """The goals for which everything they compare was measured. A workload that failed misses its goals."""
    found = [(goal, goal.measure(results)) for goal in GOALS]
    return [
        (goal, math.nan if value is None else value)
        for goal, value in found
        if value is not None or (goal.row.split()[0], "kue") in results.failures
    ]


def measured(goal: Goal, value: float) -> str:
    return "not measured" if math.isnan(value) else f"{number(value)}{goal.unit}"


def mark(goal: Goal, value: float) -> str:
    return "✓" if goal.is_met(value) else "✗"


def troubles(results: Results) -> Iterator[str]:
    for name, why in results.missing.items():
        yield f"{name} took no part: {why}"
    for (workload, driver), why in results.failures.items():
        yield f"{name_of(results, driver)}, {workload}: {why.splitlines()[0]}"
    for goal in GOALS:
        workload, metric = goal.row.split()
        if results.of(workload, "kue", metric) and goal.measure(results) is None:
            yield f"Not judged, since there's nothing to compare with: {goal.row}, {goal.text}"


def _aligned(lines: list[list[str]]) -> Iterator[str]:
    """Columns as wide as they need to be; a line of one cell is a heading or a goal."""
    full = [line for line in lines if len(line) > 1]
    widths = [max(len(line[place]) for line in full) for place in range(len(full[0]))]
    for line in lines:
        if len(line) > 1:
            cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            yield "  ".join([line[0].ljust(widths[0]), *cells])
        else:
            yield "".join(line)
