"""Following results in virtual time: when the next lines come, and what comes while there are none."""

from array import array
from collections import Counter
from math import inf

import pytest

from sluice import control
from sluice.api.results import lines
from sluice.events import Accepted, Finished, Outcome, Started
from sluice.ingestion import Ingestion
from sluice.journal import Saved, SavedIngestion
from sluice.models import Priority
from sluice.stream import AT_ONCE, REST, Stream
from tests.virtual import Bench, RecordingUpstream, VirtualLoop

SILENCE = 15.0
SOON = 2 * REST


class Follower:
    """One who follows the results of an ingestion until a time."""

    def __init__(self, bench: "Followed", ingestion: Ingestion, until: float = inf) -> None:
        self.pieces: list[bytes] = []
        self.times: list[float] = []
        self._bench, self._ingestion, self._until = bench, ingestion, until
        self.task = bench.loop.create_task(self._follow())
        bench.loop.advance(0)

    @property
    def text(self) -> bytes:
        return b"".join(self.pieces)

    async def _follow(self) -> None:
        async for piece in lines(self._bench.lane, self._ingestion, self._bench.stream, self._longest_silence):
            self.pieces.append(piece)
            self.times.append(self._bench.clock.now())

    def _longest_silence(self) -> float:
        return min(SILENCE, self._until - self._bench.clock.now())


class Followed(Bench):
    """A lane that nothing runs, and what happens to it is passed on."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(loop, RecordingUpstream())
        self.stream = Stream(self.clock)
        self.stream.watch(self.lane)
        loop.create_task(self.stream.run())

    def run_batch(self, ingestion: Ingestion) -> None:
        """Have the first batch, of three, start and end now."""
        now = self.clock.now()
        outcomes = tuple(Outcome(position, 1, data=b"1") for position in range(3))
        self.decide(lambda: [Started(ingestion.ingestion_id, (0, 1, 2), now)])
        self.decide(lambda: [Finished(ingestion.ingestion_id, outcomes, now, self.clock.time())])


@pytest.fixture
def followed(loop: VirtualLoop) -> Followed:
    return Followed(loop)


def test_crowd_of_followers_goes_on_a_few_at_a_time(followed: Followed) -> None:
    ingestion = followed.submit([1, 2, 3], Priority.LOW)
    crowd = [Follower(followed, ingestion) for _ in range(10 * AT_ONCE)]

    followed.run_batch(ingestion)
    followed.loop.advance(1)

    assert all(follower.text.count(b"\n") == 3 for follower in crowd)
    assert max(Counter(follower.times[0] for follower in crowd).values()) <= AT_ONCE


def test_follower_of_another_ingestion_is_not_woken(followed: Followed) -> None:
    ingestion, other = followed.submit([1, 2, 3], Priority.LOW), followed.submit([4], Priority.LOW)
    follower = Follower(followed, other)

    followed.run_batch(ingestion)
    followed.loop.advance(SOON)

    assert (follower.pieces, follower.task.done()) == ([], False)


def test_silence_is_broken_by_white_space_before_the_next_line(followed: Followed) -> None:
    ingestion = followed.submit([1, 2, 3, 4], Priority.LOW)
    follower = Follower(followed, ingestion)

    followed.loop.advance(2.5 * SILENCE)
    followed.run_batch(ingestion)
    followed.loop.advance(SOON)

    assert follower.text.startswith(b'  {"id":1,')
    assert follower.text.count(b"\n") == 3


def test_follower_leaves_when_its_time_is_up(followed: Followed) -> None:
    ingestion = followed.submit([1, 2, 3, 4], Priority.LOW)
    follower = Follower(followed, ingestion, until=followed.clock.now() + 2 * SILENCE + 1)

    followed.loop.advance(2 * SILENCE)
    assert not follower.task.done()
    followed.loop.advance(2)

    assert follower.task.done()


@pytest.mark.parametrize("end", ["cancelled", "closed"])
def test_follower_leaves_when_there_is_nothing_more_to_come(followed: Followed, end: str) -> None:
    ingestion = followed.submit([1, 2, 3, 4], Priority.LOW)
    follower = Follower(followed, ingestion)

    if end == "cancelled":
        followed.decide(lambda: control.cancel(ingestion, followed.clock.time()))
    else:
        followed.stream.close()
        followed.lane.close()
    followed.loop.advance(SOON)

    assert (follower.text, follower.task.done()) == (b"", True)


def test_follower_goes_on_with_what_is_there_after_a_restoration(followed: Followed) -> None:
    ingestion = followed.submit([1, 2, 3], Priority.LOW)
    follower = Follower(followed, ingestion)
    followed.journal.attach(lambda event: None, followed.lane.restore)  # the lane misses what comes now
    followed.run_batch(ingestion)
    followed.loop.advance(SOON)
    before = list(follower.pieces)

    accepted = Accepted(
        ingestion.ingestion_id, Priority.LOW, ingestion.created_time, ingestion.seq, 3, array("I", [1, 2, 3])
    )
    followed.lane.restore(Saved([SavedIngestion(accepted, 1, False, False, (), (), 8.0)], (), 2.0))
    followed.loop.advance(SOON)

    assert before == []
    assert follower.text.count(b"\n") == 3
    assert follower.task.done()


def test_follower_of_what_a_restoration_lacks_leaves(followed: Followed) -> None:
    follower = Follower(followed, followed.submit([1, 2, 3], Priority.LOW))

    followed.lane.restore(Saved())
    followed.loop.advance(SOON)

    assert follower.task.done()
