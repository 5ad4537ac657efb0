"""Cursors tell nothing of the numbers that they stand for."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.api.cursor import LARGEST, Cursors

NUMBERS = st.integers(0, 1000) | st.integers(0, LARGEST)


@given(NUMBERS, st.binary(max_size=32))
def test_cursor_is_turned_back_with_the_same_secret(seq: int, secret: bytes) -> None:
    cursor = Cursors(secret).hide(seq)

    assert 0 <= cursor <= LARGEST
    assert Cursors(secret).reveal(cursor) == seq


@pytest.mark.parametrize("other", [b"b", b""])
def test_cursor_is_nothing_without_the_secret(other: bytes) -> None:
    cursors = [Cursors(b"a").hide(seq) for seq in range(1000)]

    assert sum(Cursors(other).reveal(cursor) < 2**32 for cursor in cursors) < 5
    assert sum(after > before for before, after in pairwise(cursors)) in range(400, 600)
