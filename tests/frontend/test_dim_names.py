"""Dims of a program have the names that the user gave them, by whatever way the model came."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

import lower86
from lower86.artifact.load import load
from lower86.errors import GraphError, InputError
from lower86.graph.dim_names import LONGEST, mark_dims, marked_dims
from lower86.lowered import LoweredModule
from lower86.sources.exported import exported_bytes, from_exported
from lower86.sources.naming import Example
from tests.models.checks import lower
from tests.models.qdq import grid


class Rows(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Pair(torch.nn.Module):
    """`a` [rows, k], `b` [any, columns]; a row of each, and how many there are."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        return a * 2.0, b + 1.0, a.shape[0] * 3


def names(lowered: LoweredModule) -> list[str]:
    return [dim.name for dim in lowered.program.dims]


def shapes(lowered: LoweredModule) -> list[list[str]]:
    return [[str(size) for size in lowered.program.values[value].shape] for value in lowered.program.inputs]


def pair(*dims: Any, sizes: tuple[int, int, int, int] = (3, 5, 6, 7)) -> LoweredModule:
    spec = {"a": {0: dims[0], 1: dims[1]}, "b": {0: dims[2], 1: dims[3]}}
    return lower(Pair(), grid(*sizes[:2]), grid(*sizes[2:]), dynamic_shapes=spec, on_fallback="ignore")


def test_dynamic_shapes_name_the_dims(tmp_path: Path) -> None:
    batch, seq = Dim("batch"), Dim("seq", max=512)
    lowered = pair(batch, seq, 2 * batch, Dim.AUTO)
    assert shapes(lowered) == [["batch", "seq"], ["2*batch", "b_1"]]
    a, b = torch.randn(4, 9), torch.randn(8, 2)
    found = lowered(a, b)
    torch.testing.assert_close(found[:2], (a * 2, b + 1))
    assert found[2] == 12
    with pytest.raises(InputError, match=r"b has shape \[9, 2\], the program takes \[2\*batch, b_1\]"):
        lowered(a, torch.randn(9, 2))
    lower86.save(lowered, tmp_path / "a.safetensors")
    program = load(tmp_path / "a.safetensors")
    assert [spec.shape for spec in program.inputs] == [("batch", "seq"), ("2*batch", "b_1")]
    assert dict(program.inputs[0].ranges) == {"batch": (0, None), "seq": (0, 512)}
    assert program.outputs[2].literal == "3*batch"
    torch.testing.assert_close(torch.tensor(program(a.numpy(), b.numpy())[2]), torch.tensor(12))


def test_a_dim_that_only_derived_ones_tell() -> None:
    half = Dim("half", min=1, max=64)
    lowered = pair(2 * half, Dim.AUTO, 2 * half + 1, Dim.STATIC, sizes=(4, 5, 5, 7))
    assert shapes(lowered) == [["2*half", "a_1"], ["2*half + 1", "7"]]
    assert lowered(torch.randn(6, 2), torch.randn(7, 7))[2] == 18


def test_dims_without_names_are_called_by_argument_and_axis() -> None:
    assert shapes(pair(Dim.AUTO, Dim.DYNAMIC, None, Dim.AUTO)) == [["a_0", "a_1"], ["6", "b_1"]]


@pytest.mark.parametrize(
    "given",
    [
        ("d0", "d1", "d2", "d3"),  # what kernels call their own
        ("b_1", "a_0", "b_0", "a_1"),
        ("s77", "s27", "s17", "s94"),  # as export may call others
        ("zuf0", "u0", "s", "class"),
        ("E", "I", "pi", "N"),
        ("größe", "_", "__init__", "a"),
    ],
)
def test_names_that_mean_something_elsewhere(given: tuple[str, ...]) -> None:
    lowered = pair(*map(Dim, given))
    assert names(lowered) == list(given)
    a, b = torch.randn(2, 9), torch.randn(1, 4)
    torch.testing.assert_close(lowered(a, b)[:2], (a * 2, b + 1))


