"""Taking in what has an idempotency key: while it is being recorded, and whatever way it becomes known."""

from collections.abc import Sequence

from sluice.admission import Room
from sluice.events import Accepted, Event, Idempotency
from sluice.intake import Intake, Submission
from sluice.journal import Saved, SavedIngestion, SavedKey
from sluice.journal.memory import MemoryJournal
from sluice.lane import Lane
from sluice.lanes import Lanes
from sluice.models import Priority
from sluice.pace import Pace
from tests.virtual import VirtualClock, VirtualLoop

TTL = 100.0
KEY = Idempotency("k", b"digest")


class RestoringJournal(MemoryJournal):
    """Has what is appended come to the lane within a whole state, as where others' events were trimmed meanwhile."""

    lane: Lane

    async def append(self, events: Sequence[Event]) -> None:
        (accepted,) = events
        assert isinstance(accepted, Accepted)
        assert accepted.idempotency
        key = SavedKey(accepted.idempotency, accepted.ingestion_id, accepted.created_time)
        saved = SavedIngestion(
            accepted, started=0, is_cancelled=False, gives_up=False, waiting=(), failed=(), changed_time=0.0
        )
        self.lane.restore(Saved([saved], [key]))


def test_key_whose_ingestion_came_with_a_restored_state_can_be_used_again_in_time(loop: VirtualLoop) -> None:
    journal = RestoringJournal()
    lane = journal.lane = Lane(journal, Pace(5.0), 3)
    intake, lanes = Intake(Room(10, 10), TTL, VirtualClock(loop)), Lanes({"default": lane})
    submission = Submission([1], Priority.LOW, "", KEY)

    def submit() -> tuple[str, bool]:
        taken: tuple[str, bool] = loop.run_until_complete(intake.take_once(lanes, lane, submission))
        return taken

    first = submit()
    again = submit()
    loop.advance(TTL)
    later = submit()

    assert again == (first[0], True)
    assert later[0] != first[0]
    assert not later[1]
