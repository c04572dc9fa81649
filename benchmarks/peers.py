"""lower86 for the benchmark, held to an independent count of what is to be int8, and its peers of `lower86.peers`."""

from __future__ import annotations

from collections.abc import Mapping

from cases import Case
from torch.fx import GraphModule

import lower86
from lower86.peers.known import PEERS as KNOWN
from lower86.peers.peer import Peer, Run, Unsuited, Work, quantized, run_of


def _own(work: Work, threads: int) -> Run:
    """Quantized by its own quantizer where torchao's leaves things in float: transposed convolutions, attention."""
    assert isinstance(work, Case)
    own = work.has_transposed or work.is_transformer
    return _lowered(work, quantized(work, lower86.X86Quantizer()) if own else work.quantized)


def _lowered(work: Work, model: GraphModule) -> Run:
    from tests.models.counting import int8_macs

    wanted = sum(int8_macs(model, *work.inputs[0]).values())
    if not wanted:
        raise Unsuited("torchao's quantizer leaves all of it in float")
    lowered = lower86.lower_pt2e_quantized_to_x86(model, work.inputs[0])
    done = sum(operator.macs for operator in lower86.explain(lowered).operators if operator.is_int8)
    if done != wanted:
        raise RuntimeError(f"{work.name}: {done} multiply-accumulates in int8 of the {wanted} that its graph asks for")
    return run_of(lowered)


PEERS: Mapping[str, Peer] = {
    "lower86": Peer("lower86", _own, required=True),
    "lower86 (torchao)": Peer("lower86", lambda work, _: _lowered(work, work.quantized), required=True),
    **KNOWN,
}
