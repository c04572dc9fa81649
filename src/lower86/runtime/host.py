"""What LLVM says of this CPU, kept between processes: who finds its machine code in the cache has no need of LLVM."""

from __future__ import annotations

import json

from ..codegen.target import Host
from .code_cache import cached
from .processor import identity


def known_host(*, disk: bool = True) -> Host:
    """This CPU's name and features, from the cache or from LLVM. Without `disk`, the cache's folder is not used."""
    processor = identity() if disk else None
    if processor is None:
        return Host.found()
    (data,) = cached({f"host {processor}": _described}).values()
    return _read(data) or Host.found()


def _described() -> bytes:
    host = Host.found()
    return json.dumps({"cpu": host.cpu, "features": dict(host.features)}).encode()


def _read(data: bytes) -> Host | None:
    try:
        found = json.loads(data)
        cpu, features = found["cpu"], found["features"]
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(cpu, str) or not isinstance(features, dict):
        return None
    return Host(cpu, features) if all(type(has) is bool for has in features.values()) else None
