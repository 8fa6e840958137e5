"""The Lua scripts, read once, with includes resolved and KEYS and ARGV named.

A script's header lists the names of its keys and arguments (``-- KEYS:``, ``-- ARGV:``) and what it
includes (``-- @include``). Each included file is pasted in once, in order. The body says ``KEYS.leases``,
which becomes ``KEYS[3]`` or whatever its position is, and arguments become locals, so no body counts
positions. An argument whose name ends in ``...`` is the first of many: the body gets its position as
``<name>_at``. The folder listing *is* the list of operations.

Two things cost Redis more than it seems. Each call creates a script's functions again, and for each outer
local that one of them uses, Lua 5.1 walks a list of all those in use: with keys as locals, that took an
eighth of a turn. And up to 7.0, Redis formats each number passed to a command as floating-point, which
takes as long as a short command does. So whatever runs for every plain job or turn passes texts, such as
``'0'``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

FOLDER = Path(__file__).parent
_HEADER = re.compile(r"^-- (KEYS|ARGV): (.+)$", re.M)
_INCLUDE = re.compile(r"^-- @include (\S+)$", re.M)
_COMMENT = re.compile(r"^\s*--.*\n", re.M)
_KEY = re.compile(r"\bKEYS\.(\w+)")


@dataclass(frozen=True)
class Script:
    """A script, ready to be sent by its SHA-1 digest."""

    name: str
    keys: tuple[str, ...]  # their names, as in keys.py
    arguments: tuple[str, ...]
    source: bytes
    digest: bytes


@cache
def load(name: str) -> Script:
    """The script ``scripts/<name>.lua``."""
    texts = _with_includes(name, {})
    keys = tuple(dict.fromkeys(word for text in texts.values() for word in _names("KEYS", text)))
    arguments = tuple(_names("ARGV", texts[name]))
    lines = [
        f"local {word[:-3]}_at = {i}" if word.endswith("...") else f"local {word} = ARGV[{i}]"
        for i, word in enumerate(arguments, 1)
    ]
    places = {key: f"KEYS[{i}]" for i, key in enumerate(keys, 1)}
    lines += [_KEY.sub(lambda match: places[match[1]], _COMMENT.sub("", text)) for text in texts.values()]
    source = "\n".join(lines).encode()
    digest = sha1(source, usedforsecurity=False)  # by which Redis knows scripts
    return Script(name, keys, arguments, source, digest.hexdigest().encode())


def _names(kind: str, text: str) -> list[str]:
    return [word for found, words in _HEADER.findall(text) if found == kind for word in words.split()]


def _with_includes(name: str, seen: dict[str, str]) -> dict[str, str]:
    """Texts by name; each comes after those it includes."""
    text = (FOLDER / f"{name}.lua").read_text()
    for included in _INCLUDE.findall(text):
        if included not in seen:
            _with_includes(included, seen)
    seen[name] = text
    return seen
