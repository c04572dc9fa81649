"""An exported program keeps its example, its dims and its quantization in a file."""

from __future__ import annotations

import io
import logging
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim

import lower86
from lower86.errors import ExportError, Lower86Error
from lower86.sources.archive import reasons, trouble
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
    quantized = lower86.quantize(model, [EXAMPLE.args], dynamic_shapes=shapes, recipe="fast", progress=False)
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


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("exported") / "a.pt2"
    torch.export.save(torch.export.export(Nested(), EXAMPLE.args), path)
    return path.read_bytes()


def without(content: bytes, member: str, by: bytes | None = None) -> bytes:
    """The archive without a member, or with something else in its place."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(made, "w") as other:
        for name in archive.namelist():
            if not name.endswith(member):
                other.writestr(name, archive.read(name))
            elif by is not None:
                other.writestr(name, by)
    return made.getvalue()


def refused(path: Path, content: bytes, message: str) -> Lower86Error:
    path.write_bytes(content)
    with pytest.raises(Lower86Error, match=message) as caught:
        from_exported(path)
    assert caught.value.what.startswith(f"{path} is no exported program: ")
    assert caught.value.fix
    assert "warnings above" not in str(caught.value)
    assert "\n" not in caught.value.what
    return caught.value


def test_files_that_are_damaged(tmp_path: Path, content: bytes) -> None:
    for damaged, message in (
        (b"", "it is empty"),
        (content[: len(content) // 2], "cut short"),
        (content[:-10], "cut short"),
        (b"PK" + bytes(100), "cut short"),
        (b"a text\n" * 9, "no zip archive"),
        (content.replace(b"schema_version", b"schema_vers\0on"), "damaged: a/models/model.json"),
    ):
        refused(tmp_path / "b.pt2", damaged, message)


@pytest.mark.parametrize(
    "member",
    [
        "archive_format", "archive_version", ".data/version", "models/model.json", "weights/model_weights_config.json",
        "constants/model_constants_config.json", "weights/weight_0", "sample_inputs/model.pt",
    ],
)  # fmt: skip
def test_files_that_lack_something(tmp_path: Path, content: bytes, member: str) -> None:
    refused(tmp_path / "b.pt2", without(content, member), rf"damaged: it lacks \S*{re.escape(member)}\n")


def test_whatever_is_damaged_there_is_something_to_say(content: bytes) -> None:
    random = np.random.default_rng(0)
    directory = content.rindex(b"PK\1\2", 0, -100)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        headers = [one.header_offset for one in archive.infolist()]
    for start, length in [(directory, 60), (len(content) - 22, 22), *((header, 30) for header in headers[:3])]:
        for _ in range(200):
            damaged = bytearray(content)
            for place in random.integers(start, start + length, 3):
                damaged[place] = random.integers(256)
            what, fix = trouble(bytes(damaged), ValueError("torch's"))
            assert what
            assert fix
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("a/models/model.json", b"{}")
        archive.writestr("a/data/weights/model_weights_config.json", b"{}" * 999, zipfile.ZIP_LZMA)
    squeezed = bytearray(made.getvalue())
    begin = squeezed.index(b"config.json") + len("config.json")
    squeezed[begin : begin + 20] = bytes(range(235, 255))
    assert "lacks" in trouble(bytes(squeezed), ValueError("torch's"))[0]


def test_what_is_logged_of_a_file_that_can_be_read_is_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    with reasons() as found:
        logging.getLogger("torch.export.some").warning("a word")
        assert not caplog.records
    assert found == []
    assert [record.message for record in caplog.records] == ["a word"]


def test_a_file_with_names_and_no_program(tmp_path: Path, content: bytes) -> None:
    torch.export.save(torch.export.load(io.BytesIO(content)), tmp_path / "n.pt2", extra_files={"lower86_dims.json": ""})
    refused(tmp_path / "b.pt2", without((tmp_path / "n.pt2").read_bytes(), "model.json"), "lacks models/model.json")


def test_what_torch_itself_says(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Of files of another version, for one: that is in its log only, which then says no more."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith("model.json")]
        program = archive.read(name)
    other = program.replace(b'"schema_version": {"major": ', b'"schema_version": {"major": 9')
    assert other != program
    found = refused(tmp_path / "b.pt2", without(content, "model.json", other), "torch cannot read it: .*version")
    assert "version of torch" in found.fix
    refused(tmp_path / "b.pt2", without(content, "model.json", b"{"), "torch cannot read it: .*line 1")
    refused(tmp_path / "b.pt2", without(content, "weights_config.json", b"[]"), "torch cannot read it")
    assert not caplog.records


def test_archives_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other"
    np.savez(path.with_suffix(".npz"), x=np.zeros(3))
    torch.save(Nested().state_dict(), path.with_suffix(".pt"))
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.writestr("notes.txt", "none")
    zipfile.ZipFile(path.with_suffix(".empty"), "w").close()
    for suffix, message in (
        (".npz", "arrays of NumPy"), (".pt", "a pickle"), (".zip", "something else"), (".empty", "an empty zip"),
    ):  # fmt: skip
        refused(tmp_path / "b.pt2", path.with_suffix(suffix).read_bytes(), message)
