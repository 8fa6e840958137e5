"""What the code doesn't contain: ways from stored text to running code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import django_kue
from django_kue.scripts import FOLDER

PACKAGE = Path(django_kue.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(FOLDER.rglob("*.lua"))

# Those that make objects out of bytes, and those that make much out of little.
UNSAFE_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "jsonpickle", "marshal", "shelve", "yaml", "code",
    "codeop", "runpy", "zlib", "gzip", "bz2", "lzma", "zipfile", "tarfile", "zstandard", "lz4", "snappy",
}  # fmt: skip
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
IMPORTERS = {"import_module", "import_string"}
# Who may import by name: `django_kue.job` and its like, installed apps' jobs.py, the class that CACHES names,
# the classes of MIDDLEWARE and the variables of CONTEXT.
MAY_IMPORT = {"__init__.py", "apps.py", "conf.py", "middleware.py", "travelling.py"}


@cache
def nodes(module: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(module.read_text())))


def called(node: ast.AST) -> str:
    """The last name of what's called."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def imports(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {node.module.partition(".")[0]}
    return set()


def test_nothing_unpickles_and_nothing_unpacks() -> None:
    found = {(module.name, name) for module in MODULES for node in nodes(module) for name in imports(node)}
    assert {pair for pair in found if pair[1] in UNSAFE_MODULES} == set()


def test_no_text_is_evaluated_and_no_shell_is_asked() -> None:
    for module in MODULES:
        for node in nodes(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in UNSAFE_CALLS, (module, node.lineno)
            assert called(node) not in {"system", "popen", "spawnl", "spawnv"}, module
            if isinstance(node, ast.keyword) and node.arg == "shell":
                raise AssertionError(f"{module}: shell=")


def test_only_settings_and_our_own_rooms_are_imported_by_name() -> None:
    importing = {module for module in MODULES for node in nodes(module) if called(node) in IMPORTERS}
    assert {str(module.relative_to(PACKAGE)) for module in importing} == MAY_IMPORT


def test_names_in_redis_lead_only_to_the_registry() -> None:
    registry = PACKAGE / "registry.py"
    assert {name for node in nodes(registry) for name in imports(node)} <= {
        "__future__", "collections", "typing", "django_kue",
    }  # fmt: skip
    assert not {called(node) for node in nodes(registry)} & {"getattr", *IMPORTERS}


def test_no_html_is_made_of_text_that_was_put_together() -> None:
    """``format_html`` escapes what it's given beside its format, which therefore is a constant."""
    for module in MODULES:
        for node in nodes(module):
            if called(node) in {"format_html", "format_html_join", "mark_safe"}:
                assert isinstance(node, ast.Call)
                for part in node.args[: 2 if called(node) == "format_html_join" else 1]:
                    is_safe = called(part) == "mark_safe"  # which is looked at by itself
                    assert isinstance(part, ast.Constant) or is_safe, (module, node.lineno)
    for template in PACKAGE.rglob("templates/**/*.html"):
        assert not re.search(r"\|\s*safe\b|autoescape\s+off|safeseq", template.read_text()), template


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_load_no_code_and_look_for_no_patterns(script: Path) -> None:
    text = re.sub(r"--.*", "", script.read_text())
    assert not re.search(r"\b(loadstring|load|dofile|loadfile|require|setfenv|getfenv)\s*[('\"]", text)
    assert not re.search(r"'(KEYS|EVAL|EVALSHA|CONFIG|FLUSHALL|FLUSHDB)'", text)
    if not script.stem.startswith("audit_"):  # these look through all keys, a slice at a time
        assert not re.search(r"'(SCAN|HSCAN|SSCAN|ZSCAN)'", text)
    if script.stem == "audit_keys":  # the only pattern is the beginning of our own keys, taken literally
        assert "gsub(beginning, '[%*%?%[%]\\\\]', '\\\\%0') .. '*'" in text
    else:
        assert "'MATCH'" not in text


def test_no_script_is_put_together_from_what_came_in() -> None:
    """Scripts are the files in ``scripts/``; only the locals of their arguments and the numbers of their keys
    are made, of names that stand in them."""
    makers = {
        str(module.relative_to(PACKAGE))
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "redis.call" in node.value
    }
    assert makers == set()
    sent = {
        ast.unparse(node.args[place + 1])
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Call)
        for place, word in enumerate(node.args)
        if isinstance(word, ast.Constant) and word.value in (b"EVAL", "EVAL")
    }
    assert sent
    assert {text.rpartition(".")[2] for text in sent} == {"source"}  # of a Script


def test_no_pattern_is_ever_given_to_redis() -> None:
    of_tests = PACKAGE / "store" / "erasing.py"  # its prefix is one that tests have, of hexadecimal digits
    for module in set(MODULES) - {of_tests}:
        for node in nodes(module):
            assert called(node) not in {"scan_iter", "keys_matching", "psubscribe", "delete_pattern"}, module
            if isinstance(node, ast.Constant) and isinstance(node.value, bytes | str):
                word = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
                assert word not in {"SCAN", "KEYS *", "PSUBSCRIBE", "MATCH", "HSCAN", "ZSCAN"}, module


def test_nothing_is_written_where_everybody_may_read() -> None:
    """The one server that we start ourselves has a folder of its own."""
    text = (PACKAGE / "embedded" / "__init__.py").read_text()
    assert "0o700" in text
