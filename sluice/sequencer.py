"""What breaks ties in the order."""


class Sequencer:
    """The numbers that break ties in the order; several lanes may share them."""

    def __init__(self) -> None:
        self.upcoming = 0

    def take(self) -> int:
        """Return the next number."""
        self.upcoming += 1
        return self.upcoming - 1

    def skip_to(self, number: int) -> None:
        """Return none below `number` any more."""
        self.upcoming = max(self.upcoming, number)
