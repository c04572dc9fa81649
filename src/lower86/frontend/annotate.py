"""Which values of a graph are quantized: what contractions read, and what lies between them.

    conv ─ relu ─ │q dq│ ─ max_pool ─ │q dq│ ─ flatten ─ │q dq│ ─ linear       where all three share their parameters

What contractions read is quantized, and the tables of embeddings are, a scale a row: rows are looked up as integers, a
quarter of the bytes. Nothing else is quantized for its own sake. A pool or a concatenation all of whose readers are
integers reads integers itself; movement and relu pass on integers where there are some already. So no float that
somebody reads is lost, and an activation function stays in one piece with the contraction in front of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.fx import GraphModule, Node

from ..graph.arguments import arguments, is_call, is_float
from . import torchao
from .attention import ATTENTION
from .configuration import Integers, QuantizationConfig
from .contractions import CONVOLUTIONS, LINEARS, PRODUCTS, TABLES, Contraction, contraction_of, table_of
from .memory import Memory, live_nodes
from .recurrent import RECURRENT, recurrence_of

_A = torch.ops.aten

ConfigOf = Callable[[Node], "QuantizationConfig | None"]

MOVEMENT = (
    _A.view.default, _A.reshape.default, _A._unsafe_view.default, _A.permute.default, _A.transpose.int, _A.t.default,
    _A.flatten.using_ints, _A.unflatten.int, _A.squeeze.default, _A.squeeze.dim, _A.squeeze.dims, _A.unsqueeze.default,
    _A.expand.default, _A.slice.Tensor, _A.select.int, _A.contiguous.default, _A.clone.default, _A.detach.default,
    _A.pixel_shuffle.default, _A.channel_shuffle.default, _A.upsample_nearest1d.vec, _A.upsample_nearest2d.vec,
    _A.upsample_nearest3d.vec,
)  # fmt: skip
CLAMPS = (_A.relu.default,)
SELECTIONS = (_A.cat.default, _A.max_pool1d.default, _A.max_pool2d.default, _A.max_pool3d.default)
"""What merges or picks values: its result is exact in the integers of its operands."""
AVERAGES = (
    _A.avg_pool1d.default, _A.avg_pool2d.default, _A.avg_pool3d.default, _A.adaptive_avg_pool1d.default,
    _A.adaptive_avg_pool2d.default, _A.adaptive_avg_pool3d.default,
)  # fmt: skip
"""What has a smaller range than its operand: its result gets parameters of its own."""
ADDS = (_A.add.Tensor,)
_CASTS = (_A.to.dtype, _A.to.dtype_layout, _A._to_copy.default)
BETWEEN = (*MOVEMENT, *CLAMPS, *SELECTIONS, *AVERAGES)

OPERATORS = (*LINEARS, *PRODUCTS, *CONVOLUTIONS, *TABLES, ATTENTION, *RECURRENT, *BETWEEN, *ADDS)
"""All that a setting can be about."""


def annotate(module: GraphModule, config_of: ConfigOf) -> None:
    """Annotates the graph of an exported model, in place."""
    graph = module.graph
    memory, live = Memory(graph), live_nodes(graph)
    nodes = [node for node in graph.nodes if node in live and not torchao.is_annotated(node)]
    contractions: dict[Node, Contraction] = {}
    for node in nodes:
        contraction = contraction_of(node, memory)
        config = config_of(node)
        if contraction is not None and config is not None and _annotate_contraction(contraction, config):
            contractions[node] = contraction
        recurrence = recurrence_of(node, memory)
        if recurrence is not None and config is not None and config.mode != "qat":
            torchao.annotate_input(node, recurrence.weight, torchao.weight_spec(config, 0))
            if config.mode == "static":
                torchao.annotate_output(recurrence.states, torchao.state_spec(config))
    for node in nodes:
        table, config = table_of(node, memory), config_of(node)
        if table is not None and config is not None:
            torchao.annotate_input(node, table, _table_spec(table, config))
    for node in nodes:
        config = config_of(node) if is_call(node, *ADDS) else None
        if config is not None:
            _annotate_add(node, config, contractions, memory)
    _annotate_between(nodes, config_of, live, memory)


def _annotate_contraction(contraction: Contraction, config: QuantizationConfig) -> bool:
    if config.mode == "dynamic" and contraction.family != "linear":
        return False
    node = contraction.node
    for operand in contraction.activations:
        fixed = config.mode != "dynamic" and _is_probability(operand)
        spec = torchao.probability_spec(config) if fixed else torchao.activation_spec(config)
        torchao.annotate_input(node, operand, spec)
    if contraction.weight is not None:
        torchao.annotate_input(node, contraction.weight, torchao.weight_spec(config, contraction.axis))
    return True


def _table_spec(table: Node, config: QuantizationConfig) -> torchao.Spec:
    """How a table is quantized: as the weight of a linear that it is, too, so that one tensor of integers is both."""
    ties = (torchao.input_specs(user).get(table) for user in table.users if is_call(user, *LINEARS))
    return next((spec for spec in ties if spec is not None), None) or torchao.table_spec(config)


def _is_probability(node: Node) -> bool:
    """Whether the value is a softmax, perhaps moved or cast, as from a float32 one in a model in bf16."""
    while is_call(node, *MOVEMENT, *_CASTS) or _is_idle_dropout(node):
        node = node.all_input_nodes[0]
    return is_call(node, _A.softmax.int, _A._softmax.default, _A._safe_softmax.default)


def _is_idle_dropout(node: Node) -> bool:
    return is_call(node, _A.dropout.default) and not (arguments(node)["train"] and arguments(node)["p"])


def _annotate_add(
    node: Node, config: QuantizationConfig, contractions: dict[Node, Contraction], memory: Memory
) -> None:
    """Has a residual addition read its other operand quantized; the contraction's result stays with the contraction."""
    if config.residual_adds == "none" or config.mode == "dynamic":
        return
    first, second = arguments(node)["self"], arguments(node)["other"]
    if not (isinstance(first, Node) and isinstance(second, Node) and first is not second):
        return
    if not (is_float(first) and is_float(second) and first.meta["val"].shape == second.meta["val"].shape):
        return
    sources = {operand: contractions.get(_source_of(operand)) for operand in (first, second)}
    # The later of two contractions takes the addition in: the earlier one's result is there by then.
    fused = [c for c in contractions.values() if c in sources.values()][-1:]
    if not fused:
        return
    other = first if sources[second] is fused[0] else second
    result = second if other is first else first
    if len(result.users) != 1 or memory.is_constant(other) or not memory.is_stable(other):
        return
    if config.residual_adds == "convolutions":
        convolved = sources[other] is not None
        if fused[0].family != "convolution" or not (convolved or _reads_integers(other, config.activations)):
            return
    torchao.annotate_input(node, other, torchao.activation_spec(config))


