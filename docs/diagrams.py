"""Draws the pages' diagrams for the site: ``make diagrams``, after one has changed (needs npm and Chromium).

GitHub draws Mermaid's text itself; the site shows a picture of it, light and dark, so that no page loads
megabytes of JavaScript. A picture's name is a hash of the text: the site's build fails if one is out of date.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

DOCS = Path(__file__).resolve().parent
LOOKS = {"light": "neutral", "dark": "dark"}
DRAW = """async ([text, theme]) => {
    mermaid.initialize({startOnLoad: false, theme, fontFamily: "sans-serif", htmlLabels: false});
    return (await mermaid.render("diagram", text)).svg;
}"""


def picture_of(text: str, look: str = "light") -> str:
    """The path of a diagram's picture, relative to ``docs/``."""
    return f"images/diagram-{sha256(text.strip().encode()).hexdigest()[:12]}-{look}.svg"


def main() -> None:
    from playwright.sync_api import sync_playwright

    from tests.run_page import blocks

    for old in (DOCS / "images").glob("diagram-*.svg"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        subprocess.run(["npm", "install", "--silent", "--prefix", folder, "mermaid@11"], check=True)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        canvas = browser.new_page()
        canvas.add_script_tag(path=f"{folder}/node_modules/mermaid/dist/mermaid.min.js")
        for page in DOCS.rglob("*.md"):
            for text in [block.code for block in blocks(page) if block.language == "mermaid"]:
                for look, theme in LOOKS.items():
                    picture = DOCS / picture_of(text, look)
                    picture.write_text(canvas.evaluate(DRAW, [text, theme]) + "\n", "utf-8")
                    print(picture)
        browser.close()


if __name__ == "__main__":
    main()
