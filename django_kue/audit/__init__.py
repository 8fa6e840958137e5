"""The audit: checks every key of a queue against the others, while the queue is at work.

``faults`` lists what can be wrong. ``walk`` reads the keys, slice by slice; ``jobs`` and ``keys`` judge what
was read, without any I/O; ``repair`` puts it right; ``findings`` sums it up.

>>> from django_kue.audit import look
>>> look("email").count
0
"""

from __future__ import annotations

from django_kue.audit.faults import KINDS, Fault, Kind
from django_kue.audit.findings import Findings, Group, look, mend
from django_kue.audit.repair import repair
from django_kue.audit.walk import Auditor

__all__ = ["Auditor", "Fault", "Findings", "Group", "KINDS", "Kind", "audit", "look", "mend", "repair"]


def audit(queue: str) -> list[Fault]:
    """Everything that's wrong with the keys of a queue; an empty list when all is well.

    The queue may be at work meanwhile. See :class:`Auditor` for what it costs.

    Raises:
        StoreUnavailable: Redis is away.
    """
    return list(Auditor(queue).faults())
