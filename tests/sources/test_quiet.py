"""What others say is kept off the terminal; what lower86 and the user's own code say is not."""

from __future__ import annotations

import logging
import sys
import warnings

import pytest

from lower86.errors import Lower86Warning
from lower86.sources.quiet import quiet


def test_who_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    before, logger = sys.stderr, logging.getLogger("torchao")
    level = logger.level
    with quiet() as said:
        warnings.warn("of another library", UserWarning, stacklevel=1)
        warnings.warn(Lower86Warning("one layer stays float"), stacklevel=1)
        logger.warning("cannot load this")
        logging.getLogger("torch._guards").error("Error while creating guard:\nName: ''")
        print("class GraphModule(torch.nn.Module):\n    def forward(self, x):", file=sys.stderr)
        print("\n\n\ndef forward(self, arg0_1, arg1_1):\n    return 1", file=sys.stderr)
        print("of the user's own code", file=sys.stderr)
        assert said == ["one layer stays float"]
    assert capsys.readouterr().err == "of the user's own code\n"
    assert (sys.stderr, logger.level) == (before, level)
