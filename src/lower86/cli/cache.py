"""`lower86 cache`: what is in the folder of machine code, and emptying it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..counted import counted

cache = typer.Typer(help="The folder where compiled kernels are kept.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@cache.command()
def info(as_json: Json = False) -> None:
    """Says where the folder is, how many kernels it holds, and how many bytes they take and may take."""
    from ..runtime.cache_folder import MOST_BYTES, entries, refusal
    from ..runtime.code_cache import directory

    folder = directory()
    kept = [] if folder is None else entries(folder)
    found: dict[str, Any] = {
        "folder": None if folder is None else str(folder),
        "entries": len(kept),
        "bytes": sum(entry.size for entry in kept),
        "limit": MOST_BYTES,
        "problem": refusal(folder) if folder is not None and folder.exists() else None,
    }
    if as_json:
        print(json.dumps(found))
        return
    if folder is None:
        print("no folder: the cache is off")
        return
    print(f"{folder}: {counted(len(kept), 'kernel')}, {found['bytes'] / 1e6:.2f} of {MOST_BYTES / 1e6:.0f} MB")
    if found["problem"]:
        print(f"it is not used: {found['problem']}")


@cache.command()
def clear(as_json: Json = False) -> None:
    """Deletes all kernels: each is compiled again when it is next needed."""
    from ..runtime import cache_folder
    from ..runtime.code_cache import directory

    folder = directory()
    count, size = (0, 0) if folder is None else cache_folder.clear(folder)
    left = 0 if folder is None else len(cache_folder.entries(folder))
    if as_json:
        print(json.dumps({"deleted": count, "bytes": size, "left": left}))
    else:
        print(f"deleted {counted(count, 'kernel')}, {size / 1e6:.2f} MB" + (f"; {left} still there" if left else ""))
    if left:
        raise typer.Exit(1)
