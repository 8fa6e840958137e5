"""Fails if a file of the package is missing from the built sdist or wheel, or the dashboard from the sdist.

    python .ci/check_package.py dist

The Lua scripts, templates and ``py.typed`` are data: a build that forgets one still succeeds.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "django_kue"
DASHBOARD = "docs/grafana/django-kue.json"


def in_checkout() -> set[str]:
    files = (path for path in (ROOT / PACKAGE).rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def in_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as wheel:
        return set(wheel.namelist())


def in_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{folder}/ must contain one {pattern}; it contains {len(found)}. Empty it and build again.")
    return found[0]


def main(folder: Path) -> None:
    wanted = in_checkout()
    builds = {
        path: read(path)
        for path, read in ((only(folder, "*.whl"), in_wheel), (only(folder, "*.tar.gz"), in_sdist))
    }
    for path, names in builds.items():
        if missing := sorted(wanted - names):
            sys.exit(f"{path.name} lacks {', '.join(missing)}. Add them to package-data in pyproject.toml.")
        print(f"{path.name}: all {len(wanted)} files of {PACKAGE}/")
    if DASHBOARD not in in_sdist(only(folder, "*.tar.gz")):
        sys.exit(f"The sdist lacks {DASHBOARD}. MANIFEST.in should name it.")
    if parts := sorted(name for name in in_sdist(only(folder, "*.tar.gz")) if name.startswith("tests/")):
        sys.exit(f"The sdist contains tests, which only run from a checkout: {', '.join(parts)}.")
    strangers = {name.partition("/")[0] for name in in_wheel(only(folder, "*.whl"))} - {PACKAGE}
    if unexpected := sorted(name for name in strangers if not name.endswith(".dist-info")):
        sys.exit(f"The wheel also installs {', '.join(unexpected)}; it must install {PACKAGE} alone.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
