"""Sentence embeddings over HTTP from one saved model. `pip install lower86[serve]` is all it needs; no PyTorch.

    LOWER86_MODEL=minilm-int8 uvicorn --app-dir examples --factory fastapi_service.app:create_app
    curl localhost:8000/health
    curl localhost:8000/embed -H 'content-type: application/json' -d '{"texts": ["A cat sits on the mat."]}'

`LOWER86_MODEL` is the folder that `save_pretrained` of a lowered `SentenceTransformer` wrote (docs/how-to/serving.md).

Concurrency: the program lets go of Python's lock, so calls run at once, in worker threads, while the event loop goes on
taking requests. `LOWER86_STREAMS` calls run at a time, each on its share of the CPUs: one stream answers one request
soonest, as many as there are CPUs answer the most requests a second. The model is there once for all of them. Requests
beyond that wait, and beyond `MOST_WAITING` they are told to come back later. One process is enough: no `--workers`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import lower86

from .embedder import Embedder

MOST_TEXTS, MOST_CHARACTERS = 256, 20_000
MOST_BYTES = 4 << 20
"""Of a request's body; what is longer is not read to its end."""
MOST_WAITING = 64


class Texts(BaseModel):
    """What `/embed` takes."""

    texts: Annotated[
        list[Annotated[str, Field(max_length=MOST_CHARACTERS)]], Field(min_length=1, max_length=MOST_TEXTS)
    ]


class Embeddings(BaseModel):
    """What `/embed` gives: a unit vector for each text, in order."""

    embeddings: list[list[float]]
    dimensions: int


class Health(BaseModel):
    """What `/health` gives."""

    status: str
    target: str
    most_tokens: int
    streams: int
    threads: int


def create_app(folder: Path | None = None, streams: int | None = None) -> FastAPI:
    """The service. Raises Lower86Error or OSError if the model cannot be loaded: then there is nothing to serve."""
    folder = folder or Path(os.environ.get("LOWER86_MODEL", "minilm-int8"))
    cpus = len(os.sched_getaffinity(0))
    streams = max(1, streams or int(os.environ.get("LOWER86_STREAMS", "1")))
    threads = max(1, cpus // streams)
    embedder = Embedder(folder, num_threads=threads)
    embedder(["warm-up"])
    running = anyio.CapacityLimiter(streams)

    app = FastAPI(title="Sentence embeddings")
    app.add_middleware(_BodyLimit)

    @app.post("/embed")
    async def embed(request: Texts) -> Embeddings:
        if running.statistics().tasks_waiting >= MOST_WAITING:
            raise HTTPException(429, "too many requests are waiting", {"Retry-After": "1"})
        vectors = await anyio.to_thread.run_sync(embedder, request.texts, limiter=running)
        return Embeddings(embeddings=vectors.tolist(), dimensions=vectors.shape[1])

    @app.get("/health")
    async def health() -> Health:
        target = embedder.program.target.level
        return Health(status="ok", target=target, most_tokens=embedder.most_tokens, streams=streams, threads=threads)

    @app.exception_handler(lower86.InputError)
    async def unfit(_: Request, problem: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(problem)}, 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, problem: Exception) -> JSONResponse:
        # Without the input itself, which may be megabytes, or text that is no Unicode and could not be sent.
        errors = problem.errors() if isinstance(problem, RequestValidationError) else ()
        return JSONResponse({"detail": [{"loc": list(e["loc"]), "msg": e["msg"]} for e in errors]}, 422)

    return app


class _BodyLimit:
    """Refuses bodies beyond `MOST_BYTES`, whether their length is announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, counting what it brings."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise HTTPException(413, f"a request has {MOST_BYTES} bytes at most")
            return message

        await self._app(scope, counted, send)
