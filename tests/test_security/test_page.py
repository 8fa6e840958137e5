"""The page on security names tests that exist, for every line of its table."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "security.md"
TEST = re.compile(r"`(test_[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The table's lines with a threat."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if not row[0].startswith("**")]


def names_in(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_threat_has_something_that_stops_it_and_a_test() -> None:
    assert len(rows()) > 45
    assert [row[0] for row in rows() if len(row) != 3 or not row[1] or not TEST.search(row[2])] == []


def test_every_test_that_the_page_names_exists() -> None:
    named = TEST.findall(PAGE.read_text())
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / "tests" / file).exists() or name not in names_in(ROOT / "tests" / file)
    ]
    assert missing == []


def test_nothing_but_tests_stands_where_tests_are_named() -> None:
    assert [row[2] for row in rows() if TEST.sub("", row[2]).strip()] == []
