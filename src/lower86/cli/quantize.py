"""`lower86 quantize`: from a float model to its int8 self, or to its quantized program."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .inputs import Json
from .making import (
    FORMS,
    Batch,
    Column,
    Dynamic,
    Fallback,
    Fixed,
    Length,
    Mean,
    Samples,
    Size,
    Std,
    check_fallback,
    data_options,
    int8_line,
    load,
    notes,
    suffix_of,
)  # fmt: skip
from .output import check_writable, write_output
from .progress import shown, working
from .text import megabytes, printable

if TYPE_CHECKING:
    from ..sources.naming import Example


def quantize(
    source: Annotated[str, typer.Argument(help=f"The float model: {FORMS}.")],
    data: Annotated[str, typer.Option("--data", help="Inputs of the usual kind to calibrate with: a file or folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to: .safetensors (lowered) or .pt2.")],
    recipe: Annotated[str, typer.Option("--recipe", help="fast, balanced or accurate.")] = "balanced",
    ignored: Annotated[list[str] | None, typer.Option("--ignored", help="A module to leave in float; globs.")] = None,
    samples: Samples = 300,
    batch: Batch = None,
    length: Length = None,
    fixed: Fixed = False,
    dynamic: Dynamic = None,
    column: Column = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    on_fallback: Fallback = "warn",
    as_json: Json = False,
) -> None:
    """Quantizes a float model with data, lowers and saves it.

    DATA is .npz, .npy, .safetensors, .parquet, .txt, a folder of pictures, or module:function that gives inputs. Files
    of data are never pickles; but a .pt2 file and module:function are code, and run as such: name what you trust.
    """
    suffix = suffix_of(output, (".safetensors", ".pt2"))
    options = data_options(batch, column, mean, std, size)
    check_fallback(on_fallback)
    check_writable(output)
    begin = time.perf_counter()
    with notes() as said:
        with working(f"loading {source}", as_json):
            model = load(source, fixed, batch, length, dynamic)
            from ..quantization.quantize import quantize as quantized_by
            from ..quantization.recipe import recipe_of
            from ..sources.data import DataOptions, load_data
            from ..sources.naming import call_with, example_of

            recipe_of(recipe)
            given = load_data(data, model, DataOptions(**options))
            calls = given.first(samples)
        said += [*model.notes, *given.notes]
        example = None if model.example is None else call_with(model.model, model.example, {})
        made = quantized_by(
            model.model, calls, example_inputs=example, dynamic_shapes=model.dynamic_shapes, recipe=recipe,
            subset_size=samples, ignored=ignored or (), progress=shown(as_json),
        )  # fmt: skip
        report = made.meta["lower86"]
        found: dict[str, Any] = {"output": str(output), "quantization": asdict(report)}
        lines = [str(report)]
        with working(f"writing {output}", as_json):
            call = model.example or example_of(calls[0])
            if suffix == ".pt2":
                found["bytes"] = _exported(made, call, output)
            else:
                found["bytes"], explanation = _lowered(made, call, model.dynamic_shapes, on_fallback, output)
                found["int8_fraction"] = explanation.int8_fraction
                lines.append(int8_line(explanation))
    found |= {"notes": said, "seconds": time.perf_counter() - begin}
    lines.append(f"wrote {output}, {megabytes(found['bytes'])}, in {found['seconds']:.1f} s")
    print(json.dumps(found) if as_json else printable("\n".join(lines)))


def _exported(made: Any, call: Example, output: Path) -> int:
    from ..sources.exported import exported_bytes

    content = exported_bytes(made, call)
    return write_output(output, lambda file: file.write(content))


def _lowered(made: Any, call: Example, dynamic_shapes: Any, on_fallback: str, output: Path) -> tuple[int, Any]:
    from ..artifact.save import save
    from ..lowering import lower_pt2e_quantized_to_x86

    lowered = lower_pt2e_quantized_to_x86(
        made, call.args, example_kwargs=dict(call.kwargs), dynamic_shapes=dynamic_shapes, on_fallback=on_fallback
    )
    return save(lowered, output), lowered.explanation
