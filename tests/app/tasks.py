"""Jobs and signal receivers of the Kue parity tests; they run in a worker's process.

An app's ``tasks.py`` is found as its ``jobs.py`` is.
"""

from __future__ import annotations

import os
import time
from typing import Any

from django.dispatch import receiver

from django_kue import Backoff, Discard, JobContext, current_job, job, signals
from tests.app.jobs import mark


@job(title="Welcome {to}", search_keys=["to"])
def welcome(to: str, template: str = "plain") -> dict[str, str]:
    """Kue's own example: an e-mail."""
    return {"to": to, "template": template}


@job(takes_context=True)
def convert_video(context: JobContext, frames: int) -> str:
    for frame in range(1, frames + 1):
        context.log("frame %d of %d", frame, frames)
        context.progress(frame, frames, data={"next": frame + 1 if frame < frames else "done"})
    return "converted"


@job
def half_way() -> None:
    """Stops at the half until the test lets it go on."""
    current_job().progress(7, 14, data={"slide": 7})
    wait_for_mark("go-on")


@job(attempts=3)
def flaky(name: str, good_at: int) -> int:
    """Fails until attempt ``good_at``."""
    attempt = current_job().attempt
    mark(name, attempt)
    if attempt < good_at:
        raise ConnectionError(f"attempt {attempt} failed")
    return attempt


def growing(attempt: int) -> float:
    return 0.05 * attempt


@job(attempts=3, backoff=growing)
def backs_off_by_function() -> None:
    raise ConnectionError("still away")


@job(attempts=3, backoff=Backoff.exponential(0.05))
def backs_off_exponentially() -> None:
    raise ConnectionError("still away")


@job(attempts=3, backoff=Backoff.fixed(0.05))
def backs_off_fixed() -> None:
    raise ConnectionError("still away")


@job(attempts=5)
def discards() -> None:
    raise Discard("the order was deleted")


@job
def hold(name: str) -> str:
    """Runs until the test says ``release-<name>``."""
    mark(name, os.getpid())
    wait_for_mark(f"release-{name}")
    return "released"


@job
def heard(name: str) -> None:
    """What the receivers below watch."""
    if name == "fails":
        raise ValueError("it fails")


def wait_for_mark(name: str, timeout: float = 20) -> None:
    """Until a test has left this mark; a job must not run for ever when a test goes wrong."""
    from tests.app.jobs import redis

    client = redis.Redis.from_url(os.environ["KUE_TEST_REDIS"])
    deadline = time.monotonic() + timeout
    while not client.exists(f"mark:{name}"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no mark {name}")
        time.sleep(0.01)
    client.close()


@receiver(signals.job_completed, sender=heard)
def note_completed(sender: Any, job: Any, result: Any, **kwargs: Any) -> None:
    mark("heard", f"completed {job.id} {result}")


@receiver(signals.job_failed, sender=heard)
def note_failed(sender: Any, job: Any, exception: BaseException, **kwargs: Any) -> None:
    mark("heard", f"failed {job.id} {exception}")


@receiver(signals.job_retrying, sender=flaky)
def note_retrying(sender: Any, job: Any, exception: BaseException, delay: float, **kwargs: Any) -> None:
    mark("retrying", f"{job.attempts_made} {exception} {delay:g}")
