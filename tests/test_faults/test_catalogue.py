"""The table of faults in the documentation names tests that exist, and leaves none of its numbers out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/explanation/guarantees.md"
FAULTS = 60
_ROW = re.compile(r"^\| (\d+) \| (?P<fault>[^|]+) \| (?P<outcome>[^|]+) \| (?P<tests>[^|]*)\|$", re.M)


def rows() -> dict[int, re.Match[str]]:
    return {int(row[1]): row for row in _ROW.finditer(PAGE.read_text())}


@cache
def names_in(file: str) -> frozenset[str]:
    path = TESTS / file
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_number_of_the_catalogue_is_in_the_table_once() -> None:
    numbers = [int(row[1]) for row in _ROW.finditer(PAGE.read_text())]
    assert numbers == list(range(1, FAULTS + 1))


@pytest.mark.parametrize("number", range(1, FAULTS + 1))
def test_a_fault_is_shown_by_tests_or_it_says_why_not(number: int) -> None:
    row = rows()[number]
    named = re.findall(r"`([^`]+)`", row["tests"])
    missing = [one for one in named if one.partition("::")[2] not in names_in(one.partition("::")[0])]
    assert missing == []
    assert named or re.search(r"^not covered: \w", row["outcome"])


def test_every_test_of_a_fault_is_in_the_table() -> None:
    named = set(re.findall(r"`test_faults/(\w+\.py)::(\w+)`", PAGE.read_text()))
    there = {
        (path.name, name)
        for path in Path(__file__).parent.glob("test_*.py")
        if path != Path(__file__)
        for name in names_in(f"test_faults/{path.name}")
        if name.startswith("test_")
    }
    assert there == named
