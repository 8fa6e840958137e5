"""One run: a stage, a producer, an injector; then quiet, and the judge."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.chaos import faults
from tests.chaos.judge import Evidence, Verdict, judge
from tests.chaos.ledger import Ledger
from tests.chaos.setups import Clustered, Watched
from tests.chaos.stage import Server, Stage, staged
from tests.worker_process import command_of, is_running

SETUPS: dict[str, Callable[[Path], Any]] = {"one": Server, "sentinel": Watched, "cluster": Clustered}
TABLES = {"one": faults.TABLE, "sentinel": faults.ON_SENTINEL, "cluster": faults.ON_CLUSTER}
BLINK, STARVED = 0.05, 0.5  # seconds between looks, and how late one is when the machine stood still


def play(folder: Path, options: argparse.Namespace) -> Verdict:
    """A whole run; what the judge says of it."""
    server = SETUPS[options.setup](folder / "redis")
    with staged(
        folder, server, workers=options.workers, lease=options.lease, mutant=options.mutant, seed=options.seed
    ) as stage:
        import django

        django.setup()  # the stage has said where its Redis is
        return _play(stage, options)


def _play(stage: Stage, options: argparse.Namespace) -> Verdict:
    source, injector = _producer(stage, options), _injector(stage, options)
    for worker in stage.workers:
        worker.process.wait_started(60)
    with _witness(injector):
        source.start()
        injector.start()
        injector.join()
        _come_to_rest(source, options.drain)
        findings = [*injector.troubles, *stage.server.troubles(), *_orderly_stops(stage)]
    if source.acknowledged < options.jobs:
        findings.append(f"only {source.acknowledged} of {options.jobs} jobs could be enqueued")
    verdict = judge(_evidence(stage, injector, options))
    findings += verdict.findings
    if findings:
        for worker in stage.workers:
            (stage.folder / f"{worker.name}.log").write_text(worker.log)
    more = {"enqueues refused or unsure": source.errors, "LOADING seen": stage.server.seen_loading}
    return Verdict(findings, verdict.figures | more)


def _producer(stage: Stage, options: argparse.Namespace) -> Any:
    from tests.chaos import producer

    return producer.Producer(
        str(stage.ledger), goal=options.jobs, seconds=options.minutes * 60, seed=options.seed,
        mix=producer.PLAIN + [(options.long, producer.LONG)] + ([] if options.plain else producer.NASTY),
    )  # fmt: skip


def _injector(stage: Stage, options: argparse.Namespace) -> faults.Injector:
    table = TABLES[options.setup] if options.faults is None else _table(options.faults)
    moments = faults.schedule(options.minutes * 60, options.seed, table)
    return faults.Injector(stage, moments, options.seed)


def _evidence(stage: Stage, injector: faults.Injector, options: argparse.Namespace) -> Evidence:
    """All that's known, once nothing goes on any more. What jobs left running is ended here."""
    from tests.chaos.finals import read_finals

    (stage.folder / "faults.json").write_text(json.dumps([asdict(fault) for fault in injector.faults]))
    finals, wrong, completions = read_finals(stage.server.url_of)
    ledger = Ledger.read(stage.ledger)
    survivors = [pid for pid in ledger.left if is_running(pid) and command_of(pid).startswith("sleep")]
    for pid in survivors:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return Evidence(
        ledger, injector.faults, finals, options.lease, stage.families(), completions, wrong, survivors
    )


def _come_to_rest(source: Any, seconds: float) -> None:
    """All jobs are enqueued, and ended; or the time for that is over, and the judge finds what's left."""
    from tests.chaos.finals import is_drained

    source.join(seconds)
    source.is_cut_short = True
    deadline = time.monotonic() + seconds
    while not is_drained() and time.monotonic() < deadline:
        time.sleep(0.1)


def _table(text: str) -> dict[faults.Deed, float]:
    """``kill_child=60,cut_all``: names, and how many a minute if it's not to be as many as usual."""
    table = {}
    for word in filter(None, text.split(",")):
        name, _, a_minute = word.partition("=")
        deed = faults.NAMES[name]
        table[deed] = float(a_minute or faults.TABLE[deed])
    return table


def _orderly_stops(stage: Stage) -> list[str]:
    """SIGTERM to all; every worker must end with exit code 0."""
    findings = []
    for worker in stage.workers:
        worker.pids()
        worker.process.send(signal.SIGTERM)
    for worker in stage.workers:
        try:
            if code := worker.process.wait(20):
                findings.append(f"{worker.name} ended with exit code {code}")
        except AssertionError:
            findings.append(f"{worker.name} did not stop within 20 s")
        findings += [
            f"{worker.name} logged a traceback: {line}"
            for line in worker.log.splitlines()
            if line.startswith("Traceback")
        ][:1]
    return findings


@contextmanager
def _witness(injector: faults.Injector) -> Iterator[None]:
    """When the machine itself stands still, nobody can beat: that's noted as a fault, since it is one."""
    is_over = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not is_over.wait(BLINK):
            now = time.monotonic()
            if now - seen > STARVED:
                injector.faults.append(faults.Fault("starved machine", seen, now, silenced=None))
            seen = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def show(verdict: Verdict, options: argparse.Namespace) -> None:
    """The figures and the findings, for people."""
    print(f"chaos: seed {options.seed}, {options.minutes:g} minutes, lease {options.lease:g} s")
    for name, figure in verdict.figures.items():
        print(f"  {name:36} {figure:>10}")
    for finding in verdict.findings[: options.findings]:
        print(f"  ✗ {finding}")
    if len(verdict.findings) > options.findings:
        print(f"  ✗ … and {len(verdict.findings) - options.findings} more")
    print("  ✓ nothing is wrong" if not verdict.findings else f"  {len(verdict.findings)} findings")
