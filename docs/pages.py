"""Writes the reference pages that are generated from the tables in the code: ``python -m docs.pages``.

A test checks that pages and tables agree.
"""

from __future__ import annotations

import os
from pathlib import Path

import django

DOCS = Path(__file__).resolve().parent
SETTINGS = """\
# Settings

All settings are in one dict, `KUE`, in the project's settings. Every one has a default, so
`KUE = {{}}` is enough if the cache alias `"default"` is django-redis. `manage.py check` names each
mistake, what was expected, and what to write. Anywhere that takes seconds, you can use a `timedelta`, too.

```python
KUE = {{
    "REDIS": "default",
    "QUEUES": {{
        "default": {{}},
        "email": {{"ATTEMPTS": 5, "BACKOFF": 10, "TIMEOUT": 60, "CONCURRENCY": 20, "RATE": "100/m"}},
    }},
}}
```

## For the project

{settings}

## For a queue

These go into the queue's dict in `KUE["QUEUES"]`. Options of `@job` and `.using()` take precedence over them.

{queues}

## For a schedule

These go into the schedule's dict in `KUE["SCHEDULES"]`. [More on schedules](../how-to/schedules.md).

{schedules}
"""
OPTIONS = """\
# Options of `@job` and `.using()`

`.using()` beats `@job`, which beats the queue's setting, which beats the default. A wrong name or value
raises an error where it's written: when the module is imported, or at `.using()`. If a queue isn't declared,
or a database doesn't exist, `manage.py check` tells you, or else `.enqueue()` does.

| option | where | value | what it does |
| --- | --- | --- | --- |
{rows}
"""


def settings_page() -> str:
    from django_kue.conf import QueueSettings, ScheduleSettings, Settings

    return SETTINGS.format(
        settings=_settings_of(Settings),
        queues=_settings_of(QueueSettings),
        schedules=_settings_of(ScheduleSettings),
    )


def _settings_of(table: type) -> str:
    from django_kue.tables import kind_of, rows

    lines = ["| setting | type | default | what it does |", "| --- | --- | --- | --- |"]
    for name, row in rows(table).items():
        kind = kind_of(row)
        default = kind.show(row.metadata["default"]).replace("|", "\\|")
        lines.append(f"| `{name}` | {kind.title} | `{default}` | {row.metadata['doc']} |")
    return "\n".join(lines)


def options_page() -> str:
    from django_kue.options import TABLE

    rows = [
        f"| `{name}` | {' '.join(f'`{place}`' for place in row.metadata['places'])} "
        f"| {row.metadata['kind'].title} | {row.metadata['doc']} |"
        for name, row in TABLE.items()
    ]
    return OPTIONS.format(rows="\n".join(rows))


def metrics_page() -> str:
    """Only its table is generated; the text around it is written by hand."""
    from django_kue.contrib.prometheus import METRICS

    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in METRICS
    ]
    page = (DOCS / "reference/metrics.md").read_text("utf-8").splitlines()
    first = page.index("| metric | type | labels | what it is |") + 2
    after = next((at for at in range(first, len(page)) if not page[at].startswith("|")), len(page))
    return "\n".join([*page[:first], *rows, *page[after:], ""])


PAGES = {
    "reference/settings.md": settings_page,
    "reference/options.md": options_page,
    "reference/metrics.md": metrics_page,
}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    for path, make in PAGES.items():
        (DOCS / path).write_text(make(), "utf-8")


if __name__ == "__main__":
    main()
