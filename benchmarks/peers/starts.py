"""When batches started, from the calls that the upstream noted, and what that says about pace and order."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from benchmarks.peers.job import BATCH_SIZE, FIRST, HIGH, IDS, INTERVAL
from benchmarks.peers.recorder import Call

JITTER = 0.001  # seconds by which the way to the upstream may bring two calls nearer to each other
KNOWN = 0.1  # seconds after which an accepted job is one that a dispatcher must know of


class Start(NamedTuple):
    """A batch that started: when, in monotonic seconds, of which job, and which of its batches."""

    at: float
    job: int
    batch: int

    @property
    def is_high(self) -> bool:
        """Whether its job was submitted as `HIGH`."""
        return self.job >= FIRST[HIGH]

    def is_again(self, other: "Start") -> bool:
        """Tell whether it is the same batch."""
        return (self.job, self.batch) == (other.job, other.batch)


def starts(calls: Sequence[Call]) -> list[Start]:
    """Return the first call of each attempt at a batch, as they came."""
    found = []
    seen: dict[tuple[int, int], set[int]] = {}
    for call in calls:
        number = call.item - 1
        batch = number // IDS, number % IDS // BATCH_SIZE
        if batch not in seen or call.item in seen[batch]:
            seen[batch] = set()
            found.append(Start(call.at, *batch))
        seen[batch].add(call.item)
    return found


def gaps(run: Sequence[Start]) -> list[float]:
    """Return the seconds from each start to the next."""
    return [after.at - before.at for before, after in pairwise(run)]


def share(run: Sequence[Start]) -> float:
    """Return how much of the permitted rate was used."""
    return INTERVAL * (len(run) - 1) / (run[-1].at - run[0].at)


def too_early(run: Sequence[Start]) -> int:
    """Return how many batches started before the interval was over."""
    return sum(gap < INTERVAL - JITTER for gap in gaps(run))


def inversions(run: Sequence[Start], accepted: Mapping[int, float]) -> int:
    """Return how many batches of `LOW` started while one of a `HIGH` job waited that had long been accepted."""
    first: dict[tuple[int, int], float] = {}
    for start in run:
        first.setdefault((start.job, start.batch), start.at)
    waits = [
        (at + KNOWN, first.get((job, batch), float("inf")))
        for job, at in accepted.items()
        for batch in range(-(-IDS // BATCH_SIZE))
    ]
    return sum(not start.is_high and any(since < start.at < until for since, until in waits) for start in run)