def _source_of(node: Node) -> Node:
    """The contraction under a dropout, or under a batch norm, which training keeps apart and convert folds."""
    while is_call(node, _A.batch_norm.default, _A.dropout.default):
        node = node.all_input_nodes[0]
    return node


def _annotate_between(nodes: list[Node], config_of: ConfigOf, live: set[Node], memory: Memory) -> None:
    wanted: dict[Node, QuantizationConfig] = {}
    for node in reversed(nodes):
        config = config_of(node) if is_call(node, *BETWEEN) and is_float(node) else None
        if config is None or config.mode == "dynamic":
            continue
        if _is_never_float(node, config.activations, wanted, live):
            wanted[node] = config
    for node in nodes:
        if node in wanted and is_call(node, *SELECTIONS, *AVERAGES):
            _annotate_merge(node, wanted[node], wanted, live, memory)
    for node in nodes:
        if node in wanted and is_call(node, *MOVEMENT, *CLAMPS):
            source = node.all_input_nodes[0]
            integers = wanted[node].activations
            if memory.is_stable(source) and _reads_integers(source, integers):
                torchao.annotate_input(node, source, torchao.activation_spec(wanted[node]))
                torchao.annotate_output(node, torchao.shared(source, node))


def _annotate_merge(
    node: Node, config: QuantizationConfig, wanted: dict[Node, QuantizationConfig], live: set[Node], memory: Memory
) -> None:
    operands = list(dict.fromkeys(node.all_input_nodes))
    if not all(is_float(operand) and memory.is_stable(operand) for operand in operands):
        return
    first = operands[0]
    if is_call(node, *AVERAGES):
        if not _is_never_float(first, config.activations, wanted, live):
            return  # somebody needs the float anyway: the pool can read it too
        torchao.annotate_output(node, torchao.activation_spec(config))
    else:
        torchao.annotate_output(node, torchao.shared(first, node))
    torchao.annotate_input(node, first, torchao.activation_spec(config))
    for operand in operands[1:]:
        torchao.annotate_input(node, operand, torchao.shared(first, node))


def _is_never_float(node: Node, integers: Integers, wanted: dict[Node, QuantizationConfig], live: set[Node]) -> bool:
    """Whether all who read the value read it as such integers."""
    readers = [user for user in node.users if user in live and user.target is not _A.sym_size.int]
    return bool(readers) and all(_is_reader(user, node, integers, wanted) for user in readers)


def _is_reader(user: Node, operand: Node, integers: Integers, wanted: dict[Node, QuantizationConfig]) -> bool:
    """Whether `user` reads `operand` as such integers, or will."""
    if operand in torchao.input_specs(user):
        return torchao.integers_of(torchao.input_specs(user)[operand]) == integers
    return user in wanted and wanted[user].activations == integers


def _reads_integers(node: Node, integers: Integers) -> bool:
    """Whether somebody already reads the value as such integers."""
    if torchao.integers_of(torchao.output_spec(node)) == integers:
        return True
    return any(_is_reader(user, node, integers, {}) for user in node.users)
