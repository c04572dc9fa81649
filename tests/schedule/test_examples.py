"""Every operator that is called native runs without PyTorch, gives what PyTorch gives, and the same bits on AVX2."""

from __future__ import annotations

from typing import Any

import pytest

from tests.schedule.examples import EXAMPLES, Example
from tests.schedule.operators import check, check_same_on_avx2


@pytest.mark.parametrize(
    ("operator", "example"), EXAMPLES.items(), ids=lambda v: str(v) if not isinstance(v, Example) else ""
)
def test_example(operator: Any, example: Example) -> None:
    got = check(operator, *example.args, tolerance=example.tolerance, result=example.result, **example.kwargs)
    check_same_on_avx2(got, operator, *example.args, result=example.result, **example.kwargs)
