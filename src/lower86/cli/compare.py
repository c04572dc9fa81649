"""`lower86 compare`: where a quantized model loses accuracy, value by value."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..counted import counted
from ..errors import InputError, Lower86Error
from .inputs import Json
from .making import FORMS, Batch, Column, Mean, Size, Std, data_options, load, notes
from .output import check_writable, write_output
from .progress import working
from .text import printable


def compare(
    model: Annotated[str, typer.Argument(metavar="FLOAT", help=f"The float model: {FORMS}.")],
    quantized: Annotated[str, typer.Argument(help="What quantize made of it: a .pt2, or module:function.")],
    data: Annotated[str, typer.Option("--data", help="What to compare on; as of quantize.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .json file, for report.")] = None,
    item: Annotated[int, typer.Option("--item", help="Which call of the data, from 0.", min=0)] = 0,
    batch: Batch = None,
    column: Column = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    as_json: Json = False,
) -> None:
    """Shows where accuracy goes, layer by layer.

    Compares float, quantized and compiled model on a call; prints the table, worst first.

    A .pt2 file and module:function are code, and run as such: name what you trust.
    """
    options = data_options(batch, column, mean, std, size)
    if output is not None:
        check_writable(output)
    with notes() as said, working(f"comparing {model} with {quantized}", as_json):
        found = _compared(model, quantized, data, item, options, said)
    if output is not None:
        text = found.to_json()
        write_output(output, lambda file: file.write(text.encode()))
    if as_json:
        where = None if output is None else str(output)
        print(json.dumps({"rows": json.loads(found.to_json()), "output": where, "notes": said}))
        return
    print(printable(str(found)))
    if output is not None:
        print(printable(f"wrote {output}"))


def _compared(model: str, quantized: str, data: str, item: int, options: Any, said: list[str]) -> Any:
    from ..debugger.compare import compare as compared
    from ..lowering import lower_pt2e_quantized_to_x86
    from ..sources.data import DataOptions, load_data
    from ..sources.naming import example_of

    other = load(quantized, False, None, None, None)
    if not other.is_quantized or other.example is None:
        raise Lower86Error(
            f"{quantized} is no quantized model with example inputs",
            where="compare",
            fix="give the .pt2 file that lower86 quantize wrote",
        )
    tensor = other.inputs[0].example if other.inputs else None
    fixed = tensor is not None and tensor.dim() > 0 and not other.inputs[0].open_axes
    sizes = list(tensor.shape) if tensor is not None and fixed else []
    # A folder's texts are cut as they were for the quantized model.
    first = load(model, fixed, sizes[0] if sizes else None, sizes[1] if len(sizes) == 2 else None, None)
    given = load_data(
        data, replace(first, model=other.model, example=other.example, inputs=other.inputs), DataOptions(**options)
    )
    said += [*first.notes, *given.notes]
    calls = given.first(item + 1)
    if len(calls) <= item:
        raise InputError(f"the data has {counted(len(calls), 'call')}, counted from 0", where=f"--item {item}")
    example, call = other.example, example_of(calls[item])
    lowered = lower_pt2e_quantized_to_x86(
        other.model, example.args, example_kwargs=dict(example.kwargs), on_fallback="ignore"
    )
    return compared(first.model, other.graph, lowered, call.args, call.kwargs)
