from __future__ import annotations

import functools
import gc

import pytest
import torch
import torch._export.utils as export_utils

torch.manual_seed(0)  # for what test files make while they are imported

# torch traces with many small objects: looking for garbage after every 700 new ones is too often in a long session.
# (What saves most, a seventh of the time, is the freeze below.)
gc.set_threshold(20_000, 10, 10)

# Every export lists all of torch's composite operators again, many times over; once a session is enough for tests.
if hasattr(export_utils, "_materialize_cpp_cia_ops"):
    export_utils._materialize_cpp_cia_ops = functools.cache(export_utils._materialize_cpp_cia_ops)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole networks first: with a long test at the end, one process would wait for the other."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


def pytest_collection_finish() -> None:
    """What has been imported stays: nobody looks through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
