"""What the documentation says is so: its code runs, its links lead somewhere, its diagram is the table's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from django.dispatch import Signal

import django_kue
from django_kue import errors, signals, states
from docs import pages
from tests.run_page import MARKS, ROOT, Block, blocks

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PUBLIC = [
    "django_kue",
    "django_kue.contrib.health",
    "django_kue.contrib.opentelemetry",
    "django_kue.contrib.prometheus",
    "django_kue.events",
    "django_kue.logging",
    "django_kue.middleware",
    "django_kue.schedules",
    "django_kue.tasks",
    "django_kue.testing",
]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "example_project/README.md"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def has_code(page: Path) -> bool:
    return any(block.is_run or block.what in ("file", "settings") for block in blocks(page))


def every_block() -> Iterator[tuple[Path, Block]]:
    return ((page, block) for page in PAGES for block in blocks(page))


def links_of(page: Path) -> list[str]:
    """The files that a page links, without anchors."""
    text = re.sub(r"```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    return [target for target in targets if "://" not in target]


@pytest.mark.parametrize("page", [page for page in PAGES if has_code(page)], ids=name_of)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.run_page", str(page), str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):  # most often it's over, and its worker too
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output


def test_the_readme_and_the_tutorial_are_among_the_pages_that_run() -> None:
    run = {name_of(page) for page in PAGES if has_code(page)}

    assert {"README.md", "docs/tutorial/first-job.md"} <= run


def test_every_mark_is_one_that_is_understood() -> None:
    unknown = [
        (name_of(page), block.line, block.what)
        for page, block in every_block()
        if block.what not in ("", *MARKS)
    ]

    assert unknown == []


def test_what_is_not_run_says_why() -> None:
    silent = [
        (name_of(page), block.line)
        for page, block in every_block()
        if block.what == "not run" and not block.detail
    ]

    assert silent == []


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links_of(page) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("folder", ["tutorial", "how-to", "reference", "explanation", "decisions"])
def test_every_page_is_in_its_folders_index(folder: str) -> None:
    index = (ROOT / "docs" / folder / "index.md").read_text("utf-8")
    pages = [page.name for page in (ROOT / "docs" / folder).glob("*.md") if page.name != "index.md"]

    assert [page for page in pages if f"({page})" not in index] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, to_read = set(), [ROOT / "README.md"]
    while to_read:
        page = to_read.pop()
        if page not in reached:
            reached.add(page)
            to_read += [
                found for link in links_of(page) if (found := (page.parent / link).resolve()).suffix == ".md"
            ]

    included = set((ROOT / "docs/project").glob("*.md"))  # of the site: they show pages that are reached
    assert [name_of(page) for page in PAGES if page not in reached | included] == []


def test_the_reference_has_every_public_name() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    shown = re.findall(r"^\.\. auto\w+:: ([\w.]+)", pages, re.M)
    modules = map(import_module, PUBLIC)
    public = [f"{module.__name__}.{name}" for module in modules for name in module.__all__]
    public += [
        f"{signals.__name__}.{name}" for name, value in vars(signals).items() if isinstance(value, Signal)
    ]

    twins = {f"{module}.a{verb}" for module, _, verb in (name.rpartition(".") for name in shown)}
    assert set(public) - set(shown) - twins == set(), "give it a line in docs/reference/"


@pytest.mark.parametrize("path", pages.PAGES)
def test_a_page_that_is_made_from_a_table_is_what_the_table_says(path: str) -> None:
    assert (pages.DOCS / path).read_text("utf-8") == pages.PAGES[path](), "run python -m docs.pages"


def test_every_error_can_be_had_from_the_package() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.KueError)
    }

    assert raised - set(django_kue.__all__) == set()
    assert [name for name in raised if getattr(django_kue, name) is not getattr(errors, name)] == []


def test_the_diagram_is_drawn_from_the_table_of_moves() -> None:
    [diagram] = [
        block.code for block in blocks(ROOT / "docs/explanation/lifecycle.md") if block.language == "mermaid"
    ]

    assert diagram == f"{states.mermaid()}\n", "put states.mermaid() into docs/explanation/lifecycle.md"


def test_the_page_tells_of_every_move_and_every_state() -> None:
    text = (ROOT / "docs/explanation/lifecycle.md").read_text("utf-8")

    assert [name for name in states.MOVES if f"| {name} |" not in text] == []
    assert [state for state in states.State if f"**{state}**" not in text] == []


def test_the_comparison_tells_the_numbers_of_the_benchmarks() -> None:
    told = _rows((ROOT / "docs/explanation/comparison.md").read_text("utf-8").split("## How fast")[1])
    measured = _rows((ROOT / "docs/explanation/benchmarks.md").read_text("utf-8"))
    peers = [row for row in told if any(char.isdigit() for char in row[1])]

    assert len(peers) == 7
    for peer, *numbers in peers:
        known = {cell.split(" ")[0] for row in measured if row[0] == peer for cell in row[1:]}
        assert set(numbers) <= known, f"{peer}: copy its numbers from benchmarks.md"


def _rows(text: str) -> list[list[str]]:
    """The rows of the tables in a page, cell by cell."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
