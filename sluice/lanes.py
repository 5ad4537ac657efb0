"""Every lane of the service, and what is looked for in all of them."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge

from sluice.ingestion import Ingestion
from sluice.journal import SavedKey
from sluice.lane import Lane


class Lanes(Mapping[str, Lane]):
    """The lanes by name. An ingestion is in one of them; an idempotency key is used once in all of them."""

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        self._lanes = dict(lanes)
        self._at_close: list[Callable[[], object]] = []

    def __getitem__(self, name: str) -> Lane:
        return self._lanes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lanes)

    def __len__(self) -> int:
        return len(self._lanes)

    def locate(self, ingestion_id: str) -> tuple[Lane, Ingestion] | None:
        """Return an ingestion and its lane, or None as far as this process knows."""
        for lane in self._lanes.values():
            if ingestion := lane.ingestions.get(ingestion_id):
                return lane, ingestion
        return None

    async def find(self, ingestion_id: str) -> tuple[Lane, Ingestion] | None:
        """Return an ingestion and its lane, whichever process took it in, or None; raise `JournalError` if unsure."""
        if found := self.locate(ingestion_id):
            return found
        await self.catch_up()
        return self.locate(ingestion_id)

    def key(self, key: str) -> SavedKey | None:
        """Return what an idempotency key was last used for."""
        latest: SavedKey | None = None
        for lane in self._lanes.values():
            saved = lane.keys.get(key)
            if saved is not None and (latest is None or saved.created_time > latest.created_time):
                latest = saved
        return latest

    def is_key_in_flight(self, key: str) -> bool:
        """Return whether a submission with this idempotency key is being accepted right now."""
        for lane in self._lanes.values():  # noqa: SIM110, half as long as `any`
            if key in lane.keys_in_flight:
                return True
        return False

    def newest(self, names: Iterable[str], before: int | None) -> Iterator[tuple[Lane, Ingestion]]:
        """Yield the ingestions of the named lanes whose `seq` is less than `before`, newest first."""
        sides = (self._newest(self._lanes[name], before) for name in names)
        return ((lane, ingestion) for _, lane, ingestion in merge(*sides, key=lambda side: side[0], reverse=True))

    async def catch_up(self) -> None:
        """Learn of everything that any process appended before now; raise `JournalError` if that is impossible."""
        await asyncio.gather(*(lane.journal.catch_up() for lane in self._lanes.values()))

    def at_close(self, call: Callable[[], object]) -> None:
        """Have something called when there will be no more progress."""
        self._at_close.append(call)

    def close(self) -> None:
        """Let those who follow the progress of any lane know that there will be no more."""
        for call in self._at_close:
            call()
        for lane in self._lanes.values():
            lane.close()

    @staticmethod
    def _newest(lane: Lane, before: int | None) -> Iterator[tuple[int, Lane, Ingestion]]:
        for seq in lane.by_seq.irange(maximum=before, inclusive=(True, False), reverse=True):
            yield seq, lane, lane.by_seq[seq]
