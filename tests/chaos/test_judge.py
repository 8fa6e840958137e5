"""The judge is judged: each rule, by evidence that breaks it and by the nearest that doesn't."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.judge import Evidence, Final, judge
from tests.chaos.ledger import ENQUEUED, FINISHED, HARMFUL, STARTED, TOLD, Ledger, Pen, Run

PID, OTHER, SUPERVISOR = 100, 200, 99
FIRST = Run(1, 1, PID, start=10.0, end=10.1)
CUT_SHORT = Run(1, 1, PID, start=10.0)
SECOND = Run(1, 1, OTHER, start=12.0, end=12.1)
DONE = Final(1, "default.a", "work", "completed")


def evidence(
    runs: Sequence[Run] = (FIRST,), finals: Sequence[Final] = (DONE,), *done: Fault, **more: Any
) -> Evidence:
    ledger = Ledger(enqueued={1: 9.0}, runs={1: list(runs)})
    for name in ("unsure", "refused", "told", "left"):
        if name in more:
            setattr(ledger, name, more.pop(name))
    return Evidence(ledger, done, finals, lease=2.0, families={PID: SUPERVISOR}, **more)


def killed(at: float, pid: int = PID, name: str = "kill_child") -> Fault:
    return Fault(name, at, at, killed=[pid])


def silent(at: float, until: float, *pids: int) -> Fault:
    return Fault("freeze_worker", at, until, silenced=list(pids) or None)


WELL: dict[str, Evidence] = {
    "one run": evidence(),
    "a run cut short by a kill": evidence([CUT_SHORT, SECOND], [DONE], killed(11.0)),
    "a run whose end wasn't told before the kill": evidence([FIRST, SECOND], [DONE], killed(10.2)),
    "two runs at once, after the first's worker was frozen for a lease": evidence(
        [Run(1, 1, PID, 10.0, 13.0), SECOND], [DONE], silent(10.0, 12.5, PID)
    ),
    "the same, its supervisor was frozen": evidence(
        [Run(1, 1, PID, 10.0, 13.0), SECOND], [DONE], silent(10.0, 12.5, SUPERVISOR)
    ),
    "a run that a frozen worker had been about to start": evidence(
        [FIRST, SECOND], [DONE], silent(9.5, 11.9, OTHER)
    ),
    "a second attempt": evidence(
        [FIRST, Run(1, 2, PID, 11.0, 11.1)], [Final(1, "default.a", "flaky", "completed", failures=1)]
    ),
    "a job that killed three processes": evidence(
        [Run(1, 1, pid, pid / 10, doom=pid / 10 + 1) for pid in (100, 110, 120)],
        [Final(1, "default.a", "die", "failed", "JobCrashed")],
    ),
    "an enqueue without an answer": evidence(unsure={2}),
    "told once": evidence(told={1: ["completed"]}, completions=1),
    "what a job left, its supervisor having been killed": evidence(
        (FIRST,), (DONE,), killed(11.0, SUPERVISOR, "kill_supervisor"), left={7: PID}, survivors=[7]
    ),
}

ILL: dict[str, tuple[Evidence, str]] = {
    "an acknowledged job isn't there": (evidence([], []), "is lost"),
    "a job was created twice": (
        evidence((FIRST,), [DONE, Final(1, "default.b", "work", "completed")]), "was created 2 times",
    ),
    "a refused one is there": (evidence(refused={1}), "refused for sure"),
    "a job stands still": (evidence((FIRST,), [Final(1, "default.a", "work", "active")]), "is stuck"),
    "a wrong end": (
        evidence((FIRST,), [Final(1, "default.a", "work", "failed", "ValueError")]), "ended as 'failed",
    ),
    "a crash that nobody caused": (
        evidence((CUT_SHORT,), [Final(1, "default.a", "work", "failed", "JobCrashed")]), "JobCrashed",
    ),
    "completed before it was run": (
        evidence((CUT_SHORT,), (DONE,), killed(11.0)), "no run of it came to its end",
    ),
    "a failed attempt that isn't counted": (
        evidence([FIRST, Run(1, 2, PID, 11.0, 11.1)]), "0 failed attempts recorded",
    ),
    "an end recorded twice": (evidence(told={1: ["completed"] * 2}), "recorded 2 times"),
    "one completion too many": (evidence(completions=2), "2 completions are counted"),
    "a repeated run": (evidence([FIRST, SECOND]), "ran again for no reason"),
    "a run repeated by the kill of another process": (
        evidence([FIRST, SECOND], (DONE,), killed(10.2, 101)), "ran again for no reason",
    ),
    "a run repeated by a kill long after its end": (
        evidence([FIRST, SECOND], (DONE,), killed(11.9)), "ran again for no reason",
    ),
    "a run repeated by a freeze shorter than the lease": (
        evidence([Run(1, 1, PID, 10.0, 13.0), SECOND], (DONE,), silent(11.0, 11.8, PID)),
        "ran again for no reason",
    ),
    "a run repeated by another worker's freeze": (
        evidence([Run(1, 1, PID, 10.0, 13.0), SECOND], (DONE,), silent(10.0, 12.5, 300)),
        "ran again for no reason",
    ),
    "a run repeated by two short freezes at once": (
        evidence(
            [Run(1, 1, PID, 10.0, 13.0), SECOND], (DONE,), silent(11.0, 11.8, PID), silent(11.0, 11.8, PID)
        ),
        "ran again for no reason",
    ),
    "a late reclaim": (
        evidence([CUT_SHORT, Run(1, 1, OTHER, 16.0, 16.1)], (DONE,), killed(11.0)), "more than 1.5 leases",
    ),
    "what a job left lives on": (evidence(left={7: PID}, survivors=[7]), "lives on"),
    "keys that don't agree": (evidence(audit=["x"]), "keys are not well"),
}  # fmt: skip


@pytest.mark.parametrize("name", WELL)
def test_what_the_faults_explain_is_no_finding(name: str) -> None:
    assert judge(WELL[name]).findings == []


@pytest.mark.parametrize("name", ILL)
def test_what_nothing_explains_is_found(name: str) -> None:
    one, text = ILL[name]
    assert any(text in finding for finding in judge(one).findings), judge(one).findings


def test_a_reclaim_is_not_late_by_as_long_as_redis_was_away() -> None:
    runs = [CUT_SHORT, Run(1, 1, OTHER, 17.0, 17.1)]
    outage = Fault("freeze_redis", 11.5, 14.5, silenced=None)
    assert judge(evidence(runs, (DONE,), killed(11.0), outage)).findings == []


def test_a_reclaim_ends_when_the_job_is_back_in_its_queue() -> None:
    """The next to claim it may die as well, before it starts."""
    one = evidence([CUT_SHORT, Run(1, 1, OTHER, 17.0, 17.1)], (DONE,), killed(11.0))
    one.ledger.back[1] = [13.0]
    assert judge(one).findings == []


def test_the_figure_of_repeated_runs_counts_those_that_had_finished() -> None:
    one = evidence([FIRST, SECOND], (DONE,), killed(10.2))
    other = evidence([CUT_SHORT, SECOND], (DONE,), killed(11.0))
    name = "finished runs repeated a kill"
    assert (judge(one).figures[name], judge(other).figures[name]) == (1.0, 0.0)


def test_the_ledger_says_what_was_written(tmp_path: Path) -> None:
    pen = Pen(str(tmp_path / "ledger"))
    pen.write(ENQUEUED, 1)
    pen.write(STARTED, 1, "token", 2, 300)
    pen.write(HARMFUL, 1, "token", 4.0)
    pen.write(FINISHED, 1, "token")
    with (tmp_path / "ledger").open("a") as file:
        file.write("\ns 2 30")  # its process was killed
    pen.write(TOLD, 1, "completed")
    ledger = Ledger.read(tmp_path / "ledger")
    [run] = ledger.all_runs
    assert (run.number, run.attempt, run.pid) == (1, 2, 300)
    assert run.end is not None
    assert run.start <= run.end < run.doom
    assert (list(ledger.enqueued), ledger.told) == ([1], {1: ["completed"]})


def test_a_seed_repeats_the_schedule_and_another_does_not() -> None:
    one, again, other = (faults.schedule(60, seed, faults.TABLE) for seed in (1, 1, 2))
    assert one == again != other
    assert {deed for _, deed in one} == set(faults.TABLE)
    assert len(one) == sum(faults.TABLE.values())
