from __future__ import annotations

import functools

import pytest
import torch
import torch._export.utils as export_utils

# Every export lists all of torch's composite operators again, many times over; once a session is enough for tests.
if hasattr(export_utils, "_materialize_cpp_cia_ops"):
    export_utils._materialize_cpp_cia_ops = functools.cache(export_utils._materialize_cpp_cia_ops)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
