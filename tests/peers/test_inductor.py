"""Inductor freezes constants for as long as it is measured, whoever makes it compile again, and no longer."""

from __future__ import annotations

import pytest
import torch
import torch._inductor.config as settings

from lower86.peers.inductor import inductor, settings_kept
from lower86.peers.peer import Work


def test_constants_are_frozen_at_every_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the contender is made: strict exports of others make torch.compile forget what it has compiled."""
    seen: list[bool] = []
    work = Work("linear", torch.nn.Linear(8, 8).eval(), [(torch.randn(4, 8),)], [(torch.randn(4, 8),)])

    def compiled(model: torch.nn.Module) -> object:
        return lambda x: seen.append(settings.freezing) or model(x)

    monkeypatch.setattr(torch, "compile", compiled)
    before = settings.freezing
    with settings_kept():
        run = inductor(work, 1)
        torch.compiler.reset()
        run(work.inputs[0])
        assert seen == [True, True]
    assert settings.freezing is before
