"""What a soak's records say: whether anything was lost or called twice, and whether pace and order were kept."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from benchmarks.soak_mix import BATCH_SIZE, PRIORITIES, Submitted
from benchmarks.soak_witnesses import Call

# Seconds before a slot within which an acknowledgement need not have been heard by who decided what is in it.
MARGIN = 0.05
EXPIRY = 5.0  # seconds by which the clocks of who submits and who forgets may tell different times


@dataclass
class Start:
    """A batch as the upstream saw it: when its first call came, when its last answer went, and what it was of."""

    at: float
    ended: float
    batch_id: str
    submitted: Submitted
    index: int
    is_again: bool
    keys: set[str]


class Records(NamedTuple):
    """All that is known in the end: what was acknowledged, what was called, and what was listed once all stood still.

    `ended_at` is when that was, in monotonic seconds, and `retention` for how many seconds all is to be kept.
    """

    submitted: Mapping[str, Submitted]
    calls: Sequence[Call]
    listed: Mapping[str, Mapping[str, Any]]
    ended_at: float
    retention: float


@dataclass
class Findings:
    """What is wrong: a line about each."""

    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)


@dataclass(order=True)
class _Span:
    """A time in which something surely waited with a priority, in monotonic seconds."""

    begun: float
    ended: float = field(compare=False)
    priority: int = field(compare=False)
    submitted: Submitted = field(compare=False)


class Pace(NamedTuple):
    """Of each start but the first, in seconds: how much too early it was, and how late, once it could have been."""

    early: list[float]
    late: list[tuple[float, float]]  # with when it was due


Calls = Mapping[str, Mapping[str, list[Call]]]  # by batch and `Idempotency-Key`


# What was lost, and what was too much


def audit(records: Records) -> tuple[list[Start], Findings]:
    """Compare what was acknowledged with what was called and listed; return the starts too."""
    calls: defaultdict[str, defaultdict[str, list[Call]]] = defaultdict(lambda: defaultdict(list))
    for call in sorted(records.calls):
        calls[call.key.partition("/")[0]][call.key].append(call)
    owners: dict[str, tuple[Submitted, int]] = {}
    found = Findings()
    for each in records.submitted.values():
        started = _started(each, calls)
        owners.update((batch_id, (each, index)) for index, batch_id in enumerate(started))
        is_called = _check_calls(each, started, calls, records, found)
        _check_state(each, started, calls, records, found, is_called=is_called)
    found.strange += [f"batch {each} was called, of nothing acknowledged" for each in calls.keys() - owners.keys()]
    unknown = records.listed.keys() - records.submitted.keys()
    found.strange += [f"{each} is listed, and was never acknowledged" for each in unknown]
    return list(_starts(sorted(records.calls), owners)), found


def _started(submitted: Submitted, calls: Calls) -> list[str]:
    """Return the ids of the batches that were called: the first so many, for they start in that order."""
    started = []
    for index in range(submitted.batches):
        batch_id = str(uuid5(UUID(submitted.ingestion_id), str(index)))
        if batch_id not in calls:
            break
        started.append(batch_id)
    return started


def _check_calls(submitted: Submitted, started: Sequence[str], calls: Calls, records: Records, found: Findings) -> bool:
    """Check the calls of every batch that started; return whether all IDs of them were answered well."""
    end = submitted.first + submitted.size
    is_called = True
    for index, batch_id in enumerate(started):
        first = submitted.first + BATCH_SIZE * index
        made = calls[batch_id]
        keys = {f"{batch_id}/{item}" for item in range(first, min(first + BATCH_SIZE, end))}
        found.lost += [f"{each} was not called with its batch" for each in keys - made.keys()]
        found.strange += [f"{each} was called, and nobody submitted it" for each in made.keys() - keys]
        for key in keys & made.keys():
            answers = [call.is_ok for call in made[key]]
            if True in answers[:-1]:
                found.repeated.append(f"{key} was called again after a good answer")
            if not answers[-1]:
                is_called = False
                waits = records.listed.get(submitted.ingestion_id, {}).get("status") == "triggered"
                if submitted.cancelled is None and not waits:
                    found.lost.append(f"{key} failed and was not called again")
    return is_called


def _check_state(  # noqa: PLR0913 - all that is known
    submitted: Submitted,
    started: Sequence[str],
    calls: Calls,
    records: Records,
    found: Findings,
    *,
    is_called: bool,
) -> None:
    """Check that what is listed agrees with the calls, and that what is not was done long ago."""
    name, count = submitted.ingestion_id, len(started)
    if submitted.cancelled is not None and count != submitted.batches - submitted.cancelled:
        found.strange.append(f"{name}: {count} of {submitted.batches} called, {submitted.cancelled} cancelled")
    if (listed := records.listed.get(name)) is not None:
        progress = listed["progress"]
        told = progress["total_batches"] - progress["yet_to_start"] - progress["cancelled"]
        if progress["total_ids"] != submitted.size or told != count:
            found.lost.append(f"{name}: {count} batches were called, and {progress} is told")
        return
    is_done = submitted.cancelled is not None or (count == submitted.batches and is_called)
    if not is_done:
        found.lost.append(f"{name} is not listed: {count} of {submitted.batches} batches were called")
    answered = [call.answered for batch_id in started for each in calls[batch_id].values() for call in each]
    done_at = max(answered, default=0.0) if count == submitted.batches else submitted.cancel_at
    if is_done and done_at > records.ended_at - records.retention + EXPIRY:
        found.lost.append(f"{name} was forgotten {records.ended_at - done_at:.1f} s after it was done, or sooner")


def _starts(calls: Sequence[Call], owners: Mapping[str, tuple[Submitted, int]]) -> Iterator[Start]:
    """Group the calls into batches. IDs tried again share a slot with others of the same ingestion only."""
    last: Start | None = None
    before: set[str] = set()
    for call in calls:
        batch_id = call.key.partition("/")[0]
        if batch_id not in owners:
            continue
        submitted, index = owners[batch_id]
        is_again = call.key in before
        if (
            last is not None
            and is_again == last.is_again
            and len(last.keys) < BATCH_SIZE
            and call.key not in last.keys
            # They come together, and one after the other no sooner than an answer.
            and (last.submitted is submitted and call.at < last.ended if is_again else batch_id == last.batch_id)
        ):
            last.keys.add(call.key)
            last.ended = max(last.ended, call.answered)
        else:
            if last is not None:
                yield last
            last = Start(call.at, call.answered, batch_id, submitted, index, is_again, {call.key})
        before.add(call.key)
    if last is not None:
        yield last


# When


def pace(starts: Sequence[Start], interval: float) -> Pace:
    """Compare each start with the one before."""
    gaps = list(pairwise(starts))
    dues = [max(before.at + interval, before.ended) for before, _ in gaps]
    return Pace(
        [before.at + interval - after.at for before, after in gaps],
        [(due, max(0.0, after.at - due)) for due, (_, after) in zip(dues, gaps, strict=True)],
    )


# In which order


def inversions(starts: Sequence[Start], submitted: Mapping[str, Submitted], interval: float) -> list[str]:
    """Return a line about each start before which something else should have been.

    Something had to go first if it had been acknowledged, and nobody had asked to change
    it, when the slot was decided on, and it is more urgent, or as urgent and
    acknowledged before the other was sent.
    """
    spans = sorted(span for each in submitted.values() for span in _spans(each))
    waiting: tuple[list[tuple[float, int, _Span]], ...] = tuple([] for _ in PRIORITIES)
    begun: defaultdict[str, int] = defaultdict(int)
    wrong, place, before = [], 0, -inf
    for start in starts:
        # The decision on it cannot have been made sooner than an interval after the start before.
        decided = min(start.at, before + interval) - MARGIN
        while place < len(spans) and spans[place].begun < decided:
            span = spans[place]
            heappush(waiting[span.priority], (span.submitted.acknowledged_at, place, span))
            place += 1
        priority = _most_urgent(start, decided)
        for above in range(priority + 1):
            queue = waiting[above]
            while queue and (queue[0][2].ended <= start.at or _is_begun(queue[0][2].submitted, begun)):
                heappop(queue)
            if queue and (above < priority or queue[0][0] < start.submitted.sent_at):
                first = queue[0][2].submitted
                wrong.append(
                    f"{PRIORITIES[priority]} {start.batch_id} started {start.at - queue[0][0]:.3f} s after"
                    f" {PRIORITIES[above]} {first.ingestion_id} was acknowledged, which waited"
                )
                break
        if not start.is_again:
            begun[start.submitted.ingestion_id] = start.index + 1
        before = start.at
    return wrong


def _is_begun(submitted: Submitted, begun: Mapping[str, int]) -> bool:
    return begun.get(submitted.ingestion_id, 0) >= submitted.batches


def _spans(submitted: Submitted) -> Iterator[_Span]:
    changes = [(submitted.acknowledged_at, submitted.priority)]
    priority = submitted.priority
    for move in submitted.moves:
        priority = move.priority if move.is_made else priority
        changes.append((move.answered_at, priority))
    ends = [*(move.asked_at for move in submitted.moves), inf]
    for (begun, of_then), ended in zip(changes, ends, strict=True):
        if begun < (end := min(ended, submitted.cancel_at)):
            yield _Span(begun, end, of_then, submitted)


def _most_urgent(start: Start, decided: float) -> int:
    """Return the most urgent priority that the ingestion can have had between the decision and the start."""
    moves = start.submitted.moves
    until = [*(move.answered_at for move in moves), inf]
    possible = [(-inf, start.submitted.priority), *((move.asked_at, move.priority) for move in moves)]
    return min(
        priority for (since, priority), end in zip(possible, until, strict=True) if since <= start.at and end >= decided
    )
