"""The verbs on jobs (retry, promote, cancel …): the store's words for them, and a job as each leaves it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from django_kue import signals
from django_kue.errors import IllegalTransition, JobDoesNotExist
from django_kue.moments import moment
from django_kue.states import State
from django_kue.store.moves import LEGAL, Answer

if TYPE_CHECKING:
    from django_kue.jobs import Job

SIGNALS = {
    "requeue": signals.job_enqueued,
    "promote": signals.job_promoted,
    "cancel": signals.job_cancelled,
    "remove": signals.job_removed,
}
GONE = "it was removed, it's no longer kept, its transaction isn't committed, or Redis lost it"

_WORDS = {
    "requeue": "retry", "promote": "promote", "cancel": "cancel", "remove": "remove",
    "set_priority": "change the priority of",
}  # fmt: skip
_TARGETS = {"requeue": State.WAITING, "promote": State.WAITING, "cancel": State.CANCELLED}
# What a retry resets, along with the attempts.
_OF_RUNS = frozenset({
    "started_at", "finished_at", "progress", "progress_data", "error", "worker", "crashes", "is_parked",
    "_result",
})  # fmt: skip


def signal_of(verb: str, answer: Answer) -> Any:
    """The signal for what a verb did. For cancelling a running job, the worker sends it when the run ends."""
    return None if verb == "cancel" and answer.before is State.ACTIVE else SIGNALS.get(verb)


def after(job: Job, verb: str, answer: Answer, **changes: Any) -> Job:
    """A job as a verb left it.

    Raises:
        IllegalTransition: its state doesn't allow it, or another job holds its unique key.
        JobDoesNotExist: it's gone.
    """
    _check(job, verb, answer)
    if verb == "cancel" and answer.before is State.ACTIVE:
        return replace(job, state=State.ACTIVE, is_cancelling=True)
    assert answer.before is not None
    state, at = _TARGETS.get(verb, answer.before), moment(answer.at_ms)
    if state is not State.ACTIVE:
        changes["is_cancelling"] = False
    if verb == "requeue":
        changes |= _before_its_runs(job) | {"attempts_made": 0, "run_at": at}
    elif verb == "promote":
        changes["run_at"] = at
    elif verb == "cancel":
        changes |= {"finished_at": at, "is_parked": False}
    return replace(job, state=state, **changes)


def _check(job: Job, verb: str, answer: Answer) -> None:
    if answer.is_held:
        raise IllegalTransition(f"Can't {_WORDS[verb]} {job.id}: another job holds its unique key.")
    if answer.before is None:
        raise JobDoesNotExist(f"Can't {_WORDS[verb]} {job.id}: {GONE}.")
    if not answer.is_done:
        legal = " or ".join(sorted(LEGAL[verb]))
        raise IllegalTransition(
            f"Can't {_WORDS[verb]} {job.id}: it's {answer.before}, and that needs a job that's {legal}."
        )


def _before_its_runs(job: Job) -> dict[str, Any]:
    return {one.name: one.default for one in fields(job) if one.name in _OF_RUNS}
