"""The judge: what the faults don't explain is a finding. Pure functions over the evidence.

The rules:

- what Redis acknowledged is there at the end, once, has ended as its kind must, and was told of once;
- what was refused isn't there;
- a job is complete only if one of its runs came to its end;
- a run is repeated only if the one before had been in a process that was ended, or that was kept from
  Redis for about a lease; two runs of a job go on at once only in the latter case (*the lease rule*);
- what was running in a process that was ended is soon back in its queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.faults import KILLS, RESTARTS, Fault
from tests.chaos.ledger import Ledger, Run

# What becomes of a kind of job: its state, and the last word of its error's type.
ENDS: dict[str, tuple[str, ...]] = {
    "work": ("completed",), "quiet": ("completed",), "compute": ("completed",), "await_": ("completed",),
    "flaky": ("completed",), "long": ("completed",), "fork": ("completed",), "leave_thread": ("completed",),
    "log_megabytes": ("completed",), "die": ("completed", "failed JobCrashed"),
    "spin": ("failed JobTimeout",),
    "ignore_everything": ("failed JobTimeout",), "eat_memory": ("failed MemoryError",),
    "return_": ("failed ValueError",),
    "raise_": (
        "failed SystemExit", "failed KeyboardInterrupt", "failed RecursionError", "failed Unspeakable",
        "failed Exiting", "failed ValueError",
    ),
}  # fmt: skip
CRASHED = "failed JobCrashed"
MAX_CRASHES = 3
UNTOLD = (
    0.5  # seconds after its end in which a run's outcome may be unknown to Redis, if nothing kept it away
)
SLACK = 0.3  # seconds that a process needs to do what it's due to do, on a busy machine
SWEEP = 0.4  # leases between two looks for the dead
THAWED = 1.0  # seconds before the end of a freeze in which the frozen go on already
QUIET = 2 / 3  # of a lease: who can't beat for so long may lose its jobs


@dataclass(frozen=True)
class Final:
    """A job as it stands in Redis at the end."""

    number: int
    id: str
    kind: str
    state: str
    error: str = ""  # the last word of its type
    failures: int = 0  # attempts that ended badly

    @property
    def end(self) -> str:
        return f"{self.state} {self.error}".strip()


@dataclass
class Evidence:
    """All that the judge looks at."""

    ledger: Ledger
    faults: Sequence[Fault]
    finals: Sequence[Final]
    lease: float
    families: Mapping[int, int] = field(default_factory=dict)  # process → its supervisor
    completions: int | None = None  # as Redis counted them
    audit: Sequence[str] = ()
    survivors: Iterable[int] = ()  # of the processes that jobs left behind, those that live

    def __post_init__(self) -> None:
        self.by_number: dict[int, list[Final]] = {}
        for final in self.finals:
            self.by_number.setdefault(final.number, []).append(final)
        self.killed: dict[int, float] = {}
        for fault in self.faults:
            for pid in fault.killed:
                self.killed.setdefault(pid, fault.at)
        self.silences = [fault for fault in self.faults if fault.silenced is None or fault.silenced]
        self.dooms: dict[int, list[Run]] = {}
        for run in self.ledger.all_runs:
            if run.doom is not None:
                self.dooms.setdefault(run.pid, []).append(run)

    def silenced(self, pid: int) -> list[Fault]:
        """When a process couldn't talk to Redis, or its supervisor couldn't."""
        family = {pid, self.families.get(pid, pid)}
        return [fault for fault in self.silences if fault.silenced is None or family & set(fault.silenced)]


@dataclass
class Verdict:
    """What was found, and the figures."""

    findings: list[str]
    figures: dict[str, float | int]


def judge(evidence: Evidence) -> Verdict:
    """Everything that's wrong; nothing when all is as promised."""
    findings = [
        *lost_or_doubled(evidence),
        *wrong_ends(evidence),
        *told_twice(evidence),
        *unexplained_runs(evidence),
        *late_reclaims(evidence),
        *survivors(evidence),
        *(f"the keys are not well: {text}" for text in evidence.audit),
    ]
    return Verdict(findings, figures(evidence))


# ── what stands in Redis ──


def lost_or_doubled(evidence: Evidence) -> Iterator[str]:
    ledger = evidence.ledger
    for number in ledger.enqueued:
        copies = evidence.by_number.get(number, [])
        if not copies:
            yield f"job {number} is lost: its enqueue was acknowledged, and it isn't there"
    for number, copies in evidence.by_number.items():
        if len(copies) > 1:
            yield f"job {number} was created {len(copies)} times: {', '.join(one.id for one in copies)}"
        if number in ledger.refused:
            yield f"job {number} is there, though its enqueue was refused for sure"


