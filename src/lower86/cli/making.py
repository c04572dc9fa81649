"""What the commands that make models have in common: their options, and how they load what those name."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..counted import counted
from .stdout import results_only
from .text import printable

if TYPE_CHECKING:
    from ..sources.model import ModelSource

FORMS = "an exported .pt2, module:function, or a Hugging Face folder"

Samples = Annotated[int, typer.Option("--samples", help="Calls to use of the data, at most.", min=1)]
Batch = Annotated[int | None, typer.Option("--batch", help="Rows of a call, where they vary or are made up.", min=1)]
Length = Annotated[int | None, typer.Option("--length", help="Of a folder's model: tokens of a call.", min=1)]
Fixed = Annotated[bool, typer.Option("--static", help="Of a folder's model: sizes that do not vary.")]
Dynamic = Annotated[
    list[str] | None,
    typer.Option("--dynamic", metavar="INPUT:AXIS=DIM[:MOST]", help="An axis of any size; of one DIM all are equal."),
]
Column = Annotated[str | None, typer.Option("--text-column", help="Of a .parquet file: the texts.")]
Mean = Annotated[str | None, typer.Option("--mean", help="Of pictures, by channel: 0.485,0.456,0.406.")]
Std = Annotated[str | None, typer.Option("--std", help="Of pictures, by channel: 0.229,0.224,0.225.")]
Size = Annotated[str | None, typer.Option("--size", help="Of pictures: 224 or 224x320, height first.")]
Fallback = Annotated[
    str, typer.Option("--on-fallback", metavar="warn|raise|ignore", help="If something does not become int8.")
]


@contextmanager
def notes() -> Iterator[list[str]]:
    """Other libraries are quiet within it; what lower86 warns of, and what is put into the list, is said at its end.

    What the user's code prints goes to stderr: stdout is for results. Raises ModuleNotFoundError where PyTorch is not
    installed.
    """
    from ..sources.quiet import quiet

    with quiet() as said, results_only():
        yield said
    say(said)


def say(said: Iterable[str]) -> None:
    """A line on stderr for each."""
    for one in said:
        print(f"lower86: note: {' '.join(printable(one).split())}", file=sys.stderr)


def load(name: str, fixed: bool, batch: int | None, length: int | None, dynamic: Sequence[str] | None) -> ModelSource:
    """The model of that name, with the dims that are asked for."""
    from ..sources.dims import with_dims
    from ..sources.model import ModelOptions, load_model

    return with_dims(load_model(name, ModelOptions(fixed, batch, length)), dynamic or ())


def data_options(
    batch: int | None, column: str | None, mean: str | None, std: str | None, size: str | None
) -> dict[str, Any]:
    """The fields of DataOptions, as they are said. Raises a usage error for what are no numbers."""
    height, _, width = (size or "").partition("x")
    if size is not None and not (height.isdecimal() and int(height) and (not width or width.isdecimal())):
        raise typer.BadParameter(f"{size!r} is not 224 or 224x320", param_hint="--size")
    shape = None if size is None else (int(height), int(width or height))
    means, stds = _numbers(mean, "--mean"), _numbers(std, "--std")
    if stds is not None and not all(one > 0 for one in stds):
        raise typer.BadParameter(f"{std!r} are not all above 0", param_hint="--std")
    return {"batch": batch, "column": column, "mean": means, "std": stds, "size": shape}


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        found = tuple(float(one) for one in text.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise typer.BadParameter(f"{text!r} are no numbers with commas between", param_hint=option)
    return found


def suffix_of(output: Path, suffixes: Sequence[str]) -> str:
    """The file's ending. Raises a usage error unless it is one of these."""
    if output.suffix not in suffixes:
        raise typer.BadParameter(f"{str(output)!r} does not end in {' or '.join(suffixes)}", param_hint="--output")
    return output.suffix


def check_fallback(on_fallback: str) -> None:
    """Raises a usage error for what lowering does not know."""
    if on_fallback not in ("warn", "raise", "ignore"):
        raise typer.BadParameter(f"{on_fallback!r} is not warn, raise or ignore", param_hint="--on-fallback")


def int8_line(explanation: Any) -> str:
    """How much of a model is int8, as `inspect` says it."""
    done = sum(one.is_int8 for one in explanation.operators)
    share = explanation.int8_fraction
    quantized = counted(len(explanation.operators), "quantized operator")
    return f"int8: {done} of {quantized}, {share:.1%} of their arithmetic"
