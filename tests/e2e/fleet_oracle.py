"""What a fleet must have done, told from outside: from what the upstream saw and what the clients were answered."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from tests.e2e.submissions import BATCH_SIZE, Acknowledged, batch_id

# What two calls may lose against each other between the commit that lets a batch start and their arrival: the
# commit's answer, the wake-up of the dispatcher and new connections, on two cores that a dozen processes, which
# are started all the time, and other tests share. 0.1 s has been seen. Whoever forgot the last start, or ran
# beside another, would be early by anything up to the interval, and would be often.
NETWORK = 0.2
TOGETHER = 0.1  # the calls of one batch come within this many seconds
# Between a decision and its calls lies the same, and a disk: who is acknowledged meanwhile does not overtake. What is
# overtaken for another reason goes on waiting.
COMMIT = 0.8
# A process that slept between the commit of a start and its calls makes them when it wakes, within this time.
WAKING = 1.0
AROUND = 2.0  # seconds of the story that a problem is told with
PRIORITIES = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}


class FleetCall(NamedTuple):
    """A call as it came: from when until when, in monotonic seconds, and which life of which process made it."""

    at: float
    until: float
    item: int
    key: str
    caller: str


class Sleep(NamedTuple):
    """A process was stopped at `at` and went on at `until`; `running` has the keys of the batch in flight meanwhile.

    Nothing else was done to the fleet before `settled`.
    """

    caller: str
    at: float
    until: float
    settled: float
    running: frozenset[str]


class Sighting(NamedTuple):
    """A client was told at `at` that the IDs of these calls are done."""

    at: float
    keys: frozenset[str]


@dataclass
class Start:
    """A batch as the upstream saw it: calls of one process, for one ingestion, that came together."""

    at: float
    until: float
    caller: str
    ingestion_id: str
    keys: list[str]

    def __str__(self) -> str:
        return f"{self.caller} called {self.keys} of {self.ingestion_id}"


@dataclass(frozen=True)
class Record:
    """All that is known of a run. `order` has all ids as they were accepted, `deaths` when each caller was killed."""

    interval: float
    calls: Sequence[FleetCall]
    acknowledged: Sequence[Acknowledged]
    order: Sequence[str]
    sightings: Sequence[Sighting] = ()
    sleeps: Sequence[Sleep] = ()
    deaths: Mapping[str, float] = field(default_factory=dict)
    story: Sequence[tuple[float, str]] = ()

    @cached_property
    def owners(self) -> dict[str, str]:
        """The ingestion of each call's key."""
        return {key: each.ingestion_id for each in self.acknowledged for key in each.call_keys}

    @cached_property
    def late(self) -> set[FleetCall]:
        """Calls of batches that were begun before a sleep, made right after it.

        Nothing on this side of the upstream can call them back; their keys make them
        harmless. They are no starts.
        """
        return {
            call
            for sleep in self.sleeps
            for call in self.calls
            if call.caller == sleep.caller
            and sleep.until <= call.at < sleep.until + WAKING
            and call.key in sleep.running
        }

    @cached_property
    def starts(self) -> list[Start]:
        """The calls as batches: `BATCH_SIZE` at most, no key twice, `TOGETHER`.

        However far apart they come, calls that a process makes for the first time
        and for the same `batch_id` are one batch, for that is never split. IDs that
        are tried again, or that were never called because their process died, may
        be of several `batch_id`s.
        """
        starts: list[Start] = []
        latest: dict[str, Start] = {}
        made: set[tuple[str, str]] = set()
        for call in sorted(set(self.calls) - self.late):
            owner = self.owners[call.key]
            start = latest.get(call.caller)
            is_first = (call.caller, call.key) not in made
            made.add((call.caller, call.key))
            if (
                start is None
                or start.ingestion_id != owner
                or call.key in start.keys
                or len(start.keys) == BATCH_SIZE
                or not (
                    call.at - start.at < TOGETHER
                    or (is_first and batch_id(call.key) in {batch_id(key) for key in start.keys})
                )
            ):
                start = latest[call.caller] = Start(call.at, call.until, call.caller, owner, [])
                starts.append(start)
            start.keys.append(call.key)
            start.until = max(start.until, call.until)
        return starts

    def gaps(self) -> list[tuple[float, float]]:
        """Return from when until when no batch started, the longest first."""
        gaps = [(before.at, after.at) for before, after in pairwise(self.starts)]
        return sorted(gaps, key=lambda gap: gap[0] - gap[1])

    def told_around(self, at: float, until: float = 0.0) -> str:
        """Return what happened shortly before `at`, until shortly after, or after `until`."""
        story = [*self.story, *((start.at, str(start)) for start in self.starts)]
        story += [(each.at, f"acknowledged {each.ingestion_id} {each.submission}") for each in self.acknowledged]
        last = max(at, until) + AROUND
        lines = [f"{when - at:+9.4f} s  {what}" for when, what in sorted(story) if at - AROUND < when < last]
        return "\n    ".join(lines)


