"""A customer with a browser: what the page promises, it has to keep over real HTTP."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx
from django_kue import Job

from shop.demo.processes import DemoError

SECONDS = 20


class Customer:
    """Uploads a picture and asks for a report, watches both, and fetches what was made."""

    def __init__(self, site: str) -> None:
        self.http = httpx.Client(base_url=site, follow_redirects=True, timeout=10)
        self.downloads: dict[str, bytes] = {}  # by label: "large", "CSV", …
        self.steps_seen: set[float] = set()  # of progress, on the page

    def ask(self, picture: bytes, year: int) -> list[Job]:
        """Send both forms. Returns the jobs that the page shows then."""
        self._post("/photo/", files={"picture": ("holiday.jpg", picture, "image/jpeg")})
        page = self._post("/report/", data={"year": str(year)})
        return [Job.get(job_id) for job_id in re.findall(r'data-id="([^"]+)"', page)]

    def look(self) -> list[dict[str, Any]]:
        """What the page's script would read now."""
        jobs: list[dict[str, Any]] = self.http.get("/progress.json").raise_for_status().json()["jobs"]
        self.steps_seen.update(job["progress"] for job in jobs)
        return jobs

    def fetch(self) -> None:
        """Follow every link, once all is ready.

        Raises:
            DemoError: it takes too long.
        """
        deadline = time.monotonic() + SECONDS
        while not all(job["finished"] for job in self.look()):
            if time.monotonic() > deadline:
                raise DemoError(f"The customer waited {SECONDS} s, and sees: {self.look()}")
            time.sleep(0.2)
        for job in self.look():
            for file in job["files"]:
                self.downloads[file["label"]] = self.http.get(file["url"]).raise_for_status().content

    def close(self) -> None:
        self.http.close()

    def _post(self, path: str, **content: Any) -> str:
        """Send a form as a browser does: with the page's token against forgery."""
        self.http.get("/")
        headers = {"X-CSRFToken": self.http.cookies["csrftoken"], "Referer": str(self.http.base_url)}
        return self.http.post(path, headers=headers, **content).raise_for_status().text
