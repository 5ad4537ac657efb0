"""How a body with very many IDs is validated: as it comes in, in slices that hold nobody up."""

import asyncio
import re
from array import array
from http import HTTPStatus
from typing import Annotated

from fastapi import Request
from pydantic import ConfigDict, FailFast, TypeAdapter, ValidationError
from pydantic_core import from_json

from sluice.api.access import address_or_name
from sluice.api.body import SMALL, Incoming, Model, validated
from sluice.api.places import Places
from sluice.problem import ProblemError, validation_problem
from sluice.schemas import Id

# Large bodies that are taken in at once. Each keeps a slice or some, and 4 bytes an ID.
AT_ONCE = 8
LONGEST_WAIT = 20.0  # seconds that a large body waits, unread, to be one of them
MIN_RATE = 32 * 1024.0  # bytes per second that one of them must come on with
PATIENCE = 10.0  # seconds that it may fall behind that
TOO_SLOW = f"The body came on with less than {MIN_RATE / 1024:g} KiB a second."
SPLIT = "; split the IDs over several ingestions"
SPACE = b" \t\n\r"
# An object up to where its `ids` begin, if what comes before is neither array nor object.
# Possessive throughout, so that no text takes longer than its length.
OPENING = re.compile(
    rb"""
    [ \t\n\r]*+ \{
    (?: [ \t\n\r]*+ "(?:[^"\\]|\\.)*+"
        [ \t\n\r]*+ : [ \t\n\r]*+ (?: "(?:[^"\\]|\\.)*+" | [^ \t\n\r",:\[\]{}]++ )
        [ \t\n\r]*+ , )*+
    [ \t\n\r]*+ "ids" [ \t\n\r]*+ : [ \t\n\r]*+ \[
    """,
    re.VERBOSE | re.DOTALL,
)
PLACE = re.compile(r" at line \d+ column \d+")
IDS: TypeAdapter[list[int]] = TypeAdapter(Annotated[list[Id], FailFast()], config=ConfigDict(strict=True))
NO_INTEGER = "Input should be a valid integer"


