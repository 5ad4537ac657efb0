"""RetryPolicy: what the answers to a slot lead to, and when."""

from array import array
from collections.abc import Sequence
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.events import Accepted, Outcome
from sluice.ingestion import Ingestion, Trouble
from sluice.models import Priority
from sluice.retry import Hold, RetryPolicy
from sluice.upstream import Answer, UpstreamError, UpstreamUnavailable

NOW = 1000.0
DOWN = UpstreamUnavailable("answered 500")


def policy(attempts: int = 3, base: float = 1.0, longest: float = 60.0, draw: float = 1.0) -> RetryPolicy:
    return RetryPolicy(attempts, base, longest, longest_hold=600.0, draw=lambda: draw)


def ingestion(*attempts: int) -> Ingestion:
    """Return an ingestion with an ID for each number of attempts that it has behind it."""
    it = Ingestion(Accepted(str(uuid4()), Priority.LOW, 0.0, 0, 3, array("I", range(1, 1 + len(attempts)))))
    for position, count in enumerate(attempts):
        if count:
            it.troubles[position] = Trouble(count, "answered 500", is_final=False)
    return it


def outcomes(retry: RetryPolicy, it: Ingestion, answers: Sequence[Answer]) -> tuple[Outcome, ...]:
    return retry.outcomes(it, range(len(answers)), answers, NOW)


def test_answer_is_kept_with_the_attempts_it_took() -> None:
    first, third = outcomes(policy(), ingestion(0, 2), [b"1", b"null"])

    assert first == Outcome(0, 1, data=b"1")
    assert third == Outcome(1, 3, data=b"null")


def test_backoff_doubles_with_every_attempt_until_the_longest() -> None:
    retry = policy(attempts=10, base=1.5, longest=20.0)

    waits = [outcomes(retry, ingestion(before), [DOWN])[0] for before in range(6)]

    assert waits == [
        Outcome(0, before + 1, error="answered 500", retry_at=NOW + wait)
        for before, wait in enumerate([1.5, 3.0, 6.0, 12.0, 20.0, 20.0])
    ]


@given(before=st.integers(0, 2000), jitter=st.floats(0, 1, exclude_max=True))
def test_jitter_is_full_and_the_longest_is_never_exceeded(before: int, jitter: float) -> None:
    retry = policy(attempts=10_000, base=0.5, longest=60.0, draw=jitter)

    (outcome,) = outcomes(retry, ingestion(before), [DOWN])

    assert outcome.retry_at == NOW + jitter * min(60.0, 0.5 * 2 ** min(before, 10))


def test_what_failed_together_is_tried_again_together() -> None:
    draws = iter([0.25])
    retry = RetryPolicy(3, 1.0, 60.0, 600.0, draw=lambda: next(draws))

    ended = outcomes(retry, ingestion(0, 0, 0), [DOWN, b"1", UpstreamUnavailable("ConnectError")])

    assert [outcome.retry_at for outcome in ended] == [NOW + 0.25, None, NOW + 0.25]


def test_default_draws_are_spread() -> None:
    retry = RetryPolicy(3, base=8.0, longest=60.0, longest_hold=600.0)

    times = {outcomes(retry, ingestion(0), [DOWN])[0].retry_at for _ in range(20)}

    assert len(times) > 1
    assert all(time is not None and NOW <= time < NOW + 8.0 for time in times)


def test_last_attempt_is_final() -> None:
    second, third = outcomes(policy(attempts=3), ingestion(1, 2), [DOWN, DOWN])

    assert (second.attempts, second.retry_at) == (2, NOW + 2.0)
    assert third == Outcome(1, 3, error="answered 500")


def test_the_only_attempt_is_final() -> None:
    assert outcomes(policy(attempts=1), ingestion(0), [DOWN]) == (Outcome(0, 1, error="answered 500"),)


def test_refusal_is_final_at_once() -> None:
    ended = outcomes(policy(), ingestion(0, 1), [UpstreamError("answered 404")] * 2)

    assert ended == (Outcome(0, 1, error="answered 404"), Outcome(1, 2, error="answered 404"))


@pytest.mark.parametrize("before", [0, 2])
def test_retry_after_is_waited_for_and_costs_no_attempt(before: int) -> None:
    (outcome,) = outcomes(policy(attempts=3), ingestion(before), [UpstreamUnavailable("answered 429", 30.0)])

    assert outcome == Outcome(0, before, error="answered 429", retry_at=NOW + 30.0)


def test_retry_after_is_bounded_by_the_longest_hold() -> None:
    answers = [UpstreamUnavailable("answered 503", float("inf"))]

    (outcome,) = outcomes(policy(), ingestion(0), answers)

    assert outcome.retry_at == NOW + 600.0
    assert policy().hold(answers) == Hold(600.0, "answered 503")


def test_hold_is_the_longest_that_was_asked_for() -> None:
    answers: list[Answer] = [
        b"1",
        UpstreamUnavailable("short", 2.0),
        UpstreamUnavailable("long", 30.0),
        DOWN,
        UpstreamError("no"),
    ]

    assert policy().hold(answers) == Hold(30.0, "long")


def test_retry_after_zero_is_a_hold_too() -> None:
    assert policy().hold([UpstreamUnavailable("answered 429", 0.0)]) == Hold(0.0, "answered 429")


def test_nothing_is_held_when_nobody_asked() -> None:
    assert policy().hold([b"1", DOWN, UpstreamError("answered 404")]) is None


@pytest.mark.parametrize(("answer", "attempts"), [(DOWN, 2), (UpstreamUnavailable("answered 429", 5.0), 1)])
def test_cancelled_ingestion_gets_no_further_attempt(answer: UpstreamUnavailable, attempts: int) -> None:
    it = ingestion(1)
    it.gives_up = True

    assert outcomes(policy(), it, [answer]) == (Outcome(0, attempts, error=str(answer)),)


def test_every_position_needs_an_answer() -> None:
    with pytest.raises(ValueError, match="zip"):
        policy().outcomes(ingestion(0, 0), [0, 1], [b"1"], NOW)
