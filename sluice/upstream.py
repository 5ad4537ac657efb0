"""Where batches go: the protocol, what it answers, and the simulated default."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from pydantic_core import PydanticSerializationError, to_json

from sluice.ingestion import Batch

LONGEST_ERROR = 1000


class UpstreamError(Exception):
    """The upstream will not do an ID, however often it is asked.

    The text is shown to clients, so it holds no URL and no secret.

        UpstreamError
        └── UpstreamUnavailable    another attempt may succeed
    """

    def __str__(self) -> str:
        """Return the text as it can be stored and shown: valid Unicode, and not too much of it."""
        return super().__str__().encode(errors="replace").decode()[:LONGEST_ERROR]


class UpstreamUnavailable(UpstreamError):  # noqa: N818 - it says what is, not that something is wrong
    """The upstream did not do an ID this time; another attempt may succeed.

    `retry_after` is for how many seconds the upstream asked to be left alone
    altogether; such a call is not counted as an attempt.
    """

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Json(bytes):
    """An answer that is JSON already, on one line, and within its limit."""


Answer = bytes | UpstreamError  # JSON, or why there is none


class Upstream(Protocol):
    """What takes batches. One at a time; the IDs of a batch belong to one slot."""

    async def process(self, batch: Batch) -> Sequence[object] | None:
        """Return when the upstream is done with the batch: what it answered for each ID, in their order.

        An answer is anything that JSON can hold; an `UpstreamError` in its place
        says that this ID failed. None stands for a null each. Raise to fail all:
        an `UpstreamError` for good, anything else until the attempts are used up.
        """


class PreparedUpstream(Upstream):
    """An upstream that has something to do before a batch, so that its calls are sent at once."""

    @property
    @abstractmethod
    def lead(self) -> float:
        """How many seconds before a start that takes."""

    @abstractmethod
    def prepare(self, count: int) -> None:
        """Begin it for a batch of so many IDs, of which another may come, or none; it may have been begun before."""


class SimulatedUpstream:
    """Stands in for a real upstream: works through a batch one ID after another, `delay` seconds each."""

    def __init__(self, delay: float, on_sent: Callable[[], object] = lambda: None) -> None:
        """Take what is to be told of each batch as its calls begin."""
        self._delay = delay
        self._on_sent = on_sent

    async def process(self, batch: Batch) -> list[object]:
        """Take `delay` seconds per ID; never fails."""
        self._on_sent()
        await asyncio.sleep(self._delay * len(batch.ids))
        return [{"id": item, "data": "processed"} for item in batch.ids]


def together(batches: Sequence[Batch]) -> Batch:
    """Return all that is in a slot as what the upstream is given."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        batches[0].ingestion_id,
        tuple(position for batch in batches for position in batch.positions),
        [item for batch in batches for item in batch.ids],
        [batch_id for batch in batches for batch_id in batch.batch_ids],
    )


def answers_of(batch: Batch, result: object, max_bytes: int) -> list[Answer]:
    """Return, ID by ID, what the result of `process`, or what it raised, means. `max_bytes` is for each."""
    if result is None or isinstance(result, BaseException):
        results: Sequence[object] = [result] * len(batch.ids)
    elif isinstance(result, Sequence) and not isinstance(result, str | bytes) and len(result) == len(batch.ids):
        results = result
    else:
        results = [UpstreamError(f"the upstream gave no list of {len(batch.ids)} answers")] * len(batch.ids)
    return [_answer(each, max_bytes) for each in results]


def _answer(result: object, max_bytes: int) -> Answer:
    if isinstance(result, UpstreamError):
        return result
    if isinstance(result, BaseException):
        # Only the kind goes to clients: the text of a foreign error may hold a secret.
        return UpstreamUnavailable(type(result).__name__)
    if isinstance(result, Json):
        return result
    try:
        data = to_json(result, inf_nan_mode="strings")
    except (PydanticSerializationError, ValueError):
        return UpstreamError("the answer is nothing that JSON can hold")
    if len(data) > max_bytes:
        return too_large(max_bytes)
    return data


def too_large(max_bytes: int) -> UpstreamError:
    """Return the error for an answer of more than `max_bytes`."""
    return UpstreamError(f"the answer has more than {max_bytes} bytes (MAX_RESULT_BYTES)")