def wrong_ends(evidence: Evidence) -> Iterator[str]:
    for final in evidence.finals:
        runs = evidence.ledger.runs.get(final.number, [])
        if final.state in ("waiting", "delayed", "active"):
            yield f"job {final.number} is stuck: {final.state}, after {len(runs)} runs"
        elif final.end == CRASHED and sum(_crashed(evidence, run) for run in runs) >= MAX_CRASHES:
            pass
        elif final.end not in ENDS[final.kind] or (final.end == CRASHED and final.kind != "die"):
            yield f"job {final.number} ({final.kind}) ended as {final.end!r}"
        elif final.state == "completed":
            yield from _wrong_completion(final, runs)


def _crashed(evidence: Evidence, run: Run) -> bool:
    """Whether its process was ended, or its worker declared dead."""
    if run.end is None:
        return run.doom is not None or run.pid in evidence.killed
    return _silent_time(evidence, run, run.end) >= evidence.lease * QUIET


def _wrong_completion(final: Final, runs: Sequence[Run]) -> Iterator[str]:
    attempts = {run.attempt for run in runs}
    if not any(run.end is not None for run in runs):
        yield f"job {final.number} is recorded as completed, and no run of it came to its end"
    elif final.failures + 1 != max(attempts):
        yield f"job {final.number} has {final.failures} failed attempts recorded; it ran {sorted(attempts)}"


def told_twice(evidence: Evidence) -> Iterator[str]:
    for number, states in evidence.ledger.told.items():
        if len(states) > 1:
            yield f"the end of job {number} was recorded {len(states)} times: {states}"
    completed = sum(final.state == "completed" for final in evidence.finals)
    if evidence.completions is not None and evidence.completions != completed:
        yield f"{evidence.completions} completions are counted, {completed} jobs are completed"


# ── runs ──


def repeats(evidence: Evidence) -> Iterator[tuple[Run, Run]]:
    """Runs of one attempt that follow each other."""
    for runs in evidence.ledger.runs.values():
        if len(runs) > 1:
            for attempt in {run.attempt for run in runs}:
                yield from pairwise([run for run in runs if run.attempt == attempt])


def unexplained_runs(evidence: Evidence) -> Iterator[str]:
    for first, second in repeats(evidence):
        death = _death(evidence, first, second.start)
        is_silent = _was_silent(evidence, first, second)
        if death is None and not is_silent:
            yield f"job {first.number} ran again for no reason: {first}, then {second}"
        elif not is_silent and death is not None and second.start < death - 0.005:
            yield f"job {first.number} had two runs at once: {first}, {second}"


def _death(evidence: Evidence, run: Run, before: float) -> float | None:
    """When the process of a run that wasn't told yet was ended, if it was."""
    untold_until = float("inf") if run.end is None else run.end + UNTOLD + _outage_after(evidence, run)
    return next(
        (
            first
            for first, last in _ends(evidence, run.pid)
            if run.start - SLACK <= last and first <= min(before, untold_until)
        ),
        None,
    )


def _ends(evidence: Evidence, pid: int) -> Iterator[tuple[float, float]]:
    """What may have ended a process: from when to when."""
    for fault in evidence.faults:
        if pid in fault.killed:
            is_orderly = fault.name == "stop_worker"  # what still runs after its timeout is ended
            yield fault.at, fault.until if is_orderly else fault.at
    for culprit in evidence.dooms.get(pid, []):
        assert culprit.doom is not None
        yield culprit.start, culprit.doom


def _outage_after(evidence: Evidence, run: Run) -> float:
    """How long the outcome of a run may have been kept from Redis."""
    assert run.end is not None
    return sum(
        fault.length + SLACK
        for fault in evidence.silenced(run.pid)
        if fault.at <= run.end + UNTOLD and fault.until >= run.end - SLACK
    )


def _was_silent(evidence: Evidence, first: Run, second: Run) -> bool:
    """Whether the first run's worker couldn't beat for about a lease before the second began."""
    return _silent_time(evidence, first, second.start) >= evidence.lease * QUIET or any(
        # frozen when it was just about to start: no check is one with the start that follows it
        fault.length >= evidence.lease * QUIET and fault.until - THAWED <= second.start <= fault.until + SLACK
        for fault in evidence.silenced(second.pid)
        if fault.name == "freeze_worker"
    )


def _silent_time(evidence: Evidence, run: Run, until: float) -> float:
    """Seconds, at most, in which a run's worker couldn't beat."""
    since = run.start - evidence.lease  # its lease may have been renewed last just before
    spans = [(max(fault.at, since), min(fault.until, until)) for fault in evidence.silenced(run.pid)]
    return covered(spans) + SLACK if spans else 0.0


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How long at least one of the spans lasts."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


# ── reclaim ──


