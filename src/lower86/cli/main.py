"""Entry point of the command line: which commands there are, and how their errors reach the user.

A command is a function, a group of commands a `typer.Typer`. A new one is a file beside this one and a line in
`COMMANDS`. Commands import what is slow to import when they run, so that `lower86 --help` is quick.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
import typer.main

from ..errors import Lower86Error
from . import bench, cache, compare, cpu, explain, inspect, lower, profile, quantize, report, run
from .stdout import open_all
from .text import one_line, printable

COMMANDS: Mapping[str, Callable[..., None] | typer.Typer] = {
    "quantize": quantize.quantize,
    "lower": lower.lower,
    "compare": compare.compare,
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
_INTERRUPTED = 130
"""The exit code, as shells have it; Typer gives it without a word."""

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


def _version(wanted: bool) -> None:
    if wanted:
        from ..report.environment import versions

        print("lower86", versions(["lower86"]).get("lower86", "from a folder that is not installed"))
        raise typer.Exit


def _options(
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error; may stand anywhere.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Makes int8 models of PyTorch's (three commands), and runs and measures them."""


def application() -> Any:
    """All commands as one: what Typer makes a command of."""
    app = typer.Typer(
        name="lower86", callback=_options, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    for name, command in COMMANDS.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    made = typer.main.get_command(app)
    for parameter in made.params:  # in a line each, so that all commands are on one screen
        if parameter.name in _COMPLETION:
            vars(parameter)["help"] = _COMPLETION[parameter.name]
    return made


_COMPLETION = {
    "install_completion": "Complete commands in this shell, from now on.",
    "show_completion": "Show the script that does it.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and gives its exit code.

    0: done. 1: an error, a line on stderr. 2: wrong usage, a line. 130: interrupted, a line. With --debug errors are
    raised.
    """
    open_all()
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
        _no_more_output()  # whoever reads it has enough
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except MemoryError as error:
        if debug:
            raise
        return _failed(f"there is not enough memory: {printable(str(error)) or 'no more could be had'}", 1)
    except Exception as error:  # the last one: a user gets a line, --debug the traceback
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
            _no_more_output()
            return _failed(f"the output cannot be written: {error.strerror}", 1)
        return _failed_otherwise(error)
    if code == _INTERRUPTED:
        return _interrupted()
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    # Python ends by the signal, not by this code, if an interrupt ever left an exec of text; the next exec undoes that.
    exec("")
    return _failed("interrupted", _INTERRUPTED)


def _failed_otherwise(error: Exception) -> int:
    """Typer's own errors, wherever its version keeps their class, and what nobody has thought of."""
    message = getattr(error, "format_message", None)
    if message is None:
        said = " ".join(printable(str(error)).split())
        if isinstance(error, ModuleNotFoundError) and error.name in ("torch", "torchao"):
            return _failed(f"this command takes {error.name}; to do: pip install 'lower86[torch]'", 1)
        return _failed(f"{type(error).__name__}: {said}; to do: --debug shows where, and is worth a bug report", 1)
    text = str(message())
    if "\n" in text:  # a group without a command: its help
        print(text, file=sys.stderr)
        return 2
    return _failed(f"{text.rstrip('.')}; see lower86 --help", int(getattr(error, "exit_code", 2)))


def _no_more_output() -> None:
    """What is left in the buffer is lost; Python would complain of it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(message: str, code: int) -> int:
    print(f"lower86: error: {message}", file=sys.stderr)
    return code
