"""The Lua scripts, read once: includes resolved, KEYS and ARGV named.

A script's header lists the names of its keys and arguments (``-- KEYS:``, ``-- ARGV:``) and what
it includes (``-- @include``). Each included file is pasted once, in order; names become locals,
so that no body counts positions. An argument whose name ends in ``...`` is the first of many:
the body gets its position as ``<name>_at``. The folder listing *is* the list of operations.
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
    keys = list(dict.fromkeys(word for text in texts.values() for word in _names("KEYS", text)))
    arguments = _names("ARGV", texts[name])
    lines = [f"local {key} = KEYS[{i}]" for i, key in enumerate(keys, 1)]
    lines += [
        f"local {word[:-3]}_at = {i}" if word.endswith("...") else f"local {word} = ARGV[{i}]"
        for i, word in enumerate(arguments, 1)
    ]
    lines += [_COMMENT.sub("", text) for text in texts.values()]
    source = "\n".join(lines).encode()
    digest = sha1(source, usedforsecurity=False)  # what Redis knows scripts by
    return Script(name, tuple(keys), tuple(arguments), source, digest.hexdigest().encode())


def _names(kind: str, text: str) -> list[str]:
    return [word for found, words in _HEADER.findall(text) if found == kind for word in words.split()]


def _with_includes(name: str, seen: dict[str, str]) -> dict[str, str]:
    """Texts by name, each after what it includes."""
    text = (FOLDER / f"{name}.lua").read_text()
    for included in _INCLUDE.findall(text):
        if included not in seen:
            _with_includes(included, seen)
    seen[name] = text
    return seen
