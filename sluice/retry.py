"""What a failed call leads to: another attempt after a backoff, a hold of the whole lane, or failure."""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sluice.events import Outcome
from sluice.ingestion import Ingestion
from sluice.upstream import Answer, UpstreamError, UpstreamUnavailable


class Hold(NamedTuple):
    """The upstream asked to be left alone for `seconds`."""

    seconds: float
    reason: str


class RetryPolicy:
    """How often and how soon failed IDs are tried again. `base`, `longest` and `longest_hold` are seconds.

    Exponential backoff with full jitter (M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015). `draw` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        attempts: int,
        base: float,
        longest: float,
        longest_hold: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.attempts = attempts
        self.base = base
        self.longest = longest
        self.longest_hold = longest_hold
        self._draw = draw

    def hold(self, answers: Sequence[Answer]) -> Hold | None:
        """Return for how long the upstream asked to be left alone, if it did."""
        asked = [
            Hold(min(answer.retry_after, self.longest_hold), str(answer))
            for answer in answers
            if isinstance(answer, UpstreamUnavailable) and answer.retry_after is not None
        ]
        return max(asked, default=None)

    def outcomes(
        self, ingestion: Ingestion, positions: Sequence[int], answers: Sequence[Answer], now: float
    ) -> tuple[Outcome, ...]:
        """Return what the answers to a slot that ended at `now` lead to, ID by ID."""
        # One draw for all, so that what failed together is tried again together, in one slot.
        jitter = self._draw()
        return tuple(
            self._outcome(ingestion, position, answer, now, jitter)
            for position, answer in zip(positions, answers, strict=True)
        )

    def _outcome(self, ingestion: Ingestion, position: int, answer: Answer, now: float, jitter: float) -> Outcome:
        trouble = ingestion.troubles.get(position)
        before = trouble.attempts if trouble else 0
        if not isinstance(answer, UpstreamError):
            return Outcome(position, before + 1, data=answer)
        error = str(answer)
        if not isinstance(answer, UpstreamUnavailable):
            return Outcome(position, before + 1, error=error)
        if answer.retry_after is not None:
            if ingestion.gives_up:
                return Outcome(position, before, error=error)
            return Outcome(position, before, error=error, retry_at=now + min(answer.retry_after, self.longest_hold))
        attempts = before + 1
        if attempts >= self.attempts or ingestion.gives_up:
            return Outcome(position, attempts, error=error)
        # Beyond 2^60 the power would overflow, long after `longest` has taken over.
        backoff = min(self.longest, self.base * 2.0 ** min(before, 60))
        return Outcome(position, attempts, error=error, retry_at=now + jitter * backoff)
