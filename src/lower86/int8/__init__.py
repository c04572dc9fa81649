"""NORMAL to INT8: contractions of dequantized operands become integer contractions. One family a file.

`RULES` is the order in which they are tried at each node; the first that answers decides. A rule returns what it did, a
`Refusal` with the reason if the node is its own but cannot become int8, or None if it is not its business.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.fx import GraphModule, Node

from ..graph.edit import remove_dead
from ..graph.forms import INT8, check
from ..normalize import fold_dequantized_weights, share_constants
from ..report.explanation import Record
from .attention import keep_lowered_attention, lower_attention
from .conv import keep_lowered_conv, lower_conv
from .drop_roundings import drop_roundings
from .fold_requantize import fold_requantize
from .leftovers import spell_leftovers
from .linear import keep_lowered, lower_linear
from .matmul import keep_lowered_matmul, lower_matmul
from .record import Lowered, Refusal
from .recurrent import keep_lowered_recurrent, lower_recurrent
from .refused import refuse_others
from .siblings import merge_siblings
from .single_rows import spell_single_rows
from .split_extremes import split_extremes

Rule = Callable[[GraphModule, Node], "Lowered | Refusal | None"]

RULES: tuple[Rule, ...] = (
    lower_attention, lower_matmul, lower_linear, lower_conv, lower_recurrent,
    keep_lowered, keep_lowered_conv, keep_lowered_attention, keep_lowered_matmul, keep_lowered_recurrent, refuse_others,
)  # fmt: skip


def apply_rules(module: GraphModule) -> list[Record]:
    """Applies the rules to every node of `module`; returns what became of each quantized contraction."""
    records: list[Record] = []
    for node in list(module.graph.nodes):
        for rule in RULES:
            outcome = rule(module, node)
            if outcome is not None:
                records.append(outcome.record)
                break
    return records


def to_int8(module: GraphModule) -> list[Record]:
    """Brings a NORMAL graph to INT8 form, in place; returns what became of each quantized contraction."""
    records = apply_rules(module)
    remove_dead(module)
    merge_siblings(module)
    fold_dequantized_weights(module)
    spell_leftovers(module)
    drop_roundings(module)
    spell_single_rows(module)
    remove_dead(module)
    fold_requantize(module)
    split_extremes(module)
    share_constants(module)
    remove_dead(module)
    check(module, INT8)
    return records
