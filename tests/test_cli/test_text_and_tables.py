"""Text is harmless to a terminal, and tables fit it."""

from __future__ import annotations

import pytest

from django_kue.cli.tables import Column, Dotted, Painted, render
from django_kue.cli.text import cut, cut_start, listed, width
from django_kue.words import lines, one_line


def plain(text: str, role: str) -> str:
    return text


def marked(text: str, role: str) -> str:
    return f"<{text}>" if role else text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b2J", r"\x9b2J"),
        ("abc\u202etxt", r"abc\u202etxt"),
        ("nul\x00", r"nul\x00"),
        ("\ud800", r"\ud800"),
        ("10\xa0€", "10 €"),
        ("Größe 日本", "Größe 日本"),
    ],
)
def test_what_could_steer_a_terminal_is_spelt_out(hostile: str, shown: str) -> None:
    assert one_line(hostile) == shown


def test_text_of_several_lines_keeps_its_lines_and_nothing_else() -> None:
    assert lines("a\r\n\tb\x1b[0m\nc\rd") == ["a", "    b\\x1b[0m", "c\\rd"]


def test_width_is_counted_in_columns_of_the_terminal() -> None:
    assert width("abc") == 3
    assert width("日本") == 4
    assert width("e\u0301") == 1


def test_text_is_cut_at_its_end_and_a_dotted_name_at_its_beginning() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert width(cut("日本語の説明", 6)) <= 6
    assert cut_start("shop.jobs.send_receipt", 13) == "…send_receipt"


def test_many_names_are_counted() -> None:
    assert listed("abc", most=3) == "a, b, c"
    assert listed("abcd", most=3) == "a, b, c and 1 more"


def test_numbers_stand_right_and_nothing_trails() -> None:
    table = render((Column("N", is_number=True), Column("TEXT")), [[1200, "a"], [7, "bcdef"]], None, plain)
    assert table == ["    N  TEXT", "1,200  a", "    7  bcdef"]


def test_the_widest_text_that_may_be_cut_gives_first() -> None:
    columns = (Column("ID"), Column("TITLE", least=5), Column("NOTE", least=5))
    table = render(columns, [["12345678", "a" * 30, "b" * 10]], 30, plain)
    assert table[1] == "12345678  aaaaaaaa…  bbbbbbbb…"
    assert width(table[1]) == 30


def test_what_matters_least_is_left_out_and_named() -> None:
    columns = (Column("ID"), Column("PRIO", rank=2), Column("RUNS", rank=1))
    table = render(columns, [["x" * 12, "10", "1/3"]], 20, plain)
    assert table == ["ID            RUNS", f"{'x' * 12}  1/3", "(too narrow for: PRIO)"]


def test_a_pipe_gets_all_text_whole() -> None:
    table = render((Column("TITLE", least=5),), [["a" * 500]], None, plain)
    assert table[1] == "a" * 500


def test_colours_dont_change_the_columns() -> None:
    rows = [[Painted("ab", "ERROR"), Dotted("x.y", "ERROR"), "z"]]
    table = render((Column("A"), Column("B"), Column("C")), rows, 40, marked)
    assert table == ["<A >  <B  >  <C>", "<ab>  <x.y>  z"]


def test_a_cell_cant_break_its_line() -> None:
    table = render((Column("A"), Column("B")), [["one\ntwo", "\x1b[2J"]], 40, plain)
    assert table[1] == r"one\ntwo  \x1b[2J"
