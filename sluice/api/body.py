"""How a JSON body is read: bounded, and validated straight from its bytes."""

from http import HTTPStatus
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from sluice.problem import ProblemError

NOT_JSON = "Send the body as JSON, with the header 'Content-Type: application/json'."

Model = TypeVar("Model", bound=BaseModel)


def header(request: Request, name: bytes) -> str | None:
    """Return a header by its lower-case name, without Starlette's decoding of all of them at each look."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


async def read_json(request: Request, model: type[Model], limit: int) -> Model:
    """Return the body as `model`; raise a 413, 415, 400 or 422 if it is over `limit` bytes or not what is asked for."""
    media_type = (header(request, b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, NOT_JSON)
    return model.model_validate_json(await _read_body(request, limit))


async def _read_body(request: Request, limit: int) -> bytes:
    """Return the body; raise a 413 as soon as it is known to exceed `limit` bytes."""
    declared = header(request, b"content-length") or ""
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size, more = 0, True
    # Not `request.stream()`: making an async generator costs as much as validating a small body.
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body has more than {limit} bytes; split the IDs over several ingestions.",
    )
