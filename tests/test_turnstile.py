"""Turnstile: a few begin in each turn of the loop, in the order that they came."""

import asyncio

from sluice.turnstile import AT_ONCE, Turnstile
from tests.virtual import VirtualLoop


def turns_of(loop: VirtualLoop, turnstile: Turnstile, count: int) -> list[list[int]]:
    """Have so many begin at once; return who began in each turn."""
    turns: list[list[int]] = []

    async def crowd() -> None:
        turns.append([])
        for number in range(count):
            turnstile.begin(loop, lambda number=number: turns[-1].append(number))  # type: ignore[misc]
        while sum(map(len, turns)) < count:
            turns.append([])
            await asyncio.sleep(0)

    loop.run_until_complete(crowd())
    return [turn for turn in turns if turn]


def test_few_begin_at_once(loop: VirtualLoop) -> None:
    assert turns_of(loop, Turnstile(), 3) == [[0, 1, 2]]


def test_of_many_a_few_begin_in_each_turn_and_nobody_is_passed_over(loop: VirtualLoop) -> None:
    turns = turns_of(loop, Turnstile(), 3 * AT_ONCE + 1)

    assert [len(turn) for turn in turns] == [AT_ONCE, AT_ONCE, AT_ONCE, 1]
    assert [number for turn in turns for number in turn] == [*range(3 * AT_ONCE + 1)]


def test_who_comes_later_does_not_go_first(loop: VirtualLoop) -> None:
    turnstile, begun = Turnstile(), list[int]()

    async def crowds() -> None:
        for number in range(4 * AT_ONCE):
            turnstile.begin(loop, lambda number=number: begun.append(number))  # type: ignore[misc]
            if number % AT_ONCE == 3:
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)

    loop.run_until_complete(crowds())

    assert begun == [*range(4 * AT_ONCE)]


def test_loop_that_ended_holds_up_no_other(loop: VirtualLoop) -> None:
    turnstile, begun = Turnstile(), list[int]()
    ended = asyncio.new_event_loop()
    for number in range(2 * AT_ONCE):
        turnstile.begin(ended, lambda number=number: begun.append(number))  # type: ignore[misc]
    ended.close()

    assert turns_of(loop, turnstile, 3) == [[0, 1, 2]]
    assert begun == [*range(AT_ONCE)]
