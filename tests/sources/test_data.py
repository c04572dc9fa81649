"""Data from files of every kind becomes calls of the model; what does not fit is said by its name."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.numpy
import torch
import transformers
from PIL import Image
from torch.export import Dim

from lower86 import needed as needed_module
from lower86.errors import InputError, Lower86Error
from lower86.sources.data import DataOptions, load_data
from lower86.sources.model import ModelSource, load_model
from lower86.sources.naming import Example, inputs_of
from lower86.sources.pictures import of_folder, pixels


class Two(torch.nn.Module):
    def forward(self, x: torch.Tensor, ids: torch.Tensor, mask: object = None) -> torch.Tensor:
        return x + ids


class One(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def source(model: torch.nn.Module, *example: Any, shapes: Any = None, given: bool = True) -> ModelSource:
    call = Example(example, {}) if given else None
    return ModelSource("m", model, call, shapes, inputs_of(model, call, shapes))


ROWS = {0: Dim("rows")}
FIXED = source(Two(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
OPEN = source(Two(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), None, shapes=(ROWS, ROWS, None))
PLAIN = source(One(), torch.zeros(2, 3))
X, IDS = np.arange(15, dtype=np.float32).reshape(5, 3), np.arange(5)


def calls(name: Path, model: ModelSource, **options: Any) -> list[Any]:
    return load_data(str(name), model, DataOptions(**options)).first(100)


def test_arrays_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ids=IDS.astype(np.int32), x=X.astype(np.float64))
    safetensors.numpy.save_file({"ids": IDS, "x": X}, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.npz", tmp_path / "a.safetensors"):
        fixed = load_data(str(path), FIXED)
        assert fixed.notes == ("a call takes 2 rows: of 5, the last is left out",)
        found = fixed.first(100)
        assert [[list(t.shape) for t in call] for call in found] == [[[2, 3], [2]]] * 2
        assert [t.dtype for t in found[0]] == [torch.float32, torch.int64]
        assert torch.equal(found[1][0], torch.from_numpy(X[2:4]))
        assert [len(call[0]) for call in calls(path, OPEN)] == [1] * 5
        opened = calls(path, OPEN, batch=3)
        assert [len(call[0]) for call in opened] == [3, 2]
        assert opened[0][2] is None, "what is no tensor is as in the example"
    assert len(load_data(str(path), FIXED).first(1)) == 1


def test_calls_along_an_axis_of_their_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.stack([X[:2], X[2:4]]), ids=IDS[:2])
    found = calls(tmp_path / "a.npz", FIXED)
    assert [torch.equal(call[1], torch.tensor([0, 1])) for call in found] == [True, True], "one for all calls"
    assert torch.equal(found[1][0], torch.from_numpy(X[2:4]))


def test_one_array_and_no_example(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    assert [call[0].shape for call in calls(tmp_path / "a.npy", PLAIN)] == [(2, 3)] * 2
    unknown = calls(tmp_path / "a.npy", source(One(), given=False), batch=5)
    assert torch.equal(unknown[0][0], torch.from_numpy(X))
    half = source(One(), torch.zeros(2, 3, dtype=torch.bfloat16))
    np.save(tmp_path / "bits.npy", np.full((2, 3), 0x3F80, np.uint16))
    assert torch.equal(calls(tmp_path / "bits.npy", half)[0][0], torch.ones(2, 3, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "input ids is missing; the data has x"),
        ({"x": X, "idz": IDS}, "there is no input 'idz'.*\n.*\n.*did you mean 'ids'"),
        ({"x": X, "ids": IDS[:2]}, None),
        ({"x": np.zeros((8, 3), np.float32), "ids": IDS[:4]}, "ids is enough for 2 calls, x for 4"),
        ({"x": X[:, :2], "ids": IDS}, r"x has shape \[2, 2\], the model takes \[2, 3\]"),
        ({"x": X.reshape(-1), "ids": IDS}, r"x has shape \[15\]; a call of the model takes \[2, 3\]"),
        ({"x": IDS.reshape(-1, 1) + np.zeros((1, 3), np.int64), "ids": IDS}, "x is int64, the model takes float32"),
        ({"x": X, "ids": np.full(4, 2**63, np.uint64)}, "ids holds numbers beyond int64"),
        ({"x": X[:0], "ids": IDS[:0]}, "the data holds nothing"),
        ({"x": X[:1], "ids": IDS[:1]}, "the data holds nothing"),
        ({"x": np.float32(3), "ids": IDS}, "x is a single number"),
        ({"x": np.array(["a"]), "ids": IDS}, "an array of dtype"),
        ({"x": np.array([{}], object), "ids": IDS}, "cannot be read: Object arrays"),
        ({}, "input x is missing; the data has nothing"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str | None) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    if message is None:
        assert len(calls(tmp_path / "a.npz", FIXED)) == 2
        return
    with pytest.raises(InputError, match=message):
        calls(tmp_path / "a.npz", FIXED)


def test_files_that_are_none(tmp_path: Path, text_folder: Path) -> None:
    np.savez(tmp_path / "many.npy.npz", x=X)
    (tmp_path / "many.npy.npz").rename(tmp_path / "many.npy")
    np.save(tmp_path / "one.npz.npy", X)
    (tmp_path / "one.npz.npy").rename(tmp_path / "one.npz")
    np.save(tmp_path / "two.npy", X)
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "lines.txt").write_text("a\n")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "archive.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    (tmp_path / "folder").mkdir()
    for suffix in ("npz", "npy", "safetensors", "parquet"):
        (tmp_path / f"empty.{suffix}").write_bytes(b"")
        (tmp_path / f"text.{suffix}").write_text("this is a text, longer than any header is")
    texts = load_model(str(text_folder))
    for name, model, message in (
        ("many.npy", PLAIN, "holds several arrays"),
        ("one.npz", PLAIN, "holds one array without a name"),
        ("pickle.npy", PLAIN, "it holds objects"),
        ("archive.npz", PLAIN, "an archive of something else"),
        ("two.npy", FIXED, "holds one array, the model takes 2: x, ids"),
        *((f"{kind}.{suffix}", PLAIN, "cannot be read") for kind in ("empty", "text")
          for suffix in ("npz", "npy", "safetensors", "parquet")),
        ("missing.npz", PLAIN, "cannot be read: No such file"),
        ("missing", PLAIN, "there is no data"),
        ("a.csv", PLAIN, "of no kind that is read"),
        ("lines.txt", PLAIN, "texts take a tokenizer"),
        ("latin.txt", texts, "it is not UTF-8"),
        ("blank.txt", texts, "the data holds nothing"),
        ("folder", PLAIN, "holds no pictures"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            calls(tmp_path / name, model)
    with pytest.raises(InputError, match="4 rows a call, the model takes 2"):
        calls(tmp_path / "two.npy", PLAIN, batch=4)


def test_texts(tmp_path: Path, text_folder: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat\n\na dog\nthe mat\n")
    dynamic = load_model(str(text_folder))
    found = calls(tmp_path / "a.txt", dynamic)
    assert [call[0].tolist() for call in found] == [[[2, 4, 5, 6, 3]], [[2, 8, 11, 3]], [[2, 4, 9, 3]]]
    padded = calls(tmp_path / "a.txt", dynamic, batch=2)
    assert [list(call[0].shape) for call in padded] == [[2, 5], [1, 4]]
    assert dynamic.model(*padded[0])["logits"].shape == (2, 2)


def test_tables(tmp_path: Path, text_folder: Path) -> None:
    def written(**columns: Any) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path

    found = calls(written(x=X.tolist(), ids=IDS, other=["a"] * 5), FIXED)
    assert [torch.equal(call[0], torch.from_numpy(X[2 * i : 2 * i + 2])) for i, call in enumerate(found)] == [True] * 2
    flat = source(One(), torch.zeros(1, 2, 2))
    assert calls(written(x=[[1.0, 2.0, 3.0, 4.0]]), flat)[0][0].tolist() == [[[1, 2], [3, 4]]]
    texts = load_model(str(text_folder))
    assert calls(written(text=["the cat"], title=["a"]), texts)[0][0].tolist() == [[2, 4, 5, 3]]
    assert calls(written(text=["the cat"], title=["a"]), texts, column="title")[0][0].tolist() == [[2, 8, 3]]
    ids = calls(written(input_ids=[[2, 4, 3], [2, 3]], attention_mask=[[1, 1, 1], [1, 1]]), texts)
    assert [call[0].tolist() for call in ids] == [[[2, 4, 3]], [[2, 3]]]
    for path, model, options, message in (
        (written(x=X.tolist(), y=IDS), FIXED, {}, "column ids is missing; the file has x, y"),
        (written(x=[[1.0], [1.0, 2.0]], ids=[1, 2]), FIXED, {}, "column x is no array of numbers"),
        (written(x=[[1.0] * 4] * 2, ids=[1, 2]), FIXED, {}, r"x has shape \[2, 4\], the model takes \[2, 3\]"),
        (written(x=[[1.0] * 3]), flat, {}, r"column x gives \[1, 3\], the model takes \[1, 2, 2\]"),
        (written(x=["a", "b"], ids=[1, 2]), FIXED, {}, "column x is no array of numbers"),
        (written(x=[None, [1.0] * 3], ids=[1, 2]), FIXED, {}, "column x is no array of numbers"),
        (written(a=["x"], b=["y"]), texts, {}, "the columns of texts are a, b"),
        (written(n=[1]), texts, {}, "the columns of texts are none"),
        (written(a=["x"]), texts, {"column": "z"}, "there is no column 'z'"),
        (written(x=pyarrow.array([], pyarrow.list_(pyarrow.float32()))), PLAIN, {}, "the data holds nothing"),
    ):
        with pytest.raises(InputError, match=message):
            calls(path, model, **options)


def test_pictures(tmp_path: Path, picture_folder: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, size in (("b.png", (40, 64)), ("in/a.jpg", (32, 32)), ("c.PNG", (5, 100))):
        Image.new("RGB", size, (255, 0, 127)).save(tmp_path / name)
    model = load_model(str(picture_folder))
    data = load_data(str(tmp_path), model)
    found = data.first(10)
    assert data.notes == ()
    assert [list(call[0].shape) for call in found] == [[1, 3, 32, 32]] * 3
    expected = (torch.tensor([255.0, 0, 127]) / 255 - 0.5) / torch.tensor([0.25, 0.5, 1])
    torch.testing.assert_close(found[0][0][0, :, 5, 7], expected)
    own = source(One(), torch.zeros(2, 3, 28, 28))
    data = load_data(str(tmp_path), own, DataOptions(mean=(0.5,), std=(2.0,)))
    torch.testing.assert_close(data.first(1)[0][0][1, :, 9, 9], (torch.tensor([255.0, 0, 127]) / 255 - 0.5) / 2)
    assert load_data(str(tmp_path), own).notes == (
        "pictures are cut to 28x28, with ImageNet's mean and std where none are given",
    )
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png is not usable"):
        load_data(str(tmp_path), model).first(10)
    with pytest.raises(InputError, match="pictures are for a model with one input"):
        load_data(str(tmp_path), FIXED)
    with pytest.raises(InputError, match="mean has 2 numbers"):
        load_data(str(tmp_path), own, DataOptions(mean=(0.5, 0.5))).first(1)
    with pytest.raises(InputError, match="takes 5 channels"):
        load_data(str(tmp_path), source(One(), torch.zeros(1, 5, 8, 8))).first(1)


def test_preprocessing_is_that_of_transformers(tmp_path: Path) -> None:
    rough = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(rough).save(tmp_path / "a.png")
    for config in (
        {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}},
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 36}, "resample": 3,
         "crop_size": {"height": 32, "width": 32}},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.875},
    ):  # fmt: skip
        name = config["image_processor_type"]  # which is torchvision's, where that is installed, and rounds otherwise
        kind = getattr(transformers, f"{name}Pil", getattr(transformers, name))
        library = kind(**{name: value for name, value in config.items() if name != "image_processor_type"})
        library.save_pretrained(tmp_path)
        how, _ = of_folder(tmp_path, 32, 32)
        expected = library(Image.fromarray(rough), return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(pixels(tmp_path / "a.png", how, 3), expected, atol=1e-5)


def test_what_a_function_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"items_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(
        "import numpy, torch\n"
        "def items():\n    yield numpy.ones(3), torch.ones(2)\n    yield {'x': torch.zeros(1)}\n"
        "def broken():\n    yield torch.ones(3)\n    raise KeyError('no file')\n"
        "def nothing():\n    return []\n"
        "def tensor():\n    return torch.ones(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [])
    first, second = load_data(f"{module}:items", PLAIN).first(10)
    assert [type(one) for one in first] == [torch.Tensor, torch.Tensor]
    assert list(second) == ["x"]
    assert len(load_data(f"{module}:broken", PLAIN).first(1)) == 1
    for name, message in (("broken", "failed at item 1: KeyError"), ("nothing", "holds nothing"),
                          ("tensor", "gives a Tensor"), ("no", "has no no")):  # fmt: skip
        with pytest.raises(Lower86Error, match=message):
            load_data(f"{module}:{name}", PLAIN).first(10)


def test_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture_folder: Path) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(needed_module.importlib, "import_module", missing)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for name in ("a.parquet", "a.safetensors"):
        (tmp_path / name).write_bytes(b"")
    attempts: list[tuple[Callable[[], Any], str]] = [
        (lambda: calls(tmp_path / "a.parquet", PLAIN), "takes pyarrow, which is not installed"),
        (lambda: calls(tmp_path / "a.safetensors", PLAIN), "takes safetensors, which"),
        (lambda: calls(tmp_path, source(One(), torch.zeros(1, 3, 8, 8))), "takes pillow, which"),
        (lambda: load_model(str(picture_folder)), "takes transformers, which"),
    ]
    for attempt, message in attempts:
        with pytest.raises(Lower86Error, match=message):
            attempt()


def test_a_damaged_preprocessor(picture_folder: Path, tmp_path: Path) -> None:
    for config in ("{", "[]", json.dumps({"size": {"length": 3}}), json.dumps({"size": "big"})):
        (tmp_path / "preprocessor_config.json").write_text(config)
        with pytest.raises(Lower86Error, match="cannot be used"):
            of_folder(tmp_path, 32, 32)
