"""Bars: on a terminal alone, and gone when the work is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_kue.cli import progress
from django_kue.cli.screen import Screen
from tests.test_cli.hands import ended, enqueued, kue
from tests.test_engine.hands import completed, failed


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody watches stderr, and every batch takes long."""
    monkeypatch.setattr(Screen, "has_live_errors", True)
    monkeypatch.setattr(progress, "PATIENCE", -1)
    monkeypatch.setattr(progress, "PAUSE", -1)


def bulk(name: str) -> tuple[str, ...]:
    if name == "empty":
        enqueued(queue="email")
        return ("empty", "email", "--yes")
    if name == "clean":
        ended(completed(), queue="email")
        return ("clean", "email", "completed", "--yes")
    ended(failed(), queue="email")
    return ("retry", "--queue", "email", "--all-failed")


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    ("name", "title"), [("empty", "Removing"), ("clean", "Removing"), ("retry", "Retrying")]
)
def test_work_on_many_jobs_shows_how_far_it_is_and_wipes_it_away(name: str, title: str) -> None:
    said = kue(*bulk(name))
    assert said.code == 0
    assert f"{title} ▕{'█' * 24}▏ 100 %  1 of 1, 0 ms left" in said.err
    assert said.err.endswith("\r\x1b[K")
    assert "▏" not in said.out


@pytest.mark.parametrize("name", ["empty", "clean", "retry"])
def test_in_a_pipe_there_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", -1)
    assert kue(*bulk(name)).err == ""


def test_what_is_over_soon_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Screen, "has_live_errors", True)
    monkeypatch.setattr(progress, "PATIENCE", 3600)
    assert kue(*bulk("empty")).err == ""


@pytest.mark.usefixtures("watched")
def test_a_bar_is_wiped_away_when_the_work_breaks_off() -> None:
    written: list[str] = []

    class Paper:
        has_live_errors = True
        size = (40, 24)

        def overwrite(self, text: str) -> None:
            written.append(text)

    def parts() -> Iterator[int]:
        yield 10
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        progress.summed(Paper(), "Removing", 100, parts())  # type: ignore[arg-type]
    assert len(written[0]) <= 39
    assert written[-1] == ""


def test_the_bar_tells_how_far_it_is_and_how_long_it_takes() -> None:
    assert progress.line("Removing", 250, 1000, 2.0) == (
        "Removing ▕██████░░░░░░░░░░░░░░░░░░▏ 25 %  250 of 1,000, 6.0 s left"
    )
    assert progress.line("Removing", 0, 1000, 2.0).endswith("0 %  0 of 1,000")
    assert "100 %" in progress.line("Removing", 12, 10, 2.0)
    assert "100 %" in progress.line("Removing", 0, 0, 2.0)