def problems(record: Record) -> list[str]:
    """Return what went against the rules, each with the story around it."""
    found = [
        *unasked(record),
        *too_early(record),
        *overlapping(record),
        *out_of_order(record),
        *done_again(record),
        *undead(record),
        *left_out(record),
    ]
    return [f"{what}\n    {record.told_around(at)}" for at, what in found]


def unasked(record: Record) -> Iterator[tuple[float, str]]:
    """Yield what was accepted though no client was told, or twice, and what was acknowledged but is unknown."""
    known, told = sorted(record.order), sorted(each.ingestion_id for each in record.acknowledged)
    if known != told:
        yield 0.0, f"accepted and acknowledged differ: {set(known) ^ set(told)}, {len(known)} and {len(told)}"


def too_early(record: Record) -> Iterator[tuple[float, str]]:
    """Yield starts that are closer than the interval."""
    for before, after in pairwise(record.starts):
        if after.at - before.at < record.interval - NETWORK:
            yield after.at, f"{after.at - before.at:.4f} s after the last: {after}"


def overlapping(record: Record) -> Iterator[tuple[float, str]]:
    """Yield starts that came while the upstream still worked on the one before, unless that one's process had died."""
    for before, after in pairwise(record.starts):
        is_dead = record.deaths.get(before.caller, after.at) < after.at
        if after.at < before.until and not is_dead:
            yield after.at, f"{before.until - after.at:.4f} s before the last one's end: {after}"


def out_of_order(record: Record) -> Iterator[tuple[float, str]]:
    """Yield starts that overtook: something smaller was acknowledged and had a batch that was never called."""
    seqs = {ingestion_id: seq for seq, ingestion_id in enumerate(record.order)}
    ranks = {
        each.ingestion_id: (PRIORITIES[each.submission.priority], seqs.get(each.ingestion_id, -1))
        for each in record.acknowledged
    }
    waiting = sorted(record.acknowledged, key=lambda each: each.at)
    times = [each.at for each in waiting]
    uncalled = {each.ingestion_id: set(each.call_keys) for each in record.acknowledged}
    calls = sorted((call.at, call.key) for call in record.late)
    for start in record.starts:
        while calls and calls[0][0] < start.at:
            key = calls.pop(0)[1]
            uncalled[record.owners[key]].discard(key)
        overtaken = [
            each.ingestion_id
            for each in waiting[: bisect_left(times, start.at - COMMIT)]
            if uncalled[each.ingestion_id] and ranks[each.ingestion_id] < ranks[start.ingestion_id]
        ]
        if overtaken:
            yield start.at, f"ahead of {overtaken}: {start}"
        uncalled[start.ingestion_id].difference_update(start.keys)


def done_again(record: Record) -> Iterator[tuple[float, str]]:
    """Yield calls for IDs that a client had been told are done."""
    done: dict[str, float] = {}
    for sighting in sorted(record.sightings):
        for key in sighting.keys:
            done.setdefault(key, sighting.at)
    for call in record.calls:
        if call.at > done.get(call.key, call.at) and call not in record.late:
            yield call.at, f"done for {call.at - done[call.key]:.4f} s: {call}"


def undead(record: Record) -> Iterator[tuple[float, str]]:
    """Yield calls of processes that had been relieved while they were asleep."""
    for sleep in record.sleeps:
        others = [call for call in record.calls if call.caller != sleep.caller and sleep.at < call.at < sleep.until]
        for call in record.calls if others else ():
            if call.caller == sleep.caller and sleep.until <= call.at < sleep.settled and call not in record.late:
                yield call.at, f"asleep for {sleep.until - sleep.at:.1f} s and relieved by {others[-1].caller}: {call}"


def left_out(record: Record) -> Iterator[tuple[float, str]]:
    """Yield batches that were never called."""
    called = {call.key for call in record.calls}
    for each in record.acknowledged:
        if batches := {batch_id(key) for key in each.call_keys if key not in called}:
            yield each.at, f"never called: {batches} of {each.ingestion_id}"
