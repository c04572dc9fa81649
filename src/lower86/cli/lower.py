"""`lower86 lower`: from a quantized model to a file that runs without PyTorch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import Lower86Error
from .inputs import Json
from .making import Dynamic, Fallback, check_fallback, int8_line, load, notes, suffix_of
from .output import check_writable
from .progress import working
from .text import megabytes, printable


def lower(
    source: Annotated[str, typer.Argument(help="The quantized model: an exported .pt2, or module:function.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: a .safetensors file.")],
    dynamic: Dynamic = None,
    on_fallback: Fallback = "warn",
    as_json: Json = False,
) -> None:
    """Lowers a model that PT2E has quantized, and saves it.

    A .pt2 file and module:function are code, and run as such: name what you trust.
    """
    suffix_of(output, (".safetensors",))
    check_fallback(on_fallback)
    check_writable(output)
    begin = time.perf_counter()
    with notes() as said, working(f"lowering {source}", as_json):
        from ..artifact.save import save
        from ..lowering import lower_pt2e_quantized_to_x86

        model = load(source, False, None, None, dynamic)
        said += model.notes
        if not model.is_quantized:
            raise Lower86Error(
                f"{source} is a float model", where="lower", fix="lower86 quantize quantizes and lowers it in one go"
            )
        if model.example is None:
            raise Lower86Error(
                f"{source} comes without example inputs", where="lower", fix="return (module, example_inputs) from it"
            )
        lowered = lower_pt2e_quantized_to_x86(
            model.model, model.example.args, example_kwargs=dict(model.example.kwargs),
            dynamic_shapes=model.dynamic_shapes, on_fallback=on_fallback,
        )  # fmt: skip
        written = save(lowered, output)
    explanation = lowered.explanation
    found: dict[str, Any] = {
        "output": str(output), "bytes": written, "int8_fraction": explanation.int8_fraction, "notes": said,
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    line = f"wrote {output}, {megabytes(written)}, in {found['seconds']:.1f} s"
    print(json.dumps(found) if as_json else printable(f"{int8_line(explanation)}\n{line}"))
