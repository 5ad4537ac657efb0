"""The yardsticks: an empty FastAPI route, one with a body, a naive Sluice, and an upstream that takes 20 ms."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

empty = FastAPI()


@empty.post("/ingest")
async def answer_nothing() -> dict[str, str]:
    """Do nothing: what the framework itself costs."""
    return {}


@empty.get("/status/{ingestion_id}")
async def show_nothing() -> dict[str, str]:
    """Do nothing either."""
    return {}


class Ingestion(BaseModel):
    """The body, as a FastAPI tutorial would have it."""

    ids: list[Annotated[int, Field(ge=1, le=1_000_000_007)]]
    priority: Literal["HIGH", "MEDIUM", "LOW"]


plain = FastAPI()


@plain.post("/ingest")
async def only_validate(ingestion: Ingestion) -> dict[str, int]:
    """Count the IDs: what a body costs a FastAPI app that does nothing with it."""
    return {"total_ids": len(ingestion.ids)}


ORDER = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
queue: asyncio.PriorityQueue[tuple[int, int, dict[str, Any]]] = asyncio.PriorityQueue()
ingestions: dict[str, list[dict[str, Any]]] = {}


async def dispatch() -> None:
    """Process, then sleep."""
    while True:
        *_, batch = await queue.get()
        batch["status"] = "triggered"
        await asyncio.sleep(len(batch["ids"]))
        batch["status"] = "completed"
        await asyncio.sleep(5)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the dispatcher beside the app."""
    task = asyncio.create_task(dispatch())
    yield
    task.cancel()


naive = FastAPI(lifespan=lifespan)


@naive.post("/ingest")
async def ingest(ingestion: Ingestion) -> dict[str, str]:
    """Make a dict and a queue entry per batch."""
    ingestion_id = str(uuid4())
    batches = []
    for first in range(0, len(ingestion.ids), 3):
        batch = {"batch_id": str(uuid4()), "ids": ingestion.ids[first : first + 3], "status": "yet_to_start"}
        batches.append(batch)
        queue.put_nowait((ORDER[ingestion.priority], len(ingestions) * 1_000_000 + first, batch))
    ingestions[ingestion_id] = batches
    return {"ingestion_id": ingestion_id}


async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with 200 after 20 ms."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
