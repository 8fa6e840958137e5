"""Measures django-kue and its peers, in rounds in which they take turns. ``make bench`` runs it."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import replace

from benchmarks import page, report, results
from benchmarks.drivers import Driver, NoSuchCall
from benchmarks.measuring import Failed
from benchmarks.plan import PEERS, WORKLOADS, Workload
from benchmarks.results import Results

ROUNDS = 5
QUICK = {"backlog": 300_000}  # jobs of some workloads with --quick


def main() -> None:
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker is left behind
    if asked.again:
        found = results.load()
    else:
        found = run(asked)
    report.show(found)
    if asked.page:
        page.write(found)


def run(asked: argparse.Namespace) -> Results:
    names = _names(asked.peers)
    rounds = asked.rounds or (1 if asked.quick else ROUNDS)
    found = Results(rounds=rounds)
    present = {driver.name for driver in PEERS if _is_chosen(driver, names) and ask(found, driver)}
    missing = {driver.name for driver in PEERS} - present
    for number in range(1, rounds + 1):
        for workload in _workloads(asked):
            if number <= workload.rounds:
                for driver in workload.drivers:
                    if driver.module not in missing and _is_chosen(driver, names):
                        measure(found, workload, driver, number)
        found.save()
    return found


def ask(found: Results, driver: Driver) -> bool:
    """Ask a peer about itself. False if it isn't installed, or doesn't even start."""
    with driver.server() as server:
        if not found.machine:
            found.machine = results.machine(server.version())
        try:
            found.about[driver.name] = driver.about(server)
        except (Failed, OSError, subprocess.SubprocessError) as error:
            found.missing[driver.name] = str(error)
            print(f"{driver.name} takes no part: {error}", file=sys.stderr)
    return driver.name in found.about


def measure(found: Results, workload: Workload, driver: Driver, number: int) -> None:
    place = (workload.name, driver.name)
    if place in found.failures:
        return
    begin = time.monotonic()
    try:
        values = workload.run(driver, workload.jobs_for(driver))
    except (Failed, subprocess.SubprocessError) as failure:
        found.failures[place] = str(failure)
        if not isinstance(failure, NoSuchCall):
            print(f"{workload.name}: {driver.name}: {failure}", file=sys.stderr)
        return
    found.add(workload.name, driver.name, values)
    said = "  ".join(f"{metric} {value:,.6g}" for metric, value in values.items())
    took = time.monotonic() - begin
    print(f"{number} {workload.name:10} {driver.name:10} {took:5.1f} s  {said}", file=sys.stderr, flush=True)


def _names(peers: str | None) -> list[str] | None:
    if peers is None:
        return None
    known = list(dict.fromkeys(driver.name for workload in WORKLOADS for driver in workload.drivers))
    return _checked("peer", peers.split(","), known)


def _checked(what: str, names: list[str], known: list[str]) -> list[str]:
    if unknown := set(names) - set(known):
        sys.exit(f"no such {what}: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return names


def _workloads(asked: argparse.Namespace) -> list[Workload]:
    known = [workload.name for workload in WORKLOADS]
    names = _checked("workload", asked.only.split(","), known) if asked.only else known
    chosen = [workload for workload in WORKLOADS if workload.name in names]
    if asked.quick:
        chosen = [replace(workload, jobs=QUICK.get(workload.name, workload.jobs)) for workload in chosen]
    return chosen


def _is_chosen(driver: Driver, names: list[str] | None) -> bool:
    return names is None or driver.name in names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, with fewer jobs")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument(
        "--only", metavar="WORKLOADS", help=f"separated by commas: {', '.join(w.name for w in WORKLOADS)}"
    )
    parser.add_argument("--peers", metavar="NAMES", help="separated by commas; may include limit and plain")
    parser.add_argument("--page", action="store_true", help="write docs/explanation/benchmarks.md")
    parser.add_argument("--again", action="store_true", help="show the last run again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