@pytest.mark.parametrize("taken", ["b_1", "b_0", "a", "s77", "s27", "s17", "s94"])
def test_a_name_that_would_be_another_dims(taken: str) -> None:
    lowered = pair(Dim(taken), Dim.AUTO, Dim.AUTO, Dim.AUTO)
    found = names(lowered)
    assert found[0] == taken
    assert len(set(found)) == 4
    assert lowered(torch.randn(2, 9), torch.randn(1, 4))[2] == 6


def test_names_that_cannot_be_used() -> None:
    lowered = pair(Dim("n" * (LONGEST + 1)), Dim.AUTO, Dim.AUTO, Dim.AUTO)
    assert names(lowered)[0] == "a_0"
    graph = torch.export.export(
        Rows(), (torch.zeros(3, 8),), dynamic_shapes=({0: Dim.AUTO},)
    ).module(check_guards=False).graph  # type: ignore[union-attr] # a GraphModule  # fmt: skip
    mark_dims(graph, {(0, 0): "a b", (0, 1): "", (1, 0): "far", (0, 7): "fine"})
    assert marked_dims(graph) == {(0, 7): "fine"}


def test_what_a_quantized_graph_remembers() -> None:
    """Of dims that export had names for, whoever exported it; copies and models that are lowered again, too."""
    example = (torch.randn(3, 8),)
    exported = torch.export.export(Rows().eval(), example, dynamic_shapes=({0: Dim("batch", max=64)},))
    for model in (Rows().eval(), exported):
        spec = {"x": {0: Dim("batch", max=64)}} if isinstance(model, torch.nn.Module) else None
        quantized = lower86.quantize(model, [example], dynamic_shapes=spec, progress=False)
        for graph in (quantized, copy.deepcopy(quantized)):
            lowered = lower86.lower_pt2e_quantized_to_x86(graph, example)
            assert shapes(lowered) == [["batch", "8"]]
        again = lower86.lower_pt2e_quantized_to_x86(lowered, example, on_fallback="ignore")
        assert shapes(again) == [["batch", "8"]]
        named = lower86.lower_pt2e_quantized_to_x86(quantized, example, dynamic_shapes=({0: Dim("rows")},))
        assert shapes(named) == [["rows", "8"]]
        auto = lower86.lower_pt2e_quantized_to_x86(quantized, example, dynamic_shapes=({0: Dim.AUTO},))
        assert shapes(auto) == [["batch", "8"]]


def test_an_edited_and_a_copied_module_keep_them() -> None:
    lowered = pair(Dim("batch"), Dim("seq"), Dim.AUTO, Dim.AUTO)
    twin = copy.deepcopy(lowered)
    twin.recompile()
    assert names(twin) == names(lowered) == ["batch", "seq", "b_0", "b_1"]


def test_a_pt2_file_keeps_them(tmp_path: Path) -> None:
    example = Example((torch.randn(3, 8),), {})
    quantized = lower86.quantize(
        Rows().eval(), [example.args], dynamic_shapes=({0: Dim("batch", max=64)},), progress=False
    )
    (tmp_path / "q.pt2").write_bytes(exported_bytes(quantized, example))
    source = from_exported(tmp_path / "q.pt2")
    assert shapes(lower86.lower_pt2e_quantized_to_x86(source.model, example.args)) == [["batch", "8"]]
    again = exported_bytes(source.graph, example)
    (tmp_path / "again.pt2").write_bytes(again)
    assert marked_dims(from_exported(tmp_path / "again.pt2").graph.graph) == {(0, 0): "batch"}


