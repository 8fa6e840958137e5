"""`make audit` finds nothing only where it could look."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "audit_packages.py"))


def audited(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "") -> int:
    main = SCRIPT["main"]
    monkeypatch.setitem(main.__globals__, "installed", lambda: "")
    monkeypatch.setitem(main.__globals__, "asked", lambda _: SimpleNamespace(stdout=stdout, stderr=stderr))
    return int(main())


def test_a_weakness_is_named_with_the_release_that_mends_it() -> None:
    weak = {"name": "django", "version": "5.2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.2.1"]}]}
    assert SCRIPT["findings"]([weak]) == ["django 5.2: PYSEC-1, fixed in 5.2.1"]


def test_what_was_looked_up_and_is_well_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audited(monkeypatch, '{"dependencies": [{"name": "redis", "version": "8", "vulns": []}]}') == 0
    assert "1 packages, 0 findings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("stdout", "said"),
    [
        (
            '{"dependencies": [{"name": "redis", "skip_reason": "not found"}]}',
            "1 of 1 packages couldn't be looked up (redis)",
        ),
        ("", "nothing was audited: pip-audit failed (ConnectionError: no network)"),
    ],
    ids=["an index that knows no weaknesses", "no network"],
)
def test_what_could_not_be_looked_up_is_told_and_is_no_success(
    stdout: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audited(monkeypatch, stdout, "Traceback …\nConnectionError: no network\n") == 1
    assert said in capsys.readouterr().out


def test_an_empty_environment_is_no_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert audited(monkeypatch, '{"dependencies": []}') == 1
