"""Looks for known vulnerabilities in what's installed for this Python, with pip-audit. Fails if there's one,
or if a package couldn't be looked up: pip-audit skips those, or with ``--strict`` ends at the first.

    python .ci/audit_packages.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

MOST = 5  # packages that are named at most


def installed() -> str:
    """The installed packages, as requirements, without our own checkout, which isn't on PyPI."""
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "freeze", "--exclude-editable"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def asked(requirements: str) -> subprocess.CompletedProcess[str]:
    """What pip-audit says about them; it asks PyPI."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        words = ["--disable-pip", "--no-deps", "--format", "json", "--requirement", file.name]
        return subprocess.run(
            [sys.executable, "-m", "pip_audit", *words], capture_output=True, text=True, check=False
        )


def findings(packages: list[dict[str, Any]]) -> list[str]:
    """A line for each vulnerability, and one for all packages that couldn't be looked up."""
    found = [
        f"{package['name']} {package['version']}: {weakness['id']}, fixed in "
        f"{', '.join(weakness['fix_versions']) or 'no release yet'}"
        for package in packages
        for weakness in package.get("vulns", ())
    ]
    skipped = [package for package in packages if "skip_reason" in package]
    if skipped:
        names = ", ".join(package["name"] for package in skipped[:MOST])
        more = f" and {len(skipped) - MOST} more" if len(skipped) > MOST else ""
        found.append(
            f"{len(skipped)} of {len(packages)} packages couldn't be looked up ({names}{more}). "
            f"{skipped[0]['skip_reason']}. Does this index list no vulnerabilities? Run it where "
            "https://pypi.org/pypi/django/json can be read."
        )
    return found


def main() -> int:
    said = asked(installed())
    try:
        packages = json.loads(said.stdout)["dependencies"]
    except ValueError:
        why = (said.stderr.strip() or "it said nothing").splitlines()[-1]
        print(f"  nothing was audited: pip-audit failed ({why})")
        return 1
    found = findings(packages)
    for line in found:
        print(f"  {line}")
    print(f"  {len(packages)} packages, {len(found)} findings")
    return 1 if found or not packages else 0


if __name__ == "__main__":
    sys.exit(main())
