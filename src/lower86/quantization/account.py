"""What `quantize` did, as data: each step, what it changed on the held-out inputs, and whether it was kept."""

from __future__ import annotations

from dataclasses import dataclass

from ..counted import counted


@dataclass(frozen=True)
class Step:
    """A step tried. `before`, `after`: SQNR of the outputs in dB against the float model; higher is better."""

    name: str
    note: str
    before: float
    after: float
    kept: bool

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "dropped: it makes the outputs worse"
        return f"{self.name} ({self.note}): {self.before:.2f} → {self.after:.2f} dB, {verdict}"


@dataclass(frozen=True)
class QuantizationReport:
    """Numbers of inputs that calibrated and that judged; the SQNR of ranges alone and in the end, dB; all steps."""

    calibrated: int
    judged: int
    plain: float
    final: float
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        inputs = counted(self.calibrated, "input")
        first = f"{inputs} calibrated, {self.judged} judged: {self.plain:.2f} → {self.final:.2f} dB"
        return "\n".join([first, *(f"  {step}" for step in self.steps)])
