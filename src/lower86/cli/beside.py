"""`lower86 bench SOURCE --data DATA --peers all`: a float model in int8 by lower86 and by others, in one run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from .making import load, notes
from .progress import shown
from .text import printable


def beside(
    model: Path,
    data: str,
    peers: str,
    *,
    recipe: str,
    rounds: int,
    warm_up: float,
    threads: int | None,
    samples: int,
    batch: int | None,
    length: int | None,
    as_json: bool,
) -> None:
    """Prints the table, or JSON. Raises Lower86Error for what is no model, and InputError for data that do not fit."""
    with notes() as said:
        from ..peers.compare import benchmark_peers
        from ..peers.known import chosen_peers
        from ..sources.data import DataOptions, load_data

        chosen_peers(peers)  # before anything takes time
        source = load(str(model), True, batch, length, None)
        if source.is_quantized:
            raise InputError(
                "the model is quantized already", where="bench --peers", fix="name the float one: each quantizes it"
            )
        found = load_data(data, source, DataOptions(batch))
        calls = found.first(samples)
        said += (*source.notes, *found.notes)
        if shown(as_json):  # a line, as nothing is drawn while calls are timed
            print(f"quantizing and measuring {model} beside others …", file=sys.stderr)
        measured = benchmark_peers(
            source.model, calls, peers=peers, recipe=recipe, rounds=rounds, warm_up=warm_up, threads=threads,
            subset_size=samples, name=source.name,
        )  # fmt: skip
    print(json.dumps(measured.to_dict()) if as_json else printable(str(measured)))


def check_alone(refused: Sequence[str]) -> None:
    """Raises InputError for options that say something of a saved model only."""
    if refused:
        raise InputError(
            f"{', '.join(refused)} with --peers", where="bench", fix="leave that out, or measure a saved model alone"
        )
