"""All peers, by the names that tables show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import InputError
from . import onnxruntime, openvino
from .eager import eager
from .inductor import inductor
from .lowering import torchao_lowering
from .peer import Peer

PEERS: Mapping[str, Peer] = {
    "OpenVINO int8": Peer("openvino", openvino.openvino_int8, openvino.PACKAGES),
    "ONNX Runtime static": Peer("onnxruntime", onnxruntime.onnxruntime_static, onnxruntime.PACKAGES),
    "ONNX Runtime dynamic": Peer("onnxruntime", onnxruntime.onnxruntime_dynamic, onnxruntime.PACKAGES),
    "Inductor int8": Peer("inductor", inductor),
    "torchao lowering": Peer("torchao", torchao_lowering),
    "PyTorch fp32": Peer("pytorch", eager),
}


def chosen_peers(names: str | Iterable[str]) -> dict[str, Peer]:
    """Those that "all", a group, or several of them ("openvino,torchao") name. Raises InputError for any other."""
    wanted = [name.strip().lower() for name in (names.split(",") if isinstance(names, str) else names)]
    groups = dict.fromkeys(peer.group for peer in PEERS.values())
    unknown = [name for name in wanted if name != "all" and name not in groups]
    if unknown or not wanted:
        raise InputError(
            f"there is no peer {unknown[0]!r}" if unknown else "no peer is named",
            where="peers",
            fix=f"use all, or some of {', '.join(groups)}",
        )
    return {name: peer for name, peer in PEERS.items() if "all" in wanted or peer.group in wanted}
