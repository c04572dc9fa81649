"""One model of each kind for all tests of sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.folders import picture_model, text_model


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_model(tmp_path_factory.mktemp("folders") / "texts")


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_model(tmp_path_factory.mktemp("folders") / "pictures")
