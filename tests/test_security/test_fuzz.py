"""Made-up bytes for all that reads stored text. `make audit` tries many more, and atheris too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import READERS

TAGS = ("$datetime", "$date", "$time", "$timedelta", "$decimal", "$uuid", "$int", "$model", "$$x", "$")
SCALARS = st.none() | st.integers() | st.floats() | st.text() | st.sampled_from(["0x", "nan", "1e999999"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(TAGS) | st.text(), inner, max_size=2)
        | st.fixed_dictionaries({"a": inner}, optional={"k": inner})
    ),
    max_leaves=6,
)
JSON = VALUES.map(lambda value: json.dumps(value).encode())
PARTS = st.binary(max_size=12) | JSON | st.sampled_from([b"c", b"f", b"o3", b"v2", b"p1", b"~gAAAA", b"-1"])
TEXTS = st.binary() | JSON | st.lists(PARTS, max_size=8).map(b"|".join)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=settings().max_examples // 2)
@given(text=TEXTS)
def test_whatever_stands_in_redis_is_read_or_refused(reader: str, text: Any) -> None:
    READERS[reader](text)
