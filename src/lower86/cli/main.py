"""Entry point of the command line: which commands there are, and how their errors reach the user.

A command is a function, a group of commands a `typer.Typer`. A new one is a file beside this one and a line in
`COMMANDS`. Commands import what is slow to import when they run, so that `lower86 --help` is quick.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from ..errors import Lower86Error
from . import bench, cache, cpu, explain, inspect, profile, report, run
from .text import one_line

COMMANDS: Mapping[str, Callable[..., None] | typer.Typer] = {
    "run": run.run,
    "bench": bench.bench,
    "profile": profile.profile,
    "inspect": inspect.inspect,
    "explain": explain.explain,
    "cpu": cpu.cpu,
    "report": report.report,
    "cache": cache.cache,
}
"""By name, in the order of the help text."""

_DEBUG = "--debug"


def _options(
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Runs and inspects models that lower86.save wrote. Nothing here needs PyTorch."""


def application() -> typer.Typer:
    """All commands as one."""
    app = typer.Typer(
        name="lower86", callback=_options, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )  # fmt: skip
    for name, command in COMMANDS.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code: 0, 1 for an error (a line on stderr), 2 for wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # whatever the terminal can show
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    debug = _DEBUG in given
    try:
        code: Any = application()([one for one in given if one != _DEBUG], prog_name="lower86", standalone_mode=False)
        sys.stdout.flush()
    except Lower86Error as error:
        if debug:
            raise
        return _failed(one_line(error), 1)
    except BrokenPipeError:
        # Whoever reads the output has enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # Typer's own errors, wherever its version keeps their class; all others go on
        message = getattr(error, "format_message", None)
        if message is None or debug:
            raise
        text = str(message())
        if "\n" in text:  # a group without a command: its help
            print(text, file=sys.stderr)
            return 2
        return _failed(f"{text.rstrip('.')}; see lower86 --help", int(getattr(error, "exit_code", 2)))
    return code if isinstance(code, int) else 0


def _failed(message: str, code: int) -> int:
    print(f"lower86: error: {message}", file=sys.stderr)
    return code
