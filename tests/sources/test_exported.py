"""An exported program keeps its example, its dims and its quantization in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.export import Dim

import lower86
from lower86.errors import ExportError, Lower86Error
from lower86.sources.exported import exported_bytes, from_exported
from lower86.sources.model import load_model
from lower86.sources.naming import Example, call_with


class Nested(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor], factor: float = 1.0) -> torch.Tensor:
        return self.layer(x) * factor + more["bias"]


EXAMPLE = Example((torch.randn(2, 8), {"bias": torch.randn(4)}, 0.5), {})


def test_a_float_program(tmp_path: Path) -> None:
    shapes = {"x": {0: Dim("rows", max=16)}, "more": {"bias": None}, "factor": None}
    torch.export.save(torch.export.export(Nested(), EXAMPLE.args, dynamic_shapes=shapes), tmp_path / "a.pt2")
    source = load_model(str(tmp_path / "a.pt2"))
    assert [(one.name, one.open_axes) for one in source.inputs] == [("x", {0}), ("more_bias", set())]
    assert (source.name, source.is_quantized) == ("a", False)
    assert source.example is not None
    torch.testing.assert_close(source.example.args, EXAMPLE.args)


def test_a_quantized_program_goes_there_and_back(tmp_path: Path) -> None:
    model = Nested().eval()
    shapes = {"x": {0: Dim("rows", max=16)}, "more": {"bias": None}, "factor": None}
    quantized = lower86.quantize(model, [EXAMPLE.args], dynamic_shapes=shapes, progress=False)
    (tmp_path / "q.pt2").write_bytes(exported_bytes(quantized, EXAMPLE))
    source = from_exported(tmp_path / "q.pt2")
    assert source.is_quantized
    assert source.inputs[0].rows_vary
    assert "layer.weight" in dict(quantized.named_parameters())
    kept = {name: tensor.dtype for name, tensor in source.model.state_dict().items() if tensor.numel() == 32}
    assert list(kept.values()) == [torch.int8], "without the float weight that was quantized"
    x = torch.randn(5, 8)
    torch.testing.assert_close(source.model(x, *EXAMPLE.args[1:]), quantized(x, *EXAMPLE.args[1:]))
    lowered = lower86.lower_pt2e_quantized_to_x86(quantized, EXAMPLE.args, on_fallback="raise")
    again = lower86.lower_pt2e_quantized_to_x86(source.model, EXAMPLE.args, on_fallback="raise")  # type: ignore[arg-type] # a module
    assert torch.equal(again(x, *EXAMPLE.args[1:]), lowered(x, *EXAMPLE.args[1:]))
    with pytest.raises(ExportError, match="cannot be written as an exported program"):
        exported_bytes(quantized, Example((torch.randn(2, 9), *EXAMPLE.args[1:]), {}))


class ByName(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * scale


def test_arguments_by_name_stay_so(tmp_path: Path) -> None:
    rows, example = {0: Dim("rows")}, Example((torch.randn(2, 8),), {"scale": torch.ones(2, 1)})
    program = torch.export.export(
        ByName().eval(), example.args, dict(example.kwargs), dynamic_shapes={"x": rows, "scale": rows}
    )
    quantized = lower86.quantize(program, [{"x": example.args[0], **example.kwargs}], progress=False)
    (tmp_path / "q.pt2").write_bytes(exported_bytes(quantized, example))
    source = from_exported(tmp_path / "q.pt2")
    assert source.example is not None
    assert (len(source.example.args), list(source.example.kwargs)) == (1, ["scale"])
    assert [one.rows_vary for one in source.inputs] == [True, True]
    found = call_with(source.model, source.example, {"x": torch.ones(5, 8), "scale": torch.ones(5, 1)})
    lowered = lower86.lower_pt2e_quantized_to_x86(
        source.graph, source.example.args, example_kwargs=dict(source.example.kwargs)
    )
    assert lowered(**found).shape == (5, 4)


def test_files_that_are_damaged(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Nested(), EXAMPLE.args), tmp_path / "a.pt2")
    content = (tmp_path / "a.pt2").read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"PK" + bytes(100)):
        (tmp_path / "b.pt2").write_bytes(damaged)
        with pytest.raises(Lower86Error, match=r"b\.pt2 is no exported program"):
            from_exported(tmp_path / "b.pt2")
