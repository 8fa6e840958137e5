"""Sphinx's settings: ``make docs`` builds the site from these pages, without the network.

The pages are plain Markdown that reads well on GitHub, too. What only the site needs is added by the
functions at the end: the navigation, file names above code, pictures for dark mode.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))
settings.configure(
    INSTALLED_APPS=[f"django.contrib.{app}" for app in ("contenttypes", "auth", "admin")] + ["django_kue"],
    KUE={"REDIS": "redis://127.0.0.1:1/0"},  # never connected to
    USE_TZ=True,
)
django.setup()

import django_kue  # noqa: E402  it needs the settings
from docs.diagrams import picture_of  # noqa: E402

project = "django-kue"
author = "the django-kue maintainers"
release = version = django_kue.__version__

exclude_patterns = ["_build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
myst_heading_anchors = 4
# Kue's calls are abridged with an …, which isn't JavaScript.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
# A dead link in a docstring is a warning; so would be every type that has no page here.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections\.abc|datetime|django|prometheus_client|typing)\..*"),
    ("py:.*", r"(django_kue\.decorators\.)?[PR]"),
    ("py:.*", r"django_kue\.(codecs|options)\..*"),
    ("py:exc", "ImproperlyConfigured"),
]

html_theme = "furo"
html_title = "django-kue"
html_static_path = ["_static"]
html_css_files = ["kue.css"]
html_js_files = [("kue.js", {"defer": "defer"})]
html_favicon = html_logo = "_static/kue.svg"
html_copy_source = html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6b4f", "color-brand-content": "#0b6b4f"},
    "dark_css_variables": {"color-brand-primary": "#4fd1a5", "color-brand-content": "#4fd1a5"},
}
copybutton_prompt_text, copybutton_prompt_is_regexp = r"\$ |>>> |\.\.\. ", True
# Example addresses in the pages, which can't be checked.
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost|example\.)"]


def setup(app: Sphinx) -> None:
    app.connect("source-read", pages_of_the_project)
    app.connect("source-read", navigation)
    app.connect("source-read", file_names)
    app.connect("doctree-read", diagrams, priority=100)  # before Sphinx collects the images
    app.connect("doctree-read", pictures_in_the_dark, priority=101)
    app.connect("autodoc-process-docstring", read_google_style)
    app.connect("autodoc-skip-member", keep_twins)
    app.connect("autodoc-process-docstring", tell_of_twins)
    app.connect("autodoc-process-signature", hide_constructors)


# ── pages ──


def pages_of_the_project(app: Sphinx, page: str, source: list[str]) -> None:
    """Files beside ``docs/``, where GitHub looks for them, are on the site, too: in ``project/``."""
    source[0] = re.sub(
        r"\]\((?:\.\./)+(CHANGELOG|CONTRIBUTING|SECURITY)\.md\)",
        lambda link: f"](/project/{link[1].lower()}.md)",
        source[0],
    )


def navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """An index links to its pages; the site's navigation is made from these links, in their order."""
    if page != "index" and not page.endswith("/index"):
        return
    links = re.findall(r"\]\(([\w/-]+)\.md\)", source[0])
    if page == "index":  # it also links to single pages; the navigation only has sections
        links = [link for link in links if link.endswith("/index") or link.startswith("/project/")]
    source[0] += "\n".join(["", "```{toctree}", ":hidden:", *dict.fromkeys(links), "```", ""])


def file_names(app: Sphinx, page: str, source: list[str]) -> None:
    """A comment says which file code belongs to, for the tests that run it; on the site it's a caption."""
    source[0] = re.sub(
        r"^<!-- file: (\S+) -->\n```(\w+)\n", r"```{code-block} \2\n:caption: \1\n\n", source[0], flags=re.M
    )


def diagrams(app: Sphinx, tree: nodes.document) -> None:
    """Mermaid's text, which GitHub draws itself, becomes the picture that ``docs/diagrams.py`` made of it."""
    for block in list(tree.findall(lambda node: isinstance(node, nodes.literal_block))):
        if block.get("language") == "mermaid":
            block.replace_self(nodes.image(uri=f"/{picture_of(block.astext())}", alt=block.astext()))


def pictures_in_the_dark(app: Sphinx, tree: nodes.document) -> None:
    """In dark mode, ``…-dark.png`` is shown in place of ``…-light.png``."""
    for image in list(tree.findall(nodes.image)):
        if "-light." in image["uri"]:
            dark = image.deepcopy()
            dark["uri"] = image["uri"].replace("-light.", "-dark.")
            image["classes"].append("only-light")
            dark["classes"].append("only-dark")
            image.parent.insert(image.parent.index(image) + 1, dark)


# ── docstrings ──


def read_google_style(app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Like napoleon, except for attributes, where it would take what comes before a colon for the type."""
    if what not in ("attribute", "data", "property"):
        lines[:] = GoogleDocstring(lines, STYLE, app, what, name, member, options).lines()


STYLE = Config(napoleon_use_rtype=False, napoleon_attr_annotations=False)


def keep_twins(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Public asyncio methods without a docstring are shown: the name says whose twin each one is."""
    return False if _twin_of(member) and not name.startswith("_") else None


def tell_of_twins(app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    if not any(lines) and (twin := _twin_of(member)):
        lines.append(f"The twin of :meth:`{twin}` for asyncio.")


def _twin_of(member: Any) -> str | None:
    name = getattr(member, "__name__", "")
    return name[1:] if name.startswith("a") and not getattr(member, "__doc__", None) else None


def hide_constructors(
    app: Sphinx, what: str, name: str, member: Any, options: Any, signature: str, returns: str
) -> tuple[str, None] | None:
    """Users don't construct most classes; the functions that return their objects are documented."""
    return ("", None) if what == "class" and name not in CONSTRUCTED else None


CONSTRUCTED = {"django_kue.testing.WorkerThread"}
