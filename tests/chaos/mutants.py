"""Broken engines: each must be found out by the judge. They exist in the tests only, see ``apps.py``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """How the engine is broken, and what a judge that sees well says of it."""

    apply: Callable[[], None]
    finding: str


def _acknowledge_early() -> None:
    """The end is told before the run."""
    from django_kue.execution import DONE, Run
    from django_kue.worker.executors import Threads

    work = Threads.work

    def tell_then_work(threads: Threads, slot, item) -> None:  # type: ignore[no-untyped-def]
        if isinstance(item, Run):
            threads._done(item, DONE)
            threads._run(slot, item)
        else:
            work(threads, slot, item)

    Threads.work = tell_then_work  # type: ignore[method-assign]


def _never_rescue() -> None:
    from django_kue.worker.sweeping import Sweeps

    Sweeps.sweep_if_due = lambda sweeps: None  # type: ignore[method-assign]


def _never_beat() -> None:
    from django_kue.worker.supervisor import Supervisor

    Supervisor._beat = lambda supervisor: None  # type: ignore[method-assign]


def _accept_anything() -> None:
    """Outcomes are settled whoever holds the lease."""
    _rewrite("lib/settle", "if held[i] ~= lease then return false end", "")
    _rewrite("lib/settle", "if held[i] ~= lease then", "if false then")


def _forget_sends() -> None:
    """A send that's repeated creates its jobs again."""
    was_applied = "redis.call('SET', KEYS.senders .. sender, number, 'EX', '600', 'GET') == number"
    _rewrite("enqueue", f"if {was_applied} then return end", "")


def _rewrite(name: str, old: str, new: str) -> None:
    """Replace a part of a script before it's loaded."""
    from django_kue import scripts

    if old not in (scripts.FOLDER / f"{name}.lua").read_text():
        raise LookupError(f"{name}.lua has no {old!r} any more: this mutant must change with it")
    read = scripts._with_includes

    def read_otherwise(script: str, seen: dict[str, str]) -> dict[str, str]:
        texts = read(script, seen)
        if name in texts:
            texts[name] = texts[name].replace(old, new)
        return texts

    scripts._with_includes = read_otherwise
    scripts.load.cache_clear()


MUTANTS = {
    "early acknowledgement": Mutant(_acknowledge_early, "no run of it came to its end"),
    "no reaper": Mutant(_never_rescue, "is stuck"),
    "no heartbeat": Mutant(_never_beat, "ran again for no reason"),
    "no fencing": Mutant(_accept_anything, "completions are counted"),
    "enqueue not idempotent": Mutant(_forget_sends, "for no reason"),
}

# A short run that gives each of them an occasion. Without a mutant nothing may be found in it.
_RUN = (
    "--jobs", "3000", "--minutes", "0.16", "--seed", "5", "--plain", "--workers", "2", "--lease", "1.5",
    "--long", "0.6", "--drain", "12",
    "--faults", "kill_child=40,kill_worker=25,freeze_worker=12,cut_producer=60",
)  # fmt: skip


def check(name: str) -> str:
    """What the judge makes of a mutant, ``""`` of the engine as it is; raises when it's blind, or sees
    ghosts."""
    command = [sys.executable, "-m", "tests.chaos", *_RUN, "--mutant", name, "--forget", "--findings", "9999"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in run.stdout.splitlines() if "✗" in line]
    wanted = MUTANTS[name].finding if name else ""
    if not name and (found or run.returncode):
        raise AssertionError(f"the engine is as it should be, and the judge says:\n{run.stdout}{run.stderr}")
    if name and not any(wanted in line for line in found):
        raise AssertionError(f"{name}: {wanted!r} isn't among what was found:\n{run.stdout}{run.stderr}")
    return f"{name or 'the engine as it is'}: {len(found)} findings{f', such as {found[0]}' if found else ''}"


def check_all() -> list[str]:
    """Judge the judge by all of them, and by none."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(check, ["", *MUTANTS]))
