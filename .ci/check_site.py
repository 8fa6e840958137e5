"""Fails if a page of the built site has a dead link, or loads something from another host.

    python .ci/check_site.py docs/_build/site

Sphinx checks the links that people write. This checks the result: navigation, pictures, scripts, and the
reference's anchors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """A page's anchors, where it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors = {"", "top"}
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value}
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag == "link" and "href" in given:
            self.loads.add(given["href"])
        elif "src" in given:
            self.loads.add(given["src"])


def is_foreign(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc) and not link.startswith("data:")


def faults(pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        for link in sorted(page.links | page.loads):
            if is_foreign(link):
                if link in page.loads:
                    yield f"{path} loads {link}, but the site has to work offline"
            elif reason := dead(path, link, pages):
                yield f"{path} links to {link}: {reason}"


def dead(path: Path, link: str, pages: dict[Path, Page]) -> str | None:
    """Why a link is dead; ``None`` if it isn't."""
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target not in pages:
        return None if target.is_file() or link.startswith("data:") else "there's no such file"
    return None if unquote(parts.fragment) in pages[target].anchors else "there's no such anchor"


def main(site: Path) -> None:
    pages = {path: Page(path.read_text("utf-8")) for path in site.resolve().rglob("*.html")}
    if found := list(faults(pages)):
        sys.exit("\n".join(found))
    if not pages:
        sys.exit(f"{site} has no pages. `make docs` makes them.")
    print(f"{len(pages)} pages: no link is dead, and nothing is loaded from elsewhere")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
