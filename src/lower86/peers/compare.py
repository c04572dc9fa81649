"""`lower86.benchmark_peers`: a float model in int8 by lower86 and by all that is installed beside it, in one run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ..codegen.target import resolve_target
from ..counted import counted
from ..errors import InputError
from ..quantization.recipe import Recipe
from ..report.environment import environment
from ..report.percentile import percentile
from ..report.quiet import NOISE, Quiet, disturbed
from ..report.turns import interleave, ratios, samples
from ..runtime.host import known_host
from ..runtime.threads import default_threads, thread_count
from .contest import WARM_UP, cosines, field_of
from .contest import warm_up as call_all
from .inductor import settings_kept
from .known import chosen_peers
from .own import own
from .work import work_of

OWN = "lower86"
_INSTALL = "pip install 'lower86[peers]'"


@dataclass(frozen=True)
class PeerRow:
    """One contender: milliseconds of its calls, `ratio` how many times lower86's they are, by rounds.

    `cosine` is the least similarity of its results to the float model's. `prepared` and `first` are seconds: to
    quantize and compile, and of the first call after that.
    """

    name: str
    min: float
    median: float
    p99: float
    ratio: float
    cosine: float
    prepared: float
    first: float


@dataclass(frozen=True)
class PeerBenchmark:
    """What was measured in `rounds` rounds; `left_out` says why others were not.

    `others` is the share of all CPU time that other processes took meanwhile.
    """

    name: str
    rounds: int
    rows: tuple[PeerRow, ...]
    left_out: Mapping[str, str]
    others: float
    environment: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def quiet(self) -> bool:
        """Whether other processes took so little that the figures can be trusted."""
        return self.others < NOISE

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**asdict(self), "quiet": self.quiet}

    def __str__(self) -> str:
        about = self.environment
        cpus = f"{'CPU' if len(about['cpus']) == 1 else 'CPUs'} {', '.join(map(str, about['cpus']))}"
        lines = [
            f"{self.name}: {counted(about['threads'], 'thread')} on {cpus} ({about['cpu']}, level {about['level']}), "
            f"{counted(self.rounds, 'round')} in turns",
            *self.notes,
        ]
        for row in self.rows:
            lines.append(
                f"  {row.name:20s} median {row.median:8.3f} ms  min {row.min:8.3f}  p99 {row.p99:8.3f}  "
                f"{row.ratio:6.2f} x {OWN}  cosine to fp32 {row.cosine:.4f}  prepared in {row.prepared:.1f} s, "
                f"first call {row.first:.3f} s"
            )
        lines += [f"  {name}: not measured, {reason}" for name, reason in self.left_out.items()]
        policy = about["settings"].get("OMP_WAIT_POLICY")
        if policy is not None:
            lines.append(f"OMP_WAIT_POLICY={policy} is set: PyTorch's threads do not wait as they do by default")
        if not self.quiet:
            lines.append(f"{disturbed(self.others)}; measure again")
        return "\n".join(lines)


def benchmark_peers(
    model: nn.Module,
    calibration: Iterable[Any],
    *,
    inputs: Iterable[Any] | None = None,
    peers: str | Iterable[str] = "all",
    recipe: str | Recipe = "balanced",
    rounds: int = 20,
    warm_up: float = WARM_UP,
    threads: int | None = None,
    subset_size: int = 300,
    name: str = "",
) -> PeerBenchmark:
    """Quantizes a float model by lower86 and by its peers, on the same data, and times them in turns.

    A contender is warmed up by time, then has a turn in each round, in random order: a tenth of a second of calls that
    count for nothing, since the one before may still spin, and five that are timed. Each call takes the next input.

    Args:
        model: a float module in eval mode.
        calibration: inputs of the model, as for `lower86.quantize`; those of other shapes than the first are left out.
        inputs: what to time with, of those shapes, too; the first four of `calibration` if left out.
        peers: "all", or some of openvino, onnxruntime, inductor, torchao, pytorch; those whose packages are missing, or
            that fail, are named in the result.
        recipe: lower86's, as for `lower86.quantize`.
        rounds: turns of each contender.
        warm_up: seconds of calls before.
        threads: of each contender; None for what the process, its container and PyTorch allow.
        subset_size: so many items of `calibration` are used.
        name: what the table calls the model.

    Raises InputError for data that do not fit the model, or a peer that there is not, and what `lower86.quantize` and
    lowering raise.
    """
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1 or not 0 <= warm_up < math.inf:
        raise InputError(f"rounds={rounds}, warm_up={warm_up}", where="benchmark_peers", fix="pass positive numbers")
    contenders = {OWN: own(recipe), **chosen_peers(peers)}
    count = default_threads() if threads is None else thread_count(threads, "threads")
    work, notes = work_of(model, calibration, inputs, subset_size, name or type(model).__name__)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with settings_kept():
            field = field_of(work, contenders, count, _INSTALL)
            call_all(field.contenders, warm_up)
            quiet = Quiet()
            taken = list(interleave(field.contenders, rounds))
            others = quiet.others()
            likeness = cosines(work, field.contenders)
    finally:
        torch.set_num_threads(before)
    times, relative = samples(taken), ratios(taken, OWN)
    rows = [
        PeerRow(
            one, ms[0], percentile(ms, 0.5), percentile(ms, 0.99), relative[one], likeness[one],
            made.prepared, made.first,
        )
        for one, made in field.contenders.items()
        for ms in [times[one]]
    ]  # fmt: skip
    about = environment(count, resolve_target(None, known_host))
    return PeerBenchmark(work.name, rounds, tuple(rows), field.left_out, others, about, (*notes, *field.notes))
