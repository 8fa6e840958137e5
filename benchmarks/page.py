"""What was measured, as a page of the documentation: ``docs/explanation/benchmarks.md``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import columns, judged, mark, measured, name_of, troubles
from benchmarks.results import Results
from benchmarks.rows import SECTIONS, Row, Section

PAGE = Path(__file__).parents[1] / "docs/explanation/benchmarks.md"

INTRODUCTION = """\
# Benchmarks

What django-kue costs compared with other queues on Redis, measured by `make bench` on one machine in one run.
That command writes this page. Run it on your own machine, since only numbers from one run can be compared.
Each number is the median of {rounds} rounds, or of fewer where rounds hardly differ; the lowest and the
highest are in parentheses. In each round the peers take turns, each with a private Redis and a worker that
has just started, so that whatever else the machine does affects all of them.

| | |
| --- | --- |
| machine | {processor}; {system} |
| versions | Python {python}, Django {django}, Redis {redis}, {versions} |
| date | {date} |

Every peer runs the same functions on two cores, in the best configuration that was found for it, and logs
only warnings. The Python peers' workers have Django loaded, since that's how a Django project would use them.
Results aren't kept where a peer allows that; django-kue keeps its last 1,000 completed jobs, as it does by
default.
"""


def write(results: Results) -> None:
    PAGE.write_text("\n".join(_lines(results)) + "\n")


def _lines(results: Results) -> Iterator[str]:
    versions = ", ".join(f"{about['name']} {about['version']}" for about in results.about.values())
    yield INTRODUCTION.format(rounds=results.rounds, versions=versions, **results.machine)
    yield from _goals(results)
    for section in SECTIONS:
        yield from _section(results, section)
    yield from _peers(results)
    yield from _after(results)


def _goals(results: Results) -> Iterator[str]:
    labels = {row.key: (section.title, row.label) for section in SECTIONS for row in section.rows}
    met = [mark(goal, value) for goal, value in judged(results)]
    yield f"## The goals: {met.count('✓')} of {len(met)} are met\n"
    yield "| | compared with | measured | goal | |"
    yield "| --- | --- | --- | --- | --- |"
    for goal, value in judged(results):
        title, label = labels[goal.row]
        what = f"{title}: {label.removeprefix('… ')}"
        yield f"| {what} | {goal.text} | {measured(goal, value)} | {goal.asked} | {mark(goal, value)} |"
    yield ""


def _section(results: Results, section: Section) -> Iterator[str]:
    """A line for each peer, or for each row if django-kue is alone."""
    rows = tuple(row for row in section.rows if columns(results, (row,)))
    if not rows:
        return
    yield f"## {section.title}\n\n{section.text}\n"
    shared = tuple(row for row in rows if len(columns(results, (row,))) > 1)
    alone = tuple(row for row in rows if row not in shared)
    if shared:
        yield f"| | {' | '.join(row.label.removeprefix('… ') for row in shared)} |"
        yield f"| --- |{' --- |' * len(shared)}"
        for driver in columns(results, shared):
            cells = " | ".join(_cell(results, row, driver) for row in shared)
            yield f"| {_bold(results, driver)} | {cells} |"
        yield ""
    if alone:
        yield "| | |\n| --- | --- |"
        for row in alone:
            (driver,) = columns(results, (row,))
            yield f"| {row.label.removeprefix('… ')} | {_cell(results, row, driver)} |"
        yield ""


def _cell(results: Results, row: Row, driver: str) -> str:
    spread = row.spread(results, driver)
    return f"{row.cell(results, driver) or '–'}{f' ({spread})' if spread else ''}"


def _bold(results: Results, driver: str) -> str:
    name = name_of(results, driver)
    return f"**{name}**" if driver == "kue" else name


def _peers(results: Results) -> Iterator[str]:
    yield "## The peers, and what a kill −9 of a worker loses\n"
    for about in results.about.values():
        yield f"**{about['name']} {about['version']}**: {about['guarantee']}. `{about['command']}`"
        yield f"- After a kill −9: {about['on_kill']}"
        if about["notes"]:
            yield f"- {about['notes']}"
        yield ""


def _after(results: Results) -> Iterator[str]:
    if found := list(troubles(results)):
        yield "## What wasn't measured\n"
        yield from (f"- {text}" for text in found)
        yield ""
    yield METHOD


METHOD = """\
## How it's measured

- The drain: a worker runs 200 jobs, and is then frozen with all its processes by SIGSTOP. The queue is
  filled, and the time is taken from SIGCONT until the last job has counted itself. After that, nothing may be
  waiting or running by the peer's own account, and every job must have run exactly once.
- A job counts itself in memory that its process shares with the harness. That takes a fifth of a microsecond.
- CPU time is what the kernel reports for Redis and for the worker's processes and threads, including those
  that have ended.
- All peers are driven by the same commands: `benchmarks/peers/` and `benchmarks/node/` have a file for each,
  with its configuration."""