@dataclass(frozen=True)
class Reclaim:
    """A run that was ended with its process, and how long it took until its job was back in the queue, or
    ran again. (It may be claimed by somebody who dies as well before it starts: that's another reclaim.)"""

    number: int
    seconds: float  # without what Redis was away for
    is_watched: bool  # its supervisor lived


def reclaims(evidence: Evidence) -> list[Reclaim]:
    found = []
    kills = [fault for fault in evidence.faults if fault.name in KILLS]
    killed = {pid: fault for fault in kills for pid in fault.killed}
    for runs in evidence.ledger.runs.values():
        for first, second in pairwise(runs):
            fault = killed.get(first.pid)
            if fault is None or first.start - SLACK > fault.at:  # another process of this number, later
                continue
            if first.end is None and first.doom is None:
                back = [at for at in evidence.ledger.back.get(first.number, []) if at > fault.at]
                until = min([second.start, *back])
                since = _last_holder(evidence, fault.at, until)
                seconds = until - since - _excused(evidence, since, until)
                found.append(Reclaim(first.number, max(0.0, seconds), fault.name == "kill_child"))
    return found


def _last_holder(evidence: Evidence, since: float, until: float) -> float:
    """When the last died that may have held the job: whoever claimed it next may have been killed before it
    could start it, once there was time to take it from the first."""
    for fault in sorted(evidence.faults, key=lambda fault: fault.at):
        is_whole = fault.name in ("kill_worker", "kill_supervisor", "freeze_worker")
        after = fault.at - since - _excused(evidence, since, fault.at)
        if is_whole and fault.at < until and evidence.lease * QUIET <= after <= evidence.lease * 1.5 + SLACK:
            since = fault.at
    return since


def _excused(evidence: Evidence, since: float, until: float) -> float:
    """Outages between: leases stand still meanwhile, and before, as long as nobody swept."""
    excused = 0.0
    for fault in evidence.silences:
        if fault.silenced is None:
            shared = min(fault.until, until) - max(fault.at, since - evidence.lease)
            if shared > 0:
                excused += min(shared, fault.length) + evidence.lease * SWEEP
    return excused


def late_reclaims(evidence: Evidence) -> Iterator[str]:
    seconds = [one.seconds for one in reclaims(evidence)]
    if (late := percentile(seconds, 0.99)) > 1.5 * evidence.lease + SLACK:
        worst = max(reclaims(evidence), key=lambda one: one.seconds)
        yield f"99 % of reclaims took up to {late:.2f} s, more than 1.5 leases; the worst: {worst}"


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


# ── the rest ──


def survivors(evidence: Evidence) -> Iterator[str]:
    """What jobs leave running goes with their process, unless its supervisor was killed."""
    for pid in evidence.survivors:
        process = evidence.ledger.left[pid]
        if evidence.families.get(process) not in evidence.killed:
            yield f"process {pid}, which a job left behind in {process}, lives on"


def repeated_finished(evidence: Evidence) -> list[Run]:
    """Runs that had finished and were repeated because their process was killed."""
    kills = {pid: fault.at for fault in evidence.faults if fault.name in KILLS for pid in fault.killed}
    return [
        first
        for first, second in repeats(evidence)
        if first.end is not None and first.end <= kills.get(first.pid, -1.0) <= second.start
    ]


def _was_kept(evidence: Evidence, run: Run) -> bool:
    """Whether a finished run couldn't be told since Redis was out of reach."""
    assert run.end is not None
    until = run.end + UNTOLD
    return any(fault.at <= until and fault.until >= run.end - SLACK for fault in evidence.silenced(run.pid))


def figures(evidence: Evidence) -> dict[str, float | int]:
    ledger, counts = evidence.ledger, Counter(fault.name for fault in evidence.faults)
    kills = sum(counts[name] for name in KILLS)
    found = reclaims(evidence)
    repeated = repeated_finished(evidence)
    kept = [run for run in repeated if _was_kept(evidence, run)]
    return {
        "jobs acknowledged": len(ledger.enqueued),
        "jobs at the end": len(evidence.finals),
        "runs": len(ledger.all_runs),
        "faults": sum(counts.values()),
        "kills": kills,
        "restarts of Redis": sum(counts[name] for name in RESTARTS),
        "processes ended by jobs": sum(run.end is None for run in ledger.all_runs if run.doom is not None),
        "runs repeated": sum(1 for _ in repeats(evidence)),
        "finished runs repeated a kill": round((len(repeated) - len(kept)) / kills, 2) if kills else 0,
        "more, Redis being out of reach": len(kept),
        "reclaim p50": round(percentile([one.seconds for one in found], 0.5), 2),
        "reclaim p99": round(percentile([one.seconds for one in found], 0.99), 2),
        "reclaim p99, supervisor alive": round(
            percentile([one.seconds for one in found if one.is_watched], 0.99), 2
        ),
    }
