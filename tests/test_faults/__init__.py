"""Every fault of ``docs/explanation/guarantees.md``, by a test that's named after it.

Some are proven by tests of the rooms that they concern; the page's table says which.
``KUE_TEST_FAULTS=full`` runs the expensive ones at their full size, which takes half an hour; with
``-rP`` pytest shows what they measured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def full_size(usual: int, full: int) -> int:
    """How large a test is."""
    return full if os.environ.get("KUE_TEST_FAULTS") == "full" else usual


def percentile(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def tell(text: str) -> None:
    """What was measured, for who asks to see it."""
    sys.stdout.write(text + "\n")
