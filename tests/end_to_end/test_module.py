"""The lowered module as a module: copied, pickled, moved, traced, edited, called in every mode."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import lower86
from lower86.lowered import LoweredModule
from tests.models.checks import agree, lower, lower_anyhow, near, same
from tests.models.qdq import Linear, grid
from tests.models.quantized import quantize
from tests.models.small import MLP

Case = tuple[torch.fx.GraphModule, LoweredModule, Tensor]


@pytest.fixture(scope="module")
def case() -> Case:
    torch.manual_seed(0)
    x = torch.randn(3, 16)
    model = quantize(MLP(), (x,))
    return model, lower(model, x), x


def test_a_copy_has_a_graph_of_its_own(case: Case) -> None:
    model, lowered, x = case
    twin = copy.copy(lowered)
    assert isinstance(twin, LoweredModule)
    assert twin.compiled() is lowered.compiled()  # nothing is compiled again
    (relu,) = [n for n in twin.graph.nodes if n.target is torch.ops.aten.relu.default]
    relu.target = torch.ops.aten.neg.default
    twin.recompile()
    assert not torch.equal(twin(x), lowered(x))
    agree(model, lowered, x, compare=near)


def test_a_deep_copy_has_tensors_of_its_own(case: Case) -> None:
    model, lowered, x = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin = copy.deepcopy(lowered)
    agree(model, twin, x, compare=near)
    same(twin(x), lowered(x))
    mine = {t.data_ptr() for t in lowered.state_dict().values()}
    assert not mine & {t.data_ptr() for t in twin.state_dict().values()}
    assert str(lower86.explain(twin)) == str(lower86.explain(lowered))
    assert twin.state_dict().keys() == lowered.state_dict().keys()
    for tensor in twin.state_dict().values():
        tensor.zero_()
    twin.recompile()
    assert not torch.equal(twin(x), lowered(x))


def test_a_deep_copy_inside_a_larger_module(case: Case) -> None:
    _, lowered, x = case
    outer = torch.nn.Sequential(lowered, torch.nn.ReLU())
    same(copy.deepcopy(outer)(x), outer(x))


@pytest.mark.parametrize("save", [pickle.dumps, lambda m: torch.save(m, io.BytesIO())], ids=["pickle", "torch.save"])
def test_pickling_is_refused(case: Case, save: object) -> None:
    with pytest.raises(lower86.UnsupportedError, match=r"machine code(.|\n)*lower86\.save"):
        save(case[1])


def test_moving_where_it_is_does_nothing(case: Case) -> None:
    _, lowered, x = case
    before = lowered(x)
    for moved in (lowered.to("cpu"), lowered.cpu(), lowered.float(), lowered.to(torch.float32), lowered.share_memory()):
        assert moved is lowered
    same(lowered(x), before)


@pytest.mark.parametrize(
    "move",
    [lambda m: m.half(), lambda m: m.to(torch.bfloat16), lambda m: m.double(), lambda m: m.to("meta")],
    ids=["half", "bfloat16", "double", "meta"],
)
def test_moving_elsewhere_is_refused(case: Case, move: object) -> None:
    _, lowered, x = case
    before = lowered(x)
    with pytest.raises(lower86.UnsupportedError, match="lower the quantized model again"):
        move(lowered)
    same(lowered(x), before)


def test_state_dict(case: Case) -> None:
    _, lowered, _ = case
    state = lowered.state_dict()
    assert sorted(str(t.dtype) for t in state.values() if t.dim() == 2) == ["torch.int8", "torch.int8"]
    with pytest.raises(lower86.UnsupportedError, match="frozen"):
        lowered.load_state_dict(state)


def test_train_and_eval_change_nothing(case: Case) -> None:
    _, lowered, x = case
    before = lowered(x)
    assert not lowered.training
    same(lowered.train()(x), before)
    same(lowered.eval()(x), before)
    assert [p.requires_grad for p in lowered.requires_grad_(False).parameters()].count(True) == 0


def test_print_readable_shows_the_integer_contractions(case: Case) -> None:
    text = case[1].print_readable(print_output=False)
    assert text.count("torch.ops.lower86.int8_linear.default(") == 2
    assert "torch.ops.aten.relu.default" in text
    assert "lower86.int8_linear" in str(case[1].graph)


def test_reference_and_program_agree(case: Case) -> None:
    _, lowered, _ = case
    x = torch.randn(3, 16) * 3
    near(lowered(x), lowered.run_reference(x))


def test_grad_modes(case: Case) -> None:
    _, lowered, x = case
    before = lowered(x)
    assert not before.requires_grad
    with torch.enable_grad():
        same(lowered(x.clone().requires_grad_()), before)
        same(lowered(torch.nn.Parameter(x)), before)
    with torch.inference_mode():
        result = lowered(x)
    assert result.is_inference()
    same(lowered(result), lowered(result.clone()))


def test_autocast_around_the_call_changes_nothing(case: Case) -> None:
    _, lowered, x = case
    before = lowered(x), lowered.run_reference(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same((lowered(x), lowered.run_reference(x)), before)


def test_autocast_does_not_reach_foreign_steps() -> None:
    class Foreign(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x)
            return torch.linalg.inv(y @ y.T + 1e3 * torch.eye(3))

    x = grid(3, 8)
    lowered = lower_anyhow(Foreign(), x)
    before = lowered(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(lowered(x), before)


def test_a_tensor_subclass_with_plain_memory_runs_natively(case: Case) -> None:
    class Tagged(torch.Tensor):
        pass

    _, lowered, x = case
    same(lowered(x.as_subclass(Tagged)), lowered(x))


def test_fake_tensors(case: Case) -> None:
    _, lowered, x = case
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(x)
        inside = lowered(fake)
    outside = lowered(fake)
    for result in (inside, outside):
        assert result.shape == x.shape
        assert result.dtype == torch.float32
        assert type(result) is type(fake)


@pytest.mark.parametrize("strict", [True, False])
def test_exported(case: Case, strict: bool) -> None:
    _, lowered, x = case
    program = torch.export.export(lowered, (x,), strict=strict)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("lower86.int8_linear.default") == 2
    near(program.module()(x), lowered(x))


def test_exported_with_a_dynamic_batch() -> None:
    x, shapes = torch.randn(3, 16), ({0: torch.export.Dim("batch")},)
    lowered = lower(quantize(MLP(), (x,), dynamic_shapes=shapes), x)
    program = torch.export.export(lowered, (x,), dynamic_shapes=shapes)
    near(program.module()(torch.randn(5, 16)).shape, torch.Size([5, 16]))


def test_lowered_again(case: Case) -> None:
    _, lowered, x = case
    again = lower(lowered, x)
    same(again(x), lowered(x))
    assert lower86.explain(again).int8_fraction == 1


def test_inside_a_larger_model_that_is_lowered(case: Case) -> None:
    _, lowered, x = case
    outer = torch.nn.Sequential(lowered, torch.nn.Softmax(-1))
    near(lower(outer, x)(x), outer(x))


def test_compiled_by_torch(case: Case) -> None:
    _, lowered, x = case
    torch.compiler.reset()
    compiled = torch.compile(lowered, backend="eager", fullgraph=True)
    with torch.no_grad():
        near(compiled(x), lowered(x))
    outer = torch.compile(lambda t: lowered(t) * 2, backend="eager", fullgraph=True)
    near(outer(x), lowered(x) * 2)
    torch.compiler.reset()


def test_traced_by_fx_and_jit(case: Case) -> None:
    _, lowered, x = case
    traced = torch.fx.experimental.proxy_tensor.make_fx(lowered)(x)
    assert "int8_linear" in traced.code
    near(traced(2 * x), lowered(2 * x))


def test_hooks_run(case: Case) -> None:
    _, lowered, x = case
    seen = []
    handle = lowered.register_forward_hook(lambda module, args, result: seen.append(result.shape))
    lowered(x)
    handle.remove()
    assert seen == [x.shape]
