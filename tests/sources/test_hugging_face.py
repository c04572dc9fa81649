"""Folders as transformers writes them: the wrapped model computes what the library's own does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from lower86.errors import Lower86Error
from lower86.sources.hugging_face import from_folder
from lower86.sources.model import ModelOptions, load_model
from tests.sources.folders import LONGEST


def test_texts(text_folder: Path) -> None:
    source = load_model(str(text_folder))
    assert [(one.name, one.open_axes) for one in source.inputs] == [("input_ids", {0, 1}), ("attention_mask", {0, 1})]
    assert source.tokenize is not None
    found = source.tokenize(["the cat sat", "a dog"])
    assert found["input_ids"].tolist() == [[2, 4, 5, 6, 3], [2, 8, 11, 3, 0]]
    assert found["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 1, 0]]
    assert source.tokenize(["the " * 99])["input_ids"].shape == (1, LONGEST)
    known = transformers.BertForSequenceClassification.from_pretrained(text_folder).eval()
    result = source.model(**found)
    assert set(result) == {"logits"}
    torch.testing.assert_close(result["logits"], known(**found).logits)
    assert source.notes == ()


def test_fixed_sizes(text_folder: Path) -> None:
    source = load_model(str(text_folder), ModelOptions(fixed=True, batch=3, length=9))
    assert source.dynamic_shapes is None
    assert source.example is not None
    assert source.example.args[0].shape == (3, 9)
    assert source.tokenize is not None
    assert source.tokenize(["the cat"])["input_ids"].shape == (1, 9)


def test_pictures(picture_folder: Path) -> None:
    source = load_model(str(picture_folder))
    (one,) = source.inputs
    assert (one.name, one.open_axes) == ("pixel_values", {0})
    assert one.example is not None
    known = transformers.ViTForImageClassification.from_pretrained(picture_folder).eval()
    torch.testing.assert_close(source.model(one.example)["logits"], known(one.example).logits)
    assert source.preprocessing is not None
    assert (source.preprocessing.resize, source.preprocessing.std) == ((32, 32), (0.25, 0.5, 1.0))


def test_folders_that_are_damaged(text_folder: Path, tmp_path: Path) -> None:
    def changed(**entries: object) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(text_folder, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | entries))
        return folder

    no_weights, bad_weights, bad_tokenizer = changed(), changed(), changed()
    (no_weights / "model.safetensors").unlink()
    (bad_weights / "model.safetensors").write_bytes(b"nothing")
    (bad_tokenizer / "tokenizer.json").write_text("{}")
    bad_config = changed()
    (bad_config / "config.json").write_text("{")
    for folder, message in (
        (no_weights, "cannot be loaded: .*model.safetensors"),
        (bad_weights, "cannot be loaded"),
        (bad_config, "cannot be loaded"),
        (bad_tokenizer, "the tokenizer in .* cannot be loaded"),
        (changed(architectures=["NoSuchModel"]), "has no NoSuchModel"),
        (changed(model_type="nothing"), "cannot be loaded"),
        (changed(hidden_size=8), "cannot be loaded"),
        (tmp_path, "holds no config.json"),
    ):
        with pytest.raises(Lower86Error, match=message):
            from_folder(folder, ModelOptions())


def test_weights_that_are_not_there_are_said(text_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(text_folder, folder)
    transformers.BertModel.from_pretrained(text_folder).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    (note,) = from_folder(folder, ModelOptions()).notes
    assert "2 weights are not in" in note
    assert "classifier.bias" in note


def test_models_of_other_kinds(tmp_path: Path) -> None:
    config = transformers.T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    part = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    pictures = part | {"image_size": 8, "patch_size": 8}
    both = transformers.CLIPConfig(text_config=part | {"vocab_size": 20}, vision_config=pictures)
    transformers.CLIPModel(both).save_pretrained(tmp_path / "both")
    for folder in (tmp_path, tmp_path / "both"):
        with pytest.raises(Lower86Error, match="takes more than a text or a picture"):
            from_folder(folder, ModelOptions())
