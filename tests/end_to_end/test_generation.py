"""GPT-2 with a static cache generates text: the lowered decode step against the quantized one, token by token."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

import lower86
from lower86.lowered import LoweredModule
from tests.artifact.round_trip import again, same_bits
from tests.models.checks import near, same
from tests.models.quantized import quantize

transformers = pytest.importorskip("transformers")
LENGTH, TOKENS, HEADS, HEAD = 24, 100, 2, 16


class WithCaches(torch.nn.Module):
    """One layer's attention over caches that are inputs and results: f32 [1, 2, 24, 16] each."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = torch.nn.Linear(32, 96), torch.nn.Linear(32, 32)

    def forward(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (t.view(1, 1, HEADS, HEAD).transpose(1, 2) for t in self.qkv(x).split(32, -1))
        keys, values = keys.index_copy(2, position, k), values.clone()
        values[:, :, position] = v
        mask = torch.arange(LENGTH)[None] <= position[:, None]
        y = torch.nn.functional.scaled_dot_product_attention(q, keys, values, mask)
        return self.out(y.transpose(1, 2).reshape(1, 1, 32)), keys, values


def call(token: int, place: int) -> dict[str, Tensor]:
    return {"input_ids": torch.tensor([[token]]), "cache_position": torch.tensor([place])}


@pytest.fixture(scope="module")
def quantized() -> GraphModule:
    from transformers.integrations.executorch import TorchExportableModuleWithStaticCache

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=2, n_head=HEADS, n_embd=HEADS * HEAD, n_positions=LENGTH, vocab_size=TOKENS, bos_token_id=0,
        eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    cache = {"batch_size": 1, "max_cache_len": LENGTH}
    model.generation_config = transformers.GenerationConfig(
        use_cache=True, cache_implementation="static", max_length=LENGTH, cache_config=cache
    )
    step = TorchExportableModuleWithStaticCache(model)
    return quantize(step, (), call(7, 0), quantizer=lower86.X86Quantizer())


@pytest.fixture
def lowered(quantized: GraphModule) -> LoweredModule:
    return lower86.lower_pt2e_quantized_to_x86(quantized, (), example_kwargs=call(7, 0), on_fallback="raise")


def state_of(module: Any) -> dict[str, Tensor]:
    names = [f"{kind}_{layer}" for kind in ("key_cache", "value_cache", "cumulative_length") for layer in (0, 1)]
    return {name: module.get_buffer(name).clone() for name in names}


def test_twenty_tokens(quantized: GraphModule, lowered: LoweredModule) -> None:
    """Logits of every step within a hundredth of the quantized model's own; all of its layers run in generated code."""
    model = copy.deepcopy(quantized)
    assert dict(lowered.named_state()).keys() == state_of(model).keys()
    assert lower86.explain(lowered).int8_fraction == 1
    token = 7
    for place in range(20):
        given = call(token, place)
        with torch.no_grad():
            want = model(**given)
        reference = lowered.run_reference(**given)
        got = lowered(**given)
        assert float((got - want).norm() / want.norm()) < 0.01
        near(got, reference)
        token = int(want.argmax())
        for name, mine in state_of(lowered).items():
            expected = model.get_buffer(name)
            assert float((mine.double() - expected.double()).abs().max()) <= 0.05, name
    assert lowered.cumulative_length_1 == 20
    assert int((lowered.key_cache_0[0, 0].abs().sum(-1) > 0).sum()) == 20


def test_a_step_writes_one_row(lowered: LoweredModule) -> None:
    """No value but the state is as large as a cache, save the keys that the attention wants transposed."""
    shape = (1, HEADS, LENGTH, HEAD)
    assert [value.place for value in lowered.program.values if value.shape == shape] == ["state"] * 4
    before = state_of(lowered)
    lowered(**call(3, 5))
    for name, tensor in state_of(lowered).items():
        if tensor.dim() == 4:
            changed = (tensor != before[name]).any(-1).any(1)[0]
            assert changed.nonzero().tolist() == [[5]]


def test_two_generations_from_the_start_are_the_same(lowered: LoweredModule) -> None:
    first = state_of(lowered)

    def generated() -> list[Tensor]:
        return [lowered(**call(token, place)) for place, token in enumerate((5, 17, 3, 99))]

    one = generated()
    lowered.reset_state()
    same(state_of(lowered), first)
    same(generated(), one)


def test_a_saved_model_goes_on_where_the_module_is(lowered: LoweredModule, tmp_path: Path) -> None:
    lowered(**call(5, 0))
    program = again(lowered, tmp_path)
    for place, token in enumerate((17, 3, 99), 1):
        same_bits(program(**call(token, place)), lowered(**call(token, place)))
    with pytest.raises(lower86.InputError, match="out of range"):
        program(**call(7, LENGTH))
    same_bits(list(program.named_state().values()), [tensor for _, tensor in lowered.named_state()])


def test_a_token_or_a_place_out_of_range_changes_nothing(lowered: LoweredModule) -> None:
    lowered(**call(7, 0))
    before = state_of(lowered)
    for token, place in ((TOKENS, 1), (-1, 1), (7, LENGTH), (7, -1)):
        with pytest.raises(lower86.InputError, match="out of range"):
            lowered(**call(token, place))
        same(state_of(lowered), before)


def test_caches_as_inputs_and_results() -> None:
    keys, values = torch.zeros(2, 1, HEADS, LENGTH, HEAD)
    given = (torch.randn(1, 1, 32), torch.tensor([0]), keys, values)
    model = quantize(WithCaches(), given)
    lowered = lower86.lower_pt2e_quantized_to_x86(model, given, on_fallback="raise")
    assert lowered.program.states == ()
    for place in range(3):
        x, position = torch.randn(1, 1, 32), torch.tensor([place])
        with torch.no_grad():
            want = model(x, position, keys, values)
        got = lowered(x, position, keys, values)
        near(got, want)
        _, keys, values = got
