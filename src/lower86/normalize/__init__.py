"""QUANTIZED to NORMAL: one spelling for each operation. One pass a file; `PASSES` is the order they run in."""

from __future__ import annotations

from collections.abc import Callable

from torch.fx import GraphModule

from ..graph.edit import remove_dead
from ..graph.forms import NORMAL, check
from .drop_guards import drop_guards
from .drop_identities import drop_identities
from .drop_round_trips import drop_round_trips
from .fold_casts import fold_casts
from .fold_constants import fold_constants, fold_dequantized_weights
from .inline_regions import inline_regions
from .lift_reshapes import lift_reshapes
from .merge_movement import merge_movement
from .move_dequantize import move_dequantize, unshare_dequantize
from .move_tables import move_tables
from .own_state import keep_old_state, own_state
from .refuse_writes import refuse_writes
from .scalar_qparams import scalar_qparams
from .share_constants import share_constants
from .share_results import share_results
from .spell_affine import spell_affine
from .spell_attention import spell_attention
from .spell_bags import spell_bags
from .spell_composites import spell_composites
from .spell_convolutions import spell_convolutions
from .spell_dynamic import spell_dynamic
from .spell_layout import spell_layout
from .spell_masks import spell_masks
from .spell_movement import spell_movement
from .spell_norms import spell_norms
from .spell_pieces import spell_pieces
from .spell_pools import spell_pools
from .spell_positions import spell_positions
from .spell_products import spell_products
from .spell_reference import spell_reference
from .spell_results import spell_results
from .spell_rows import spell_rows
from .spell_scalars import spell_scalars
from .spell_strides import spell_strides
from .spell_tokens import spell_tokens
from .spell_upsamples import spell_upsamples
from .spell_vectors import spell_vectors
from .spell_written_attention import spell_written_attention
from .spell_written_functions import spell_written_functions

__all__ = ["PASSES", "fold_dequantized_weights", "normalize", "share_constants"]

Pass = Callable[[GraphModule], None]

PASSES: tuple[Pass, ...] = (
    drop_guards,
    inline_regions,
    own_state,
    refuse_writes,
    spell_strides,  # before copies go that only change strides
    spell_results,
    spell_scalars,
    drop_identities,
    spell_reference,
    spell_affine,
    spell_tokens,
    spell_dynamic,
    spell_bags,
    spell_norms,
    spell_convolutions,
    spell_layout,
    spell_vectors,
    spell_pieces,  # before the movements it is made of
    spell_movement,
    scalar_qparams,
    fold_casts,
    unshare_dequantize,
    spell_products,  # after the movements have one spelling, before dequantize moves past the views it looks for
    merge_movement,
    spell_rows,  # what linears read, now that they are linears
    unshare_dequantize,  # where two movements of one have become movements of what it dequantizes
    spell_attention,
    spell_composites,
    spell_written_attention,  # of one softmax and one selection
    spell_written_functions,
    lift_reshapes,  # after the rows that linears read have been recognised
    move_dequantize,
    fold_casts,  # of what was movement's before
    unshare_dequantize,
    spell_pools,  # what they pool may be integers, now that a dequantize stands beside them
    spell_upsamples,  # likewise
    move_dequantize,
    drop_round_trips,
    merge_movement,  # what now stands side by side
    unshare_dequantize,
    keep_old_state,
    fold_constants,  # the weights' own movements have come to stand before their dequantize
    move_tables,  # of which constant rows have just become constants
    unshare_dequantize,
    spell_positions,  # of which some have become constants
    spell_masks,  # likewise
    share_constants,
    share_results,  # equal constants are one by now
)


def normalize(module: GraphModule) -> None:
    """Brings a QUANTIZED graph to NORMAL form, in place. Raises GraphError where that cannot be done."""
    for apply in PASSES:
        apply(module)
        remove_dead(module)
    check(module, NORMAL)
