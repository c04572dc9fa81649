"""The explain table as JSON, and back. What says which kernels there are is the program itself."""

from __future__ import annotations

from typing import Any

from ..program.program import Program
from ..report.explanation import Explanation, Record, kernel_infos
from .fields import Field

_MOST_MACS = 1 << 60


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """Plain lists, dicts, numbers and strings."""
    return {
        "regions": explanation.regions,
        "operators": [
            [one.node, one.operator, one.module, one.line, one.macs, one.reason, explanation.kernel_of.get(one.node)]
            for one in explanation.operators
        ],
    }


def explanation_from_json(field: Field, program: Program) -> Explanation:
    """The table as it was, of the operators; raises ArtifactError for what does not fit the program."""
    parts = field.record(("regions", "operators"))
    records: list[Record] = []
    kernel_of: dict[str, int] = {}
    for row in parts["operators"].items():
        node, operator, module, line, macs, reason, kernel = row.items(7)
        texts = [one.text() for one in (node, operator, module, line)]
        records.append(Record(texts[0], texts[1], texts[2], texts[3], macs.whole(0, _MOST_MACS), reason.text()))
        if kernel.value is not None:
            kernel_of[texts[0]] = kernel.whole(0, len(program.kernels) - 1)
    return Explanation(tuple(records), (), kernel_infos(program), kernel_of, parts["regions"].whole(0, 1 << 20))
