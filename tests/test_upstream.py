"""SimulatedUpstream, and what an upstream's result or exception means ID by ID."""

import asyncio
from uuid import uuid4

import pytest

from sluice.ingestion import Batch
from sluice.upstream import LONGEST_ERROR, SimulatedUpstream, UpstreamError, UpstreamUnavailable, answers_of
from tests.virtual import TICK, VirtualLoop

MAX_BYTES = 100
NOT_JSON = "the answer is nothing that JSON can hold"


def batch(*ids: int) -> Batch:
    return Batch(str(uuid4()), tuple(range(len(ids))), list(ids), [str(uuid4()) for _ in ids])


def texts(result: object, *ids: int) -> list[str]:
    """Return the answers as text: JSON as it is, errors as `<kind>: <text>`."""
    answers = answers_of(batch(*ids), result, MAX_BYTES)
    return [each.decode() if isinstance(each, bytes) else f"{type(each).__name__}: {each}" for each in answers]


def circle() -> list[object]:
    it: list[object] = []
    it.append(it)
    return it


def chain(length: int) -> list[object]:
    it: list[object] = []
    for _ in range(length):
        it = [it]
    return it


def test_simulated_upstream_takes_its_delay_per_id(loop: VirtualLoop) -> None:
    loop.run_until_complete(SimulatedUpstream(1.0).process(batch(1, 2, 3)))

    assert loop.time() == pytest.approx(3.0, abs=TICK)


def test_simulated_upstream_answers_each_id(loop: VirtualLoop) -> None:
    of = batch(7, 7, 9)

    result = loop.run_until_complete(SimulatedUpstream(0.0).process(of))

    assert answers_of(of, result, MAX_BYTES) == [
        b'{"id":7,"data":"processed"}',
        b'{"id":7,"data":"processed"}',
        b'{"id":9,"data":"processed"}',
    ]


def test_answers_are_json_in_the_order_of_the_ids() -> None:
    result = [{"a": [1, 2.5, None, True]}, "text ü", 3]

    assert texts(result, 1, 2, 3) == ['{"a":[1,2.5,null,true]}', '"text ü"', "3"]


def test_none_stands_for_a_null_each() -> None:
    assert texts(None, 1, 2) == ["null", "null"]


@pytest.mark.parametrize("result", [[], [1], [1, 2, 3], {"a": 1, "b": 2}, "ab", b"ab", 5, {1, 2}, object()])
def test_anything_but_an_answer_for_each_id_fails_them_all_for_good(result: object) -> None:
    assert texts(result, 1, 2) == ["UpstreamError: the upstream gave no list of 2 answers"] * 2


def test_tuple_is_as_good_as_a_list() -> None:
    assert texts((1, 2), 1, 2) == ["1", "2"]


def test_error_in_the_place_of_an_answer_fails_that_id_alone() -> None:
    unavailable = UpstreamUnavailable("answered 503", retry_after=5.0)

    answers = answers_of(batch(1, 2, 3), [UpstreamError("answered 404"), 2, unavailable], MAX_BYTES)

    assert str(answers[0]) == "answered 404"
    assert not isinstance(answers[0], UpstreamUnavailable)
    assert answers[1:] == [b"2", unavailable]


def test_error_raised_fails_every_id() -> None:
    assert texts(UpstreamError("closed for good"), 1, 2) == ["UpstreamError: closed for good"] * 2


@pytest.mark.parametrize("error", [ValueError("secret"), TimeoutError("secret"), asyncio.CancelledError("secret")])
def test_foreign_error_is_worth_another_attempt_and_its_text_stays_here(error: BaseException) -> None:
    assert texts(error, 1, 2) == [f"UpstreamUnavailable: {type(error).__name__}"] * 2
    assert texts([1, error], 1, 2) == ["1", f"UpstreamUnavailable: {type(error).__name__}"]


@pytest.mark.parametrize(
    "answer",
    [
        object(),
        b"\xff",
        "lone surrogate \ud800",
        {"\udfff": 1},
        circle(),
        chain(100_000),
    ],
    ids=["object", "bytes", "surrogate", "surrogate key", "circle", "too deep"],
)
def test_answer_that_json_cannot_hold_fails_that_id_alone_for_good(answer: object) -> None:
    assert texts([answer, 2], 1, 2) == [f"UpstreamError: {NOT_JSON}", "2"]


@pytest.mark.parametrize(
    ("number", "text"), [(float("nan"), '"NaN"'), (float("inf"), '"Infinity"'), (float("-inf"), '"-Infinity"')]
)
def test_number_that_json_has_no_word_for_becomes_a_string(number: float, text: str) -> None:
    assert texts([number, {"deep": [number]}], 1, 2) == [text, f'{{"deep":[{text}]}}']


def test_answer_may_have_max_bytes_and_no_more() -> None:
    fits, too_long, in_bytes = "x" * (MAX_BYTES - 2), "x" * (MAX_BYTES - 1), "ü" * (MAX_BYTES // 2)

    assert texts([fits, too_long, in_bytes], 1, 2, 3) == [
        f'"{fits}"',
        "UpstreamError: the answer has more than 100 bytes (MAX_RESULT_BYTES)",
        "UpstreamError: the answer has more than 100 bytes (MAX_RESULT_BYTES)",
    ]


def test_error_text_can_be_stored_and_is_not_endless() -> None:
    broken, endless = UpstreamError("lone \ud800"), UpstreamUnavailable("x" * 10**6)

    assert str(broken) == "lone ?"
    assert str(endless) == "x" * LONGEST_ERROR
