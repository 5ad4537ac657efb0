"""Which work goes first."""

import sys
from typing import NamedTuple, Protocol

from sluice.ingestion import Ingestion
from sluice.models import Priority

Rank = tuple[float, float, int]


class Placed(Protocol):
    """What has a place in the order."""

    @property
    def priority(self) -> Priority:
        """How urgent it is."""

    @property
    def created_time(self) -> float:
        """Since when it has been waiting, in Unix seconds."""

    @property
    def seq(self) -> int:
        """When it came, among those of the same time."""


class Order:
    """The order: the work with the smallest rank goes first.

    With `aging`, work that has waited for that many seconds moves up one class, and
    takes its place there by when it came to that class. So in the class HIGH it has
    the place of what came at `created_time + aging * class` (0, 1 or 2), and two
    pieces of work are never the other way round before: the same class is later
    reached in the same order. That one time is the whole order, then, and stays as it
    is; nothing has to be moved as time passes.
    """

    def __init__(self, aging: float | None = None) -> None:
        """Take the seconds after which work moves up a class, if it does."""
        self.aging = aging

    def rank(self, work: Placed) -> Rank:
        """Return what is compared. No two have the same, for `seq` differs."""
        if self.aging is None:
            return work.priority, work.created_time, work.seq
        return 0, work.created_time + self.aging * work.priority, work.seq


class Stretch(NamedTuple):
    """Batches of one ingestion that follow each other, all of them full but the last, which has `last_length` IDs."""

    slots: int
    last_length: int


class Work(NamedTuple):
    """Work and its place in the order. An ingestion has two stretches at most: IDs tried again, and those yet to start.

    What is not in the backlog is new: it takes its slots from what is behind it. Whatever
    number it will get (others may give it, and have given many), it is behind all that have one.
    It ends with its stretches or, if it `awaits_retries`, with what is still to be tried again.
    """

    priority: Priority
    created_time: float
    stretches: tuple[Stretch, ...]
    seq: int = sys.maxsize
    awaits_retries: bool = True

    @property
    def slots(self) -> int:
        """How many slots it takes."""
        return sum(stretch.slots for stretch in self.stretches)

    @property
    def is_new(self) -> bool:
        """Whether it is not in the backlog."""
        return self.seq == sys.maxsize


def work_of(ingestion: Ingestion) -> Work:
    """Return what the backlog counts of an ingestion: with IDs yet to come, those ready to be tried again are not."""
    stretches: tuple[Stretch, ...] = ()
    size = ingestion.batch_size
    if (again := len(ingestion.ready)) and not ingestion.delayed:
        stretches += (Stretch(-(-again // size), (again - 1) % size + 1),)
    if ingestion.unstarted:
        stretches += (Stretch(ingestion.unstarted, len(ingestion.positions_of(ingestion.total - 1))),)
    return Work(ingestion.priority, ingestion.created_time, stretches, ingestion.seq)


def ready_work_of(ingestion: Ingestion, ids: int = sys.maxsize) -> Work:
    """Return the work of a waiting ingestion that could start now, but none after so many IDs (1 or more) yet to start.

    Where there is none but IDs that are tried again, all of those.
    """
    work = work_of(ingestion)
    size = ingestion.batch_size
    if (slots := -(-ids // size)) < ingestion.unstarted:
        work = work._replace(stretches=(*work.stretches[:-1], Stretch(slots, size)))
    return work._replace(awaits_retries=not work.stretches)
