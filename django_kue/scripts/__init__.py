"""The Lua scripts, read once: includes resolved, KEYS and ARGV named.

A script says ``KEYS.leases`` for the key of that name in ``keys.py``, which becomes ``KEYS[3]`` or
whichever it is: no body counts positions. Its header lists the names of its arguments (``-- ARGV:``), which
become locals, and what it includes (``-- @include``). Each included file is pasted once, in order. An
argument whose name ends in ``...`` is the first of many: the body gets its position as ``<name>_at``. The
folder listing *is* the list of operations.

Two things cost Redis more than they look like. At each call of a script Lua sets up its functions, and
looks for all that they refer to, one after the other: if keys were locals, that took an eighth of a turn.
And up to 7.0 Redis writes a number as floating-point, which takes as long as a short command: what's called
for every job or turn gives it texts, such as ``'0'``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

FOLDER = Path(__file__).parent
_ARGUMENTS = re.compile(r"^-- ARGV: (.+)$", re.M)
_INCLUDE = re.compile(r"^-- @include (\S+)$", re.M)
_COMMENT = re.compile(r"^\s*--.*\n", re.M)
_KEY = re.compile(r"\bKEYS\.(\w+)")


@dataclass(frozen=True)
class Script:
    """A script, ready to be sent by its SHA-1 digest."""

    name: str
    keys: tuple[str, ...]  # names, as in keys.py
    arguments: tuple[str, ...]
    source: bytes
    digest: bytes


@cache
def load(name: str) -> Script:
    """The script ``scripts/<name>.lua``."""
    texts = _with_includes(name, {})
    code = "\n".join(_COMMENT.sub("", text) for text in texts.values())
    keys = tuple(dict.fromkeys(_KEY.findall(code)))
    arguments = tuple(word for names in _ARGUMENTS.findall(texts[name]) for word in names.split())
    lines = [
        f"local {word[:-3]}_at = {i}" if word.endswith("...") else f"local {word} = ARGV[{i}]"
        for i, word in enumerate(arguments, 1)
    ]
    lines.append(_KEY.sub(lambda match: f"KEYS[{keys.index(match[1]) + 1}]", code))
    source = "\n".join(lines).encode()
    digest = sha1(source, usedforsecurity=False)  # what Redis knows scripts by
    return Script(name, keys, arguments, source, digest.hexdigest().encode())


def _with_includes(name: str, seen: dict[str, str]) -> dict[str, str]:
    """Texts by name, each after what it includes."""
    text = (FOLDER / f"{name}.lua").read_text()
    for included in _INCLUDE.findall(text):
        if included not in seen:
            _with_includes(included, seen)
    seen[name] = text
    return seen