class BodyReader:
    """Reads the bodies whose member `ids` may be very long; one for all requests of an app.

    A body of more than `small` bytes is validated as it comes in, and answered
    as if that were done in one go, with these exceptions:

    - of several errors only the first in the text is told, even where what follows is no JSON;
    - a text that is no JSON is told of by where in the IDs that is, not by line and column;
    - of too many IDs it is not told how many there are;
    - the array `ids` must begin within the first `small` bytes, its name spelt
      without escapes, and no more than that may come behind it, white space excepted.
    """

    def __init__(self, limit: int, max_ids: int, small: int = SMALL) -> None:
        """Read bodies of up to `limit` bytes, with up to `max_ids` IDs each."""
        self._limit, self._max_ids, self._small = limit, max_ids, small
        self._places = Places(AT_ONCE, LONGEST_WAIT)
        self._turn = asyncio.Lock()

    async def read(self, request: Request, model: type[Model]) -> Model:
        """Return the body as `model`; raise a 413, 415, 400 or 422 if it is too long or not what is asked for.

        A large one is a 503 if too many others are being read, a 408 if it comes too slowly.
        The model's `ids` are an `array("I")` where the body is large.
        """
        body = Incoming(request, self._limit, SPLIT)
        await body.read_on(self._small + 1)
        if len(body.buffer) <= self._small:
            return validated(model, body.buffer)
        try:
            # Whoever waits here is not read from: the server takes no more off the socket than it has already.
            async with self._places.taken(address_or_name(request)):
                return await self._in_slices(_Timed(body), model)
        except TimeoutError:
            raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, TOO_SLOW, headers={"Connection": "close"}) from None
        except (ProblemError, ValidationError):
            # Many clients look at no answer before all is sent. It takes no place: nothing of it is kept.
            await body.pass_over()
            raise

    async def _in_slices(self, body: "_Timed", model: type[Model]) -> Model:
        opening = _opening(bytes(body.buffer[: self._small]))
        del body.buffer[: len(opening)]
        # Half as much: 16,000 IDs of one digit take 1 ms.
        ids = _Ids(self._max_ids, self._small // 2)
        while not ids.are_complete:
            await body.read_on(self._small)
            # However many bodies there are, everything else goes on after each slice.
            async with self._turn:
                ids.take(body.buffer, is_whole=body.is_whole)
                await asyncio.sleep(0)
        closing = await self._closing(body)
        try:
            found = validated(model, opening + (b"1]" if ids.values else b"]") + closing)
        except ValidationError as error:
            if error.error_count() == 1 and (first := error.errors(include_input=False)[0])["type"] == "json_invalid":
                raise _not_json(first["msg"], "behind the ids") from None
            raise
        return found.model_copy(update={"ids": ids.values})

    async def _closing(self, body: "_Timed") -> bytes:
        """Return what comes behind the IDs."""
        await body.read_on(self._small + 1)
        closing = bytes(body.buffer[: self._small])
        del body.buffer[: self._small]
        while body.buffer:
            if body.buffer.strip(SPACE):
                raise _wrong(f"No more than {self._small} bytes may come behind the array")
            body.buffer.clear()
            await body.read_on(1)
        return closing


class _Timed:
    """A body whose client may fall `PATIENCE` behind `MIN_RATE`. The time in which nobody reads is not counted."""

    def __init__(self, body: Incoming) -> None:
        self.buffer = body.buffer
        self._body = body
        self._patience = PATIENCE

    @property
    def is_whole(self) -> bool:
        return self._body.is_whole

    async def read_on(self, size: int) -> None:
        """Read until the buffer has `size` bytes, or more, or the body is whole; raise `TimeoutError`."""
        before, begun = len(self.buffer), asyncio.get_running_loop().time()
        async with asyncio.timeout(self._patience):
            await self._body.read_on(size)
        spent = asyncio.get_running_loop().time() - begun
        self._patience = min(PATIENCE, self._patience - spent + (len(self.buffer) - before) / MIN_RATE)


class _Ids:
    """The IDs of a JSON array, taken off its text slice by slice."""

    def __init__(self, max_ids: int, slice_size: int) -> None:
        self.values = array("I")
        self.are_complete = False
        self._max_ids, self._size = max_ids, slice_size

    def take(self, text: bytearray, *, is_whole: bool) -> None:
        """Take what is in the first slice of `text`, which is whole if it is shorter; raise a 400 or 422."""
        window = bytes(text[: self._size])
        is_whole = is_whole and len(text) <= self._size
        end = window.find(b"]")
        cut = window.rfind(b",") if end < 0 else end
        if cut < 0:
            return self._shorten(text, window, is_whole=is_whole)
        try:
            ids = IDS.validate_json(b"[" + window[:cut] + b"]")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            if first["type"] == "json_invalid":
                raise self._refusal(window, is_whole=is_whole) from None
            raise self._wrong_id(len(self.values) + int(first["loc"][0]), first["msg"]) from None
        if not ids and (end < 0 or self.values):
            raise self._refusal(window, is_whole=is_whole)
        if len(self.values) + len(ids) > self._max_ids:
            raise self._too_many()
        # By way of an array, which is twice as fast as to extend by a list.
        self.values.extend(array("I", ids))
        del text[: cut + 1]
        self.are_complete = end >= 0
        return None

    def _shorten(self, text: bytearray, window: bytes, *, is_whole: bool) -> None:
        """Take white space from around what may be the beginning or all of an integer."""
        digits = window.strip(SPACE)
        gap = b" " if digits and window[-1] in SPACE else b""
        if is_whole or digits.strip(b"-0123456789") or len(digits + gap) >= len(window):
            raise self._refusal(window, is_whole=is_whole)
        text[: len(window)] = digits + gap

    def _refusal(self, window: bytes, *, is_whole: bool) -> ProblemError:
        """Return what is wrong with a slice of which it is known that something is."""
        before = b"1," if self.values else b""
        first = len(self.values) - bool(before)
        text = b'{"ids":[' + before + window
        try:
            found = from_json(text)
        except ValueError as error:
            if is_whole or not str(error).startswith("EOF"):
                return _not_json(f"Invalid JSON: {error}", f"behind ids[{first}]")
            found = from_json(text, allow_partial=True)
        # Not a list if the name is there again.
        ids = found["ids"] if isinstance(found["ids"], list) else []
        try:
            IDS.validate_python(ids)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            return self._wrong_id(first + int(wrong["loc"][0]), wrong["msg"])
        # It is the one that is cut off at the end, longer than any integer.
        return self._wrong_id(first + len(ids), NO_INTEGER)

    def _wrong_id(self, index: int, message: str) -> ProblemError:
        return _wrong(message, index) if index < self._max_ids else self._too_many()

    def _too_many(self) -> ProblemError:
        context = {"field_type": "List", "max_length": self._max_ids, "actual_length": None}
        error = ValidationError.from_exception_data(
            "ids", [{"type": "too_long", "loc": ("ids",), "input": None, "ctx": context}]
        )
        return validation_problem(list(error.errors(include_url=False)))


def _opening(start: bytes) -> bytes:
    """Return a large body's text up to where its IDs begin; raise a 400 or 422 if they do not in its `start`."""
    opening = OPENING.match(start)
    try:
        from_json(opening[0] if opening else start)
    except ValueError as error:
        if not str(error).startswith("EOF"):
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"The body is not JSON. Invalid JSON: {error}.") from None
    if opening:
        return opening[0]
    raise _wrong(f"In a body of more than {len(start)} bytes, the array must begin within the first {len(start)}")


def _wrong(message: str, *index: int) -> ProblemError:
    return validation_problem([{"type": "ids", "loc": ("ids", *index), "msg": message}])


def _not_json(message: str, where: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, f"The body is not JSON. {PLACE.sub('', message)}, {where}.")
