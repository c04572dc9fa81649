"""What a record consists of: parts, each one run of a benchmark program, in full and quickly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_CONVOLUTIONAL = ("resnet-50", "resnet-18", "mobilenet-v2", "efficientnet-b0", "convnext-tiny", "regnet-y-4gf", "unet")
_TRANSFORMERS = (
    "minilm-128", "minilm-16", "bert-base-128", "distilbert-128", "vit-s16", "swin-tiny", "gpt2-128", "t5-encoder",
    "whisper-tiny",
)  # fmt: skip
_OTHERS = ("mlp-64", "mlp-1")
_CASES = (*_TRANSFORMERS, *_CONVOLUTIONAL, *_OTHERS)
_SLOW = {"bert-base-128", "distilbert-128", "gpt2-128", "whisper-tiny", "swin-tiny", "convnext-tiny", "unet",
         "regnet-y-4gf", "efficientnet-b0"}  # fmt: skip
"""Their peers take tens or hundreds of milliseconds a call: fewer rounds, as each is longer."""
_BUSY = ("minilm-128", "vit-s16")
_BOTH_GRAPHS = {"minilm-128", "minilm-16", "bert-base-128"}
"""Of these, the graph that torchao's quantizer makes runs in lower86, too, without int8 attention."""
_LIBRARIES = ("lower86", "OpenVINO int8", "ONNX Runtime static", "ONNX Runtime dynamic", "Inductor int8")
_QUICK = {"minilm-16", "mobilenet-v2"}


@dataclass(frozen=True)
class Part:
    """A run of `benchmarks/<program>.py`. Without `quick` arguments, a quick record does without it."""

    section: str
    name: str
    program: str
    full: tuple[str, ...]
    quick: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.section}/{self.name}"


def parts() -> Iterator[Part]:
    """All parts, in the order in which they are measured."""
    yield Part("machine", "all", "machine", ("--seconds", "1"), ("--seconds", "0.2"))
    kernels = ("--rows", "128", "1", "--sizes", "384", "1536", "--seconds", "0.2")
    yield Part("kernels", "all", "linear_kernels", ("--seconds", "0.6"), kernels)
    for case in _CASES:
        quick = ("--rounds", "2", "--only", "lower86", "OpenVINO int8", "PyTorch fp32")
        rounds = "6" if case in _SLOW else "10"
        full = (case, "--rounds", rounds, "--only", *_contenders(case))
        yield Part("models", case, "models", full, (case, *quick) if case in _QUICK else None)
    for case in _BUSY:
        # The slowest call in a hundred wants some hundred calls.
        yield Part("busy", case, "models", (case, "--busy", "--rounds", "50", "--only", *_LIBRARIES))
    yield Part("decode", "gpt2", "decode", ("--steps", "200"))
    scaling = ("mobilenet-v2", "--batches", "1", "2", "--rounds", "2")
    yield Part("scaling", "resnet-50", "scaling", ("resnet-50", "--batches", "1", "4", "16", "--rounds", "8"))
    yield Part("scaling", "mobilenet-v2", "scaling", ("mobilenet-v2", "--batches", "1", "4", "16", "--rounds", "8"),
               scaling)  # fmt: skip
    yield Part("startup", "minilm-128", "startup", ("minilm-128", "--rounds", "7", "--folder", "{folder}"))
    for case in _CASES:
        yield Part("roofline", case, "roofline", (case, "--seconds", "1"), (case, "--seconds", "0.2")
                   if case in _QUICK else None)  # fmt: skip


def _contenders(case: str) -> tuple[str, ...]:
    """All that can tell something: convolutional networks quantized by torchao are what lower86 runs anyway.

    And ONNX Runtime's dynamic quantization of convolutions takes several times as long as its float ones. What PyTorch
    takes minutes to compile and to run says no more of large networks than of the small ones.
    """
    more = ("torchao lowering", "PyTorch fp32")
    if case in _SLOW and case in (*_CONVOLUTIONAL, "whisper-tiny", "gpt2-128"):
        return ("lower86", "OpenVINO int8", "ONNX Runtime static", *("ONNX Runtime dynamic",) * (case in _TRANSFORMERS))
    if case in _CONVOLUTIONAL:
        return (*(name for name in _LIBRARIES if name != "ONNX Runtime dynamic"), *more)
    if case in _BOTH_GRAPHS:
        return ("lower86", "lower86 (torchao)", *_LIBRARIES[1:], *more)
    return (*_LIBRARIES, *more)
