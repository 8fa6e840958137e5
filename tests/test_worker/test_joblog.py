"""The worker's lines about jobs."""

from __future__ import annotations

import logging

import pytest

from django_kue import records
from django_kue.context import JobContext, _current
from django_kue.execution import DONE, Outcome, Run
from django_kue.jobs import JobError
from django_kue.logging import JobFilter
from django_kue.worker import joblog


def test_where_nobody_reads_the_log_the_oldest_lines_are_left_out_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(joblog, "MOST", 3)
    log = joblog.JobLog()
    for number in range(5):
        log.add_stale(Run("default", b"%022d" % number, b"1|2|me", b"", 2, 0.0))
    log.flush()
    log.flush()
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith("2 lines about jobs were dropped")
    assert [record.job_id[-1] for record in caplog.records[1:]] == ["2", "3", "4"]


FOREIGN = b"x\n12:00:00 ERROR    forged \x1b[2J"
SPELT_OUT = r"x\n12:00:00 ERROR    forged \x1b[2J"


def foreign_run(outcome: Outcome | None = None) -> Run:
    """Of a job that somebody wrote into Redis."""
    run = Run("default", FOREIGN, b"1|2|me", b"", 2, 0.0)
    run.record = records.Record({}, FOREIGN.decode(), b"", b"[]")
    run.outcome = outcome
    return run


@pytest.mark.parametrize("outcome", [DONE, Outcome("f"), Outcome("k"), None], ids=str)
def test_foreign_names_and_ids_are_spelt_out_in_a_line_and_in_its_attributes(
    outcome: Outcome | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A formatter may show each attribute, in a line of text as well as in JSON."""
    caplog.set_level(logging.INFO)
    log = joblog.JobLog()
    if outcome:
        log.add([foreign_run(outcome)])
    else:
        log.add_stale(foreign_run())
    log.flush()
    [record] = caplog.records
    assert f"default.{SPELT_OUT}" in record.getMessage()
    assert (record.job_id, record.job_name) == (f"default.{SPELT_OUT}", SPELT_OUT)
    assert "\x1b" not in record.getMessage()


def trace_of(traceback: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines below a failure's."""
    log = joblog.JobLog()
    log.add([foreign_run(Outcome("f", error=JobError("builtins.ValueError", "no", traceback)))])
    log.flush()
    record = caplog.records[-1]
    return logging.Formatter().format(record).splitlines()[1:]


def test_below_a_failure_is_its_traceback_indented(caplog: pytest.LogCaptureFixture) -> None:
    assert trace_of("Traceback:\n  File x\n\nValueError: \x1bno\n", caplog) == [
        "    Traceback:", "      File x", "", r"    ValueError: \x1bno",
    ]  # fmt: skip
    assert trace_of("", caplog) == []


LONG = {"lines": "  a frame\n" * 9000, "one": "x" * 60_000, "spelt out": "\x1b" * 2000, "bytes": "ä\n" * 1400}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_of_a_long_traceback_the_end_is_logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    shown = trace_of(f"{text}\nValueError: no", caplog)
    assert shown[0] == "    …"
    assert shown[-1] == "    ValueError: no"
    assert all(line.startswith("    ") for line in shown if line)
    assert len("\n".join(shown).encode()) <= joblog.TRACE + len("    …\n".encode())


def test_of_a_line_that_is_too_long_its_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    [shown] = trace_of("x" * 60_000 + "the end", caplog)
    assert shown.startswith("    …xxx")
    assert shown.endswith("xthe end")
    assert len(shown.encode()) <= joblog.TRACE + len("    …".encode())


def test_foreign_ids_are_spelt_out_beside_the_lines_of_a_job_s_own_code() -> None:
    token = _current.set(JobContext(foreign_run()))
    try:
        record = joblog._with_job_id("shop", logging.INFO, __file__, 1, "hello", (), None)
        other = logging.makeLogRecord({"msg": "hello"})
        assert JobFilter().filter(other)
    finally:
        _current.reset(token)
    assert record.job_id == f"default.{SPELT_OUT}"
    assert (other.job_id, other.job_name) == (f"default.{SPELT_OUT}", SPELT_OUT)  # type: ignore[attr-defined]
