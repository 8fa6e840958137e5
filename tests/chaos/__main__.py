"""``python -m tests.chaos``: a chaos run, as ``make chaos`` does it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=11, help="how long jobs come and faults happen")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--faults", help="kill_child=60,cut_all: which, and how many a minute; default: faults.TABLE"
    )
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--lease", type=float, default=2.0)
    parser.add_argument("--drain", type=float, default=90, help="seconds that the last jobs have to end")
    parser.add_argument("--setup", choices=("one", "sentinel", "cluster"), default="one", help="of Redis")
    parser.add_argument("--mutant", default="", help="run a broken engine, of mutants.MUTANTS")
    parser.add_argument(
        "--mutants", action="store_true", help="judge the judge: run each mutant for a moment"
    )
    parser.add_argument("--findings", type=int, default=20, help="show so many")
    parser.add_argument("--forget", action="store_true", help="keep no evidence")
    parser.add_argument("--long", type=float, default=0.1, help="per cent of jobs longer than the lease")
    parser.add_argument("--plain", action="store_true", help="none of the jobs that misbehave")
    parser.add_argument(
        "--folder", type=Path, help="where ledger and data go; kept. Default: a temporary one"
    )
    options = parser.parse_args(arguments)

    if options.mutants:
        from tests.chaos.mutants import check_all

        print("\n".join(check_all()))
        return 0
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.chaos.settings"
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kue-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} isn't empty: a run of its own needs a folder of its own")
    from tests.chaos.run import play, show

    verdict = play(folder, options)
    show(verdict, options)
    if options.forget or (options.folder is None and not verdict.findings):
        shutil.rmtree(folder, ignore_errors=True)
    elif verdict.findings:
        print(f"  the evidence is in {folder}")
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
