"""A customer's own jobs: which they are, and what the page says about them.

A job's id grants nothing by itself. Which jobs somebody may see is for the project to decide; here it's those
that this browser's session started.
"""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django_kue import Job, JobDoesNotExist

SHOWN = 6  # the newest


def remember(session: SessionBase, job: Job) -> None:
    """Note that this customer started this job."""
    ids = [known for known in session.get("jobs", []) if known != job.id]
    session["jobs"] = [job.id, *ids][:SHOWN]


def own_jobs(session: SessionBase) -> list[Job]:
    """The customer's jobs, newest first; those that aren't kept any more are left out."""
    jobs = []
    for job_id in session.get("jobs", []):
        try:
            jobs.append(Job.get(job_id))
        except JobDoesNotExist:
            continue
    return jobs


def describe(job: Job) -> dict[str, Any]:
    """A job as the page shows it, and as its script reads it from JSON."""
    files = job.result.get("files", {}) if isinstance(job.result, dict) else {}
    return {
        "id": job.id,
        "title": job.title,
        "state": str(job.state),
        "finished": job.is_finished,
        "progress": round(job.progress),
        "note": note(job),
        "files": [{"label": label, "url": url} for label, url in files.items()],
    }


def note(job: Job) -> str:
    """Where the job is, in one short line."""
    if job.state == "failed":
        return "That didn't work. We've made a note of it and will look into it."
    if job.state == "active" and isinstance(job.progress_data, dict):
        return ", ".join(f"{key} {value}" for key, value in job.progress_data.items())
    return {
        "waiting": "in line",
        "delayed": "will be tried again" if job.attempts_made else "for later",
        "active": "being made",
        "completed": "ready",
        "cancelled": "stopped",
    }.get(str(job.state), "")
