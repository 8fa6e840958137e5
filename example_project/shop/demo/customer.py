"""A customer with a browser: the page has to keep its promises over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
from django_kue import Job

EVERY = 0.5  # seconds, like the page's own script


class Customer:
    """Uploads a picture and asks for a report, watches both, and fetches what was made."""

    def __init__(self, site: str) -> None:
        self.http = httpx.Client(base_url=site, follow_redirects=True, timeout=10)
        self.leaving = threading.Event()
        self.downloads: dict[str, bytes] = {}  # by label: "large", "CSV", …

    def visit(self, picture: bytes, year: int, tell: Callable[[Job], object]) -> None:
        """Send both forms, watch the page until all is ready (or :meth:`leave`), and follow every link.

        Args:
            tell: called with each job that the page shows.
        """
        self._post("/photo/", files={"picture": ("holiday.jpg", picture, "image/jpeg")})
        self._post("/report/", data={"year": str(year)})
        for job in self._look():
            tell(Job.get(job["id"]))
        while not all(job["finished"] for job in self._look()):
            if self.leaving.wait(EVERY):
                return
        for job in self._look():
            for file in job["files"]:
                self.downloads[file["label"]] = self.http.get(file["url"]).raise_for_status().content

    def _look(self) -> list[dict[str, Any]]:
        """What the page's script reads."""
        jobs: list[dict[str, Any]] = self.http.get("/progress.json").raise_for_status().json()["jobs"]
        return jobs

    def leave(self) -> None:
        """Stop waiting."""
        self.leaving.set()

    def _post(self, path: str, **content: Any) -> str:
        """Send a form as a browser does: with the page's CSRF token."""
        self.http.get("/")
        headers = {"X-CSRFToken": self.http.cookies["csrftoken"], "Referer": str(self.http.base_url)}
        return self.http.post(path, headers=headers, **content).raise_for_status().text
