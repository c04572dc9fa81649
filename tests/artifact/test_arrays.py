"""What may be passed: NumPy's arrays of any layout, tensors, DLPack, buffers; results are of the same kind."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lower86
from lower86.artifact import LoadedProgram
from tests.artifact.round_trip import again
from tests.models.checks import lower_anyhow

X = np.arange(12, dtype=np.float32).reshape(3, 4)


class Twice(nn.Module):
    """Doubles f32 [3, 4]; adds the other, of bf16 [4], to itself."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, y + y


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> LoadedProgram:
    lowered = lower_anyhow(Twice(), torch.zeros(3, 4), torch.zeros(4, dtype=torch.bfloat16))
    return again(lowered, tmp_path_factory.mktemp("twice"))


Y = torch.tensor([0.5, 1, -2, 3], dtype=torch.bfloat16)
BITS = Y.view(torch.uint16).numpy()


class Foreign:
    """An array of another library: only DLPack, and a namespace that takes it back."""

    def __init__(self, inner: Any, namespace: bool = True) -> None:
        self.inner = np.from_dlpack(inner) if not isinstance(inner, np.ndarray) else inner
        if namespace:
            self.__array_namespace__ = lambda: Namespace

    def __dlpack__(self, **options: Any) -> Any:
        return self.inner.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.inner.__dlpack_device__()


class Namespace:
    from_dlpack = Foreign


def read_only() -> np.ndarray:
    x = X.copy()
    x.flags.writeable = False
    return x


def misaligned() -> np.ndarray:
    memory = np.zeros(X.nbytes + 1, np.uint8)
    x = memory[1:].view(np.float32).reshape(X.shape)
    x[...] = X
    return x


LAYOUTS: dict[str, Any] = {
    "plain": X.copy,
    "read-only": read_only,
    "columns first": lambda: np.asfortranarray(X),
    "every other": lambda: np.repeat(X, 2, 1)[:, ::2],
    "backwards": lambda: X[::-1].copy()[::-1],
    "broadcast, then cut": lambda: np.broadcast_to(X, (2, 3, 4))[1],
    "misaligned": misaligned,
    "a subclass": lambda: X.view(np.matrix),
    "a memory map": lambda: X.view(np.memmap) if hasattr(np, "memmap") else X,
    "DLPack alone": lambda: Foreign(X.copy(), namespace=False),
    "a memoryview": lambda: memoryview(X),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_layouts(program: LoadedProgram, name: str) -> None:
    x = LAYOUTS[name]()
    first, second = program(x, BITS)
    assert type(first) is np.ndarray
    assert first.flags.c_contiguous
    assert np.array_equal(first, X * 2)
    assert np.array_equal(second, (Y + Y).view(torch.uint16).numpy())
    assert np.array_equal(np.asarray(getattr(x, "inner", x)), X)


def test_a_buffer(tmp_path: Path) -> None:
    program = again(lower_anyhow(nn.ReLU(), torch.zeros(3, dtype=torch.float64)), tmp_path)
    assert program(array.array("d", [-1, 0, 2])).tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t,
        lambda t: t.t().contiguous().t(),
        lambda t: t.requires_grad_(),
        lambda t: nn.Parameter(t),
        lambda t: torch._neg_view(-t),
        lambda t: torch.complex(-t, -t).conj().imag,
    ],
)
def test_tensors(program: LoadedProgram, change: Any) -> None:
    x = change(torch.from_numpy(X.copy()))
    first, second = program(x, Y)
    assert (type(first), type(second)) == (Tensor, Tensor)
    assert torch.equal(first, torch.from_numpy(X * 2))
    assert torch.equal(second, Y + Y)
    assert not first.requires_grad


def test_the_first_array_decides(program: LoadedProgram) -> None:
    assert all(isinstance(result, np.ndarray) for result in program(X, Y))
    assert all(isinstance(result, Tensor) for result in program(torch.from_numpy(X), BITS))


def test_arrays_that_name_their_namespace(program: LoadedProgram) -> None:
    first, second = program(Foreign(X), BITS)
    assert (type(first), type(second)) == (Foreign, Foreign)
    assert np.array_equal(first.inner, X * 2)


class Elsewhere:
    """An array on another device."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("it lies on a GPU")

    def __dlpack_device__(self) -> Any:
        return (2, 0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (Elsewhere(), BITS, "x is a Elsewhere whose memory NumPy cannot read"),
        (X.astype(np.float64), BITS, r"x has dtype float64, expected float32"),
        (X, Y.float(), "y has dtype torch.float32, expected bfloat16"),
        (X, BITS.view(np.int16), r"y has dtype int16, expected bfloat16 \(its bits as uint16\)"),
        (X.astype(object), BITS, "x has dtype object"),
        (np.ma.masked_array(X)[0], BITS, r"x has shape \[4\]"),
        ("text", BITS, "x is a str, not an array"),
        (b"bytes", BITS, "x has dtype uint8"),
        (torch.nn.Linear(2, 2), BITS, "x is a Linear whose memory"),
    ],
)  # fmt: skip
def test_what_is_refused(program: LoadedProgram, x: Any, y: Any, message: str) -> None:
    with pytest.raises(lower86.InputError, match=message):
        program(x, y)
