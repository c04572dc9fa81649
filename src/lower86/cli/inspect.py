"""`lower86 inspect`: what a saved model takes and gives, and what is in its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..counted import counted
from .text import megabytes, printable


def inspect(
    model: Annotated[Path, typer.Argument(help="A file that lower86.save wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    operators: Annotated[bool, typer.Option("--operators", help="Print the whole table of lower86.explain.")] = False,
) -> None:
    """Checks and describes a saved model.

    Everything in the file is checked, nothing is compiled or run.
    """
    from ..artifact.load import opened

    contents, saved = opened(model)
    found = _found(contents, saved)
    if as_json:
        print(json.dumps(found))
        return
    lines = [*_lines(found, saved), *(["", str(saved.explanation)] if operators else [])]
    print(printable("\n".join(lines)))


def _found(contents: Any, saved: Any) -> dict[str, Any]:
    from collections import Counter

    from ..artifact.loaded import specs
    from ..codegen.target import LEVELS, Target
    from ..errors import TargetError
    from ..report.explanation import kind_of

    inputs, outputs = specs(saved)
    dtypes: Counter[str] = Counter()
    for stored in contents.tensors.values():
        dtypes[stored.dtype] += stored.array.nbytes
    try:
        here = Target.host().level
    except TargetError as problem:
        here = problem.what
    explanation, program = saved.explanation, saved.program
    return {
        "file": {"bytes": contents.size, "sha256": contents.digest, "hash": "matches"},
        "versions": dict(saved.versions),
        "inputs": [_described(spec) for spec in inputs],
        "outputs": [_described(spec) for spec in outputs],
        "dims": {dim.name: [dim.low, dim.high] for dim in program.dims},
        "state": {s.name: [str(n) for n in program.values[s.value].shape] for s in program.states},
        "tensors": len(contents.tensors),
        "tensor_bytes": dict(dtypes.most_common()),
        "quantized": len(explanation.operators),
        "int8": sum(one.is_int8 for one in explanation.operators),
        "int8_fraction": explanation.int8_fraction,
        "kernels": dict(Counter(kind_of(kernel) for kernel in program.kernels).most_common()),
        "steps": len(program.steps),
        "needs": list(LEVELS["avx2"]),
        "faster_with": [name for name in LEVELS if name != "avx2"],
        "this_cpu": here,
    }


def _described(spec: Any) -> dict[str, Any]:
    if not spec.dtype:
        return {"name": spec.name, "literal": spec.literal}
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _lines(found: dict[str, Any], saved: Any) -> list[str]:
    from ..artifact.loaded import specs
    from ..report.explanation import table

    inputs, outputs = specs(saved)
    quantized = counted(found["quantized"], "quantized operator")
    file, share = found["file"], found["int8_fraction"]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    sizes = ", ".join(f"{megabytes(size)} {name}" for name, size in found["tensor_bytes"].items())
    rows = [
        ("file", f"{megabytes(file['bytes'])}, sha256 {file['sha256'][:16]}…, which matches"),
        ("written by", versions or "unknown"),
        *(("input", str(spec)) for spec in inputs),
        *(("output", str(spec)) for spec in outputs),
        *(("state", f"{name} [{', '.join(shape)}]") for name, shape in found["state"].items()),
        ("tensors", f"{found['tensors']}: {sizes}"),
        (
            "int8",
            f"{found['int8']} of {quantized}, {share:.1%} of their arithmetic",
        ),
        ("kernels", ", ".join(f"{count} {kind}" for kind, count in found["kernels"].items())),
        ("steps", str(found["steps"])),
        (
            "needs",
            f"x86 with AVX2 and FMA, faster with {', '.join(found['faster_with'])}; this CPU: {found['this_cpu']}",
        ),
    ]
    return table(rows)
