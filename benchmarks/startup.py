"""From a file to the first result, each time in a fresh process: lower86 and its peers, in turns.

    python benchmarks/startup.py [CASE] [--folder DIR] [--rounds 7] [--only PEER …] [--json FILE]

A contender's file is made first, if the folder lacks it (--rounds 0 does only that): lower86's own, OpenVINO's int8 IR,
ONNX Runtime's int8 model, and a package of AOTInductor, of the float model: it takes no int8 one. Then processes start
in turns: each imports, loads (from the cache that its library keeps, filled before), and runs once. Import, load and
first call are timed from within, after the start of Python; memory is the most that was resident (VmHWM). All that a
library needs to take NumPy arrays and give them back is imported; for AOTInductor that is PyTorch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from json_output import add_json, write_json

_BEFORE = """
import sys, time
started = time.perf_counter()
folder = sys.argv[1]
"""
_AFTER = """
done = time.perf_counter()
import json
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
print(json.dumps({"import": imported - started, "load": loaded - imported, "first": done - ready,
                  "total": done - started - (ready - loaded), "peak": peak}))
"""
_INPUTS = """
import numpy as np
with np.load(f"{folder}/inputs.npz") as file:
    inputs = [file[name] for name in file.files]
"""

PEERS = {
    "lower86": ("model.safetensors", """
import lower86
lower86.load
imported = time.perf_counter()
program = lower86.load(f"{folder}/model.safetensors")
loaded = time.perf_counter()
""" + _INPUTS + """
ready = time.perf_counter()
program(*inputs)
"""),
    "OpenVINO int8": ("model.xml", """
import openvino
imported = time.perf_counter()
core = openvino.Core()
core.set_property({"CACHE_DIR": f"{folder}/openvino"})
request = core.compile_model(f"{folder}/model.xml", "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
loaded = time.perf_counter()
""" + _INPUTS + """
ready = time.perf_counter()
request.infer(inputs)
"""),
    "ONNX Runtime int8": ("model.onnx", """
import onnxruntime
imported = time.perf_counter()
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
loaded = time.perf_counter()
""" + _INPUTS + """
ready = time.perf_counter()
session.run(None, dict(zip([one.name for one in session.get_inputs()], inputs)))
"""),
    "AOTInductor float": ("model.pt2", """
import torch
import torch._inductor
imported = time.perf_counter()
model = torch._inductor.aoti_load_package(f"{folder}/model.pt2")
loaded = time.perf_counter()
""" + _INPUTS + """
inputs = [torch.from_numpy(array) for array in inputs]
ready = time.perf_counter()
with torch.no_grad():
    model(*inputs)
"""),
}  # fmt: skip
"""The file that a contender starts from, and its process, which leaves times in `imported`, `loaded` and `ready`."""

PACKAGES = {
    "OpenVINO int8": ("openvino", "nncf"),
    "ONNX Runtime int8": ("onnxruntime", "onnx", "onnxscript"),
}


def prepare(name: str, peer: str, folder: Path) -> None:
    """Makes the contender's file, in this process."""
    import numpy as np
    from cases import CASES

    case = CASES[name]()
    np.savez(folder / "inputs.npz", *[tensor.numpy() for tensor in case.inputs[0]])
    path = folder / PEERS[peer][0]
    if peer == "lower86":
        import lower86
        from lower86.peers.peer import quantized

        model = quantized(case, lower86.X86Quantizer())
        lower86.save(lower86.lower_pt2e_quantized_to_x86(model, case.inputs[0]), path)
    elif peer == "OpenVINO int8":
        import openvino

        from lower86.peers.openvino import quantized_openvino

        openvino.save_model(quantized_openvino(case), path)
    elif peer == "ONNX Runtime int8":
        from lower86.peers.onnxruntime import write_onnx_int8

        write_onnx_int8(case, case.is_transformer, path)
    else:
        import torch

        with torch.no_grad():
            exported = torch.export.export(case.model, case.inputs[0])
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path))


def start(peer: str, folder: Path) -> dict[str, float]:
    """One fresh process: seconds of each part, and MB."""
    script = _BEFORE + PEERS[peer][1] + _AFTER
    environment = {**os.environ, "LOWER86_CACHE_DIR": str(folder / "lower86")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed libraries have their bytecode, as pip leaves them
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{peer}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(peers: list[str], folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Prints the table; gives its rows. The first start of each fills its cache, and is shown, not counted."""
    cold = {peer: start(peer, folder)["total"] for peer in peers}
    taken: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in random.sample(peers, len(peers)):
            taken[peer].append(start(peer, folder))
    rows = []
    unit = taken.get("lower86")
    for peer in peers:
        row: dict[str, Any] = {"name": peer, "cold": cold[peer]}
        row |= {key: statistics.median(one[key] for one in taken[peer]) for key in taken[peer][0]}
        if unit:
            for key in ("total", "load", "peak"):
                pairs = zip(taken[peer], unit, strict=True)
                row[f"{key} ratio"] = statistics.median(one[key] / own[key] for one, own in pairs)
        rows.append(row)
        parts = [f"{key} {row[f'{key} ratio']:.1f}" for key in ("total", "load", "peak")] if unit else []
        ratios = f"; {', '.join(parts)} x lower86" if parts else ""
        print(
            f"  {peer:18s} import {row['import'] * 1e3:6.0f}  load {row['load'] * 1e3:6.0f}  first call "
            f"{row['first'] * 1e3:6.1f}  total {row['total'] * 1e3:6.0f} ms (cold {row['cold'] * 1e3:6.0f})  "
            f"peak {row['peak']:5.0f} MB{ratios}",
            flush=True,
        )  # fmt: skip
    return rows


def main() -> None:
    """Makes the files that are missing, then measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="minilm-128")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "lower86-startup")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    add_json(parser)
    parser.add_argument("--prepare", choices=list(PEERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder / options.case
    if options.prepare:
        prepare(options.case, options.prepare, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    peers = []
    for peer in options.only:
        lacking = [one for one in PACKAGES.get(peer, ()) if importlib.util.find_spec(one) is None]
        if lacking:
            print(f"  {peer}: not measured, {', '.join(lacking)} not installed (make bench PEERS=1)")
            continue
        if not (folder / PEERS[peer][0]).exists():
            # In a process of its own: what this one holds, its children would begin with.
            command = [sys.executable, __file__, options.case, "--folder", str(options.folder), "--prepare", peer]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"  {peer}: not measured, its file could not be made: {done.stderr[-500:]}")
                continue
        peers.append(peer)
    if options.rounds:
        print(f"{options.case}, {len(os.sched_getaffinity(0))} CPUs, median of {options.rounds} fresh processes")
        rows = measure(peers, folder, options.rounds)
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
