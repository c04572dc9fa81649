"""What the commands that make models are given in tests: a module with models and data beside it, in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CODE = """
import os
import sys
import time
import torch
from torch import nn
from torch.export import Dim

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))

class Rough(Net):
    def forward(self, x):
        return torch.linalg.qr(super().forward(x))[0]

class Branches(Net):
    def forward(self, x):
        return self.head(torch.relu(self.body(x))) if x.sum() > 0 else x

def net(): return Net(), (torch.zeros(2, 8),)
def wide(): return Net(), (torch.zeros(2, 8),), ({0: Dim("rows")},)
def alone(): return Net()
def rough(): return Rough(), (torch.zeros(2, 8),)
def branches(): return Branches(), (torch.zeros(2, 8),)
def talks():
    print("of the user's code")
    os.write(1, b"of native code\\n")
    return net()
def slow():
    print("begun", file=sys.stderr, flush=True)
    exec("time.sleep(600)")  # as the code that FX generates runs
def inputs():
    torch.manual_seed(1)
    return [torch.randn(2, 8) for _ in range(10)]
"""


def made(folder: Path, name: str) -> None:
    """The module of that name, and data: good, with NaN, and of other shapes."""
    (folder / f"{name}.py").write_text(CODE)
    x = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    np.save(folder / "x.npy", x)
    np.savez(folder / "wide.npz", x=x[:, :7])
    np.savez(folder / "other.npz", y=x)
    (folder / "empty.npz").write_bytes(b"")
    x[5, 3] = np.nan
    np.savez(folder / "nan.npz", x=x)
