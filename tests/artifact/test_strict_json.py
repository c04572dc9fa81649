"""JSON is read as Python reads it, up to the limits; depth is told apart from brackets in strings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lower86.artifact.strict_json import MOST_DEPTH, parse
from lower86.errors import ArtifactError
from tests.harness import examples

TEXT = st.text(st.sampled_from('a"\\[]{}:,é∞\n'), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@examples(300)
@given(value=VALUES, ascii=st.booleans(), indent=st.sampled_from([None, 1]))
def test_what_python_writes_is_read(value: Any, ascii: bool, indent: int | None) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii, indent=indent).encode(), "here") == value


@examples(300)
@given(text=TEXT, before=st.integers(0, 3))
def test_depth_is_that_of_values(text: str, before: int) -> None:
    """Whatever a string holds, lists are as deep as they are."""
    string, backslashes = json.dumps(text), json.dumps("\\" * before)
    for depth, good in ((MOST_DEPTH - 1, True), (MOST_DEPTH, False)):
        written = f"[{string},{backslashes},{'[' * depth}{']' * depth}]".encode()
        if good:
            assert parse(written, "here")[0] == text
        else:
            with pytest.raises(ArtifactError, match="nested more than 64 deep"):
                parse(written, "here")


@pytest.mark.parametrize(
    "text", ["", "[", "]", '"', '"\\"', "[1,]", "{1:2}", "nul", "[]]", '{"a":1,"a":1}', "+1", "0x1"]
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ArtifactError, match="the JSON holds") as caught:
        parse(text.encode(), "here")
    assert caught.value.where == "here"
