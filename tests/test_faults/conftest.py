from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.own_server import notes, server
from tests.test_engine.test_sentinel import setup as sentinel

__all__ = ["notes", "sentinel", "server"]


@pytest.fixture(scope="session")
def preload(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that ``preload.c`` describes, for ``LD_PRELOAD``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("it takes Linux and a C compiler to come between a process and its system calls")
    library = tmp_path_factory.mktemp("preload") / "preload.so"
    source = Path(__file__).with_name("preload.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return str(library)
