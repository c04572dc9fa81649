"""`lower86 explain`: what became of every quantized operator of a saved model."""

from __future__ import annotations

import json
from dataclasses import asdict

from .inputs import Json, Model
from .text import printable


def explain(model: Model, as_json: Json = False) -> None:
    """Says what runs in int8, and why the rest does not.

    Prints the table of lower86.explain.
    """
    from ..artifact.load import opened

    explanation = opened(model)[1].explanation
    if as_json:
        operators = [asdict(one) | {"is_int8": one.is_int8} for one in explanation.operators]
        kernels = [asdict(one) for one in explanation.kernels]
        print(json.dumps({"int8_fraction": explanation.int8_fraction, "operators": operators, "kernels": kernels}))
        return
    print(printable(str(explanation)))
