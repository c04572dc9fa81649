"""The service: embeddings, several clients at once, and 4xx for whatever a client does wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import lower86
from fastapi_service import app as service
from fastapi_service.embedder import Embedder
from tests.examples.conftest import EXAMPLES

TEXTS = ["a cat sits on the mat", "a dog runs", "", "far " * 500, "unknown words", "it"] * 12


@pytest.fixture(scope="module")
def client(encoder_folder: Path) -> Iterator[TestClient]:
    with TestClient(service.create_app(encoder_folder, streams=2)) as client:
        yield client


def embed(client: TestClient, texts: list[str]) -> np.ndarray:
    answer = client.post("/embed", json={"texts": texts})
    assert answer.status_code == 200, answer.text
    assert answer.json()["dimensions"] == 16
    return np.array(answer.json()["embeddings"])


def test_health(client: TestClient) -> None:
    found = client.get("/health").json()
    assert found["status"] == "ok"
    assert found["most_tokens"] == 24
    assert found["streams"] == 2
    assert found["threads"] >= 1
    assert found["target"] == lower86.Target.host().level


def test_texts_of_all_lengths_in_one_request_get_what_they_get_alone(client: TestClient) -> None:
    together = embed(client, TEXTS)
    assert together.shape == (len(TEXTS), 16)
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5
    alone = np.concatenate([embed(client, [text]) for text in TEXTS[:6]])
    assert np.abs(together[:6] - alone).max() < 0.02, "padding changes nothing but roundings"
    assert np.abs(together[6:12] - together[:6]).max() < 0.02
    different = together[:6] @ together[:6].T
    assert different[0, 1] < 0.99


def test_many_clients_at_once(client: TestClient) -> None:
    expected = embed(client, TEXTS[:6])
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: embed(client, TEXTS[:6]), range(24)):
            assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"{}", b'{"texts": "a cat"}', b'{"texts": []}', b'{"texts": [1]}', b'{"texts": [null]}',
        b'{"texts": ["\\ud800"]}', b"\xff\xfe", json.dumps({"texts": ["a"] * 257}).encode(),
        json.dumps({"texts": ["a" * 20_001]}).encode(),
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_a_bad_request_is_the_clients_fault(client: TestClient, body: bytes) -> None:
    answer = client.post("/embed", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert len(answer.content) < 1000, "the input is not sent back"


def test_a_body_beyond_the_limit_is_not_read(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    unannounced = (b" " * (1 << 20) for _ in range(5))
    assert client.post("/embed", content=unannounced, headers=headers).status_code == 413
    assert client.post("/embed", content=b" " * (5 << 20), headers=headers).status_code == 413
    assert client.get("/embed").status_code == 405
    assert client.get("/nothing").status_code == 404


def test_beyond_what_may_wait_clients_come_back_later(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_WAITING", 0)
    answer = client.post("/embed", json={"texts": ["a cat"]})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"


def test_a_service_without_a_model_does_not_start(tmp_path: Path, encoder_folder: Path) -> None:
    with pytest.raises(lower86.ArtifactError):
        service.create_app(tmp_path)
    (tmp_path / "lower86.safetensors").symlink_to(encoder_folder / "lower86.safetensors")
    with pytest.raises(FileNotFoundError, match="tokenizer"):
        service.create_app(tmp_path)


def test_text_that_is_no_unicode(encoder_folder: Path) -> None:
    with pytest.raises(lower86.InputError, match="Unicode"):
        Embedder(encoder_folder)(["\ud800"])


def test_no_torch(encoder_folder: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fastapi_service.app import create_app\n"
        "print([r.path for r in create_app().routes if r.path in ('/embed', '/health')])"
    )
    source = str(Path(lower86.__file__).parents[1])
    environment = {"PYTHONPATH": f"{source}{os.pathsep}{EXAMPLES}", "LOWER86_MODEL": str(encoder_folder)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.stdout.strip() == "['/embed', '/health']", done.stderr