@pytest.mark.parametrize(
    "content",
    ["", "no JSON", "[" * 100_000, "{}", '[[0, 0, "a b"]]', "[[0, 0]]", '[[9, 9, "far"], [0, "0", "x"]]', "[1]"],
)
def test_a_pt2_file_with_other_names_in_it(tmp_path: Path, content: str) -> None:
    exported = torch.export.export(Rows().eval(), (torch.randn(3, 8),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(exported, tmp_path / "a.pt2", extra_files={"lower86_dims.json": content})
    source = from_exported(tmp_path / "a.pt2")
    assert source.inputs[0].rows_vary
    assert source.example is not None
    lowered = lower86.lower_pt2e_quantized_to_x86(source.model, source.example.args, on_fallback="ignore")
    assert shapes(lowered) == [["x_0", "8"]]


class ByName(torch.nn.Module):
    def forward(self, x: torch.Tensor, *, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return x.sum(0) + y.sum(0) - z.sum(0)


def test_arguments_in_another_order() -> None:
    rows = [torch.randn(n, 4) for n in (2, 3, 5)]
    spec = {name: {0: Dim(f"{name}s")} for name in "xyz"}
    graph = torch.export.export(ByName(), (rows[0],), {"y": rows[1], "z": rows[2]}, dynamic_shapes=spec).module()
    lowered = lower86.lower_pt2e_quantized_to_x86(
        graph, (rows[0],), example_kwargs={"z": rows[2], "y": rows[1]}, on_fallback="ignore"
    )
    found = {
        str(node.target): str(lowered.program.values[value].shape[0])
        for node, value in zip(lowered.graph.find_nodes(op="placeholder"), lowered.program.inputs, strict=True)
    }
    assert found == {"x": "xs", "y": "ys", "z": "zs"}


class Grids(torch.nn.Module):
    def forward(self, theta: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.affine_grid(theta, [theta.shape[0], 1, 4, 4], align_corners=False)


def test_sizes_of_foreign_steps() -> None:
    lowered = lower(Grids(), torch.randn(5, 2, 3), dynamic_shapes=({0: Dim("batch")},), on_fallback="ignore")
    assert lowered.explanation.foreign
    theta = torch.randn(7, 2, 3)
    torch.testing.assert_close(lowered(theta), Grids()(theta))


class Refused(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(x)[0]


def test_errors_have_the_names() -> None:
    with pytest.raises(GraphError, match=r"the size Min\(3, batch\) cannot be computed") as caught:
        lower(Refused(), torch.randn(16, 3), dynamic_shapes=({0: Dim("batch", min=4)},), on_fallback="ignore")
    assert "linalg.qr(x)" in caught.value.where
    assert caught.value.fix


class Sum(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding(a, b) + torch.nn.functional.embedding(a, b * 2)


def test_what_a_call_is_told() -> None:
    """The names, what other inputs say of them, and the line of the model once."""
    batch, seq = Dim("batch"), Dim("seq")
    lowered = lower(Rows(), grid(3, 8), dynamic_shapes=({0: batch},), on_fallback="ignore")
    with pytest.raises(InputError, match=r"takes \[batch, 8\]\n"):
        lowered(torch.randn(4, 9))
    a, b = torch.zeros(2, 3, dtype=torch.int64), torch.randn(3, 4)
    shapes = {"a": {0: batch, 1: seq}, "b": {0: seq}}
    lowered = lower(Sum(), a, b, dynamic_shapes=shapes, on_fallback="ignore")
    with pytest.raises(InputError, match=r"b has shape \[2, 4\], the program takes \[seq, 4\], where seq = 3 by a\n"):
        lowered(a, b[:2])
    with pytest.raises(InputError, match="index 3 is out of range") as caught:
        lowered(a + 3, b)
    assert caught.value.where.count("return torch.nn.functional") == 1


def test_kernels_are_described_in_the_dims_of_the_model() -> None:
    lowered = lower(Rows(), grid(3, 8), dynamic_shapes=({0: Dim("batch")},), on_fallback="ignore")
    assert any("batch rows" in kernel.shape for kernel in lowered.explanation.kernels)
    assert "batch rows" in str(lower86.profile(lowered, torch.randn(4, 8), seconds=0.01))
