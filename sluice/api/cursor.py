"""Cursors: where a list goes on, in a number that tells nothing of how many ingestions others have made."""

from hashlib import blake2b

HALF = 32  # bits
MASK = (1 << HALF) - 1
LARGEST = (1 << 2 * HALF) - 1
ROUNDS = range(4)


class Cursors:
    """Turns the number of an ingestion into a cursor and back (a Feistel network); with one secret, alike anywhere."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def hide(self, seq: int) -> int:
        """Return the cursor for a number from 0 to `LARGEST`."""
        left, right = seq >> HALF, seq & MASK
        for number in ROUNDS:
            left, right = right, left ^ self._mix(number, right)
        return left << HALF | right

    def reveal(self, cursor: int) -> int:
        """Return the number that a cursor is for."""
        left, right = cursor >> HALF, cursor & MASK
        for number in reversed(ROUNDS):
            left, right = right ^ self._mix(number, left), left
        return left << HALF | right

    def _mix(self, number: int, half: int) -> int:
        digest = blake2b(bytes([number]) + half.to_bytes(HALF // 8), key=self._secret, digest_size=HALF // 8)
        return int.from_bytes(digest.digest())
