"""How a JSON body is read: its bytes bounded, and validated straight from them."""

import json
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from sluice.problem import ProblemError, validation_problem

NOT_JSON = "Send the body as JSON, with the header 'Content-Type: application/json'."
JSON = b"application/json"
SMALL = 64 * 1024  # bytes that are validated in one go, at most
WITHOUT_IDS = 4 * 1024  # bytes that a body without IDs may have

Model = TypeVar("Model", bound=BaseModel)


def header(request: Request, name: bytes) -> str | None:
    """Return a header by its lower-case name, without Starlette's decoding of all of them at each look."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


class Incoming:
    """The bytes of a JSON body as they come in, at most `limit` of them.

    Made from the headers, it raises a 415 or 413. Whatever reads on raises a 413 as
    soon as there are too many, and `ClientDisconnect`. `advice` ends the text of the 413.
    """

    __slots__ = ("_advice", "_limit", "_request", "_size", "buffer", "is_whole")

    def __init__(self, request: Request, limit: int, advice: str = "") -> None:
        self._request, self._limit, self._advice = request, limit, advice
        self._size = 0
        self.buffer = bytearray()  # what was read and not taken yet
        self.is_whole = False
        media_type = declared = b""
        for name, value in request.scope["headers"]:
            if name == b"content-type":
                media_type = value
            elif name == b"content-length":
                declared = value
        if media_type != JSON and media_type.partition(b";")[0].strip().lower() != JSON:
            raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, NOT_JSON)
        if declared.isdigit() and int(declared) > limit:
            raise self._too_large()

    async def read_on(self, size: int) -> None:
        """Read until the buffer has `size` bytes, or more, or the body is whole."""
        # Not `request.stream()`: making an async generator costs as much as validating a small body.
        while not self.is_whole and len(self.buffer) < size:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            self._size += len(piece)
            if self._size > self._limit:
                raise self._too_large()
            self.buffer += piece
            self.is_whole = not message.get("more_body", False)

    async def pass_over(self) -> None:
        """Read what is left, keeping none of it."""
        self.buffer.clear()
        while not self.is_whole and self._size <= self._limit:
            await self.read_on(1)
            self.buffer.clear()

    def _too_large(self) -> ProblemError:
        detail = f"The body has more than {self._limit} bytes{self._advice}."
        return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)


async def read_json(request: Request, model: type[Model], limit: int = WITHOUT_IDS) -> Model:
    """Return a body of at most `limit` bytes as `model`; raise a 413, 415, 400 or 422 if it is none."""
    body = Incoming(request, limit)
    await body.read_on(limit + 1)
    return validated(model, body.buffer)


def validated(model: type[Model], text: bytes | bytearray) -> Model:
    """Return JSON as `model`; raise a 422 if a member is there twice, and `ValidationError`.

    The model must refuse unknown members, and have none that holds text but for
    text by itself.
    """
    found = model.model_validate_json(text)
    # Each member has a name, and texts have quotes too. Whatever is there twice has more; so has an escaped quote.
    quotes = 0
    for name in found.model_fields_set:
        quotes += 4 if isinstance(getattr(found, name), str) else 2
    if text.count(b'"') != quotes:
        # As text, for an integer can have more digits than `int` takes.
        json.loads(text, object_pairs_hook=_refuse_twice, parse_int=str)
    return found


def _refuse_twice(members: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in members:
        if name in names:
            raise validation_problem([{"type": "twice", "loc": (name,), "msg": "is there twice"}])
        names.add(name)
