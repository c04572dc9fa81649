"""Third parties' import and export noise, turned off by name; everything lower86 says stays audible."""

from __future__ import annotations

import logging
import os
import warnings

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",  # it reports the pooling layer's weights, which are left out on purpose
}

# torchao: CUDA extensions that it cannot load here, and pytree registrations that it still makes in the old way.
TALKATIVE_LOGGERS = ("torchao", "torch.utils._pytree")

# torch about torch, while it imports, exports and copies graphs.
FOREIGN_WARNINGS = (
    r".torch\.jit\.script",
    r".isinstance\(treespec, LeafSpec\). is deprecated",
    r"While compiling, we found certain side effects happened in the model\.forward",
)


def silence() -> None:
    """To be called before anything imports torchao or transformers."""
    os.environ.update(ENVIRONMENT)
    for message in FOREIGN_WARNINGS:
        warnings.filterwarnings("ignore", message=message)

    # Importing torch sets the levels of its loggers anew, so it has to be there first.
    import torch  # noqa: F401

    for name in TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
