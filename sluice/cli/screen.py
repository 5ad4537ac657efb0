"""How things look: tables and facts; on a terminal for people, elsewhere as stable plain text."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich import box
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluice.cli.terminal import Terminal, plain
from sluice.cli.times import NOTHING, clock, duration, moment, stamp
from sluice.schemas import BatchResponse, IngestionResponse, Progress, QueueResponse, RunningResponse, SharedSlot

STYLES = {
    "yet_to_start": "dim",
    "triggered": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "held": "yellow",
}
PAUSED = "not while the queue is paused"
NUMBERS = ("batches", "ahead")
LONG = ("ids", "errors")  # columns that are broken over lines
LEAST_LONG = 20
WIDEST = 10_000
MOST_PARTS = 20  # of a shared slot that are named
Fact = tuple[str, str]


def facts(terminal: Terminal, rows: Iterable[Fact], *, on_errors: bool = False) -> None:
    """Show names and what they are: aligned on a terminal, else `name: text` lines. Empty ones are left out."""
    screen = terminal.error_screen if on_errors else terminal.screen
    if screen.is_terminal:
        screen.print(fact_grid(rows))
        return
    for name, text in rows:
        if text:
            terminal.line(f"{name}: {plain(text)}", on_errors=on_errors)


def fact_grid(rows: Iterable[Fact]) -> Table:
    """Return names and what they are, aligned, for a terminal. Empty ones are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in rows:
        if text:
            grid.add_row(name, Text(plain(text), style=_style(name if name in STYLES else text)))
    return grid


def table(terminal: Terminal, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Show rows under a header: aligned on a terminal, else with tabs between, a line each."""
    if not terminal.is_interactive:
        for row in (header, *rows):
            terminal.line("\t".join(map(plain, row)))
        return
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False, header_style="bold")
    for name in header:
        is_long = name in LONG
        grid.add_column(
            name,
            justify="right" if name in NUMBERS else "left",
            no_wrap=not is_long,
            overflow="fold",
            min_width=LEAST_LONG if is_long else None,
        )
    cells = [[Text(plain(cell), style=_style(cell)) for cell in row] for row in rows]
    for each in cells:
        grid.add_row(*each)
    unlimited = terminal.screen.options.update(width=WIDEST)
    if terminal.screen.measure(grid, options=unlimited).minimum <= terminal.screen.width:
        terminal.screen.print(grid)
        return
    # Too narrow for columns: what is most often copied has a line for itself.
    for first, *rest in cells:
        terminal.screen.print(first)
        terminal.screen.print(Padding(Text("  ").join(each for each in rest if each.plain), (0, 0, 0, 2)))


def when(terminal: Terminal, at: datetime | None, now: datetime, *, on_errors: bool = False) -> str:
    """Return a time as it is shown there: for people on a terminal, else RFC 3339."""
    screen = terminal.error_screen if on_errors else terminal.screen
    return moment(at, now) if screen.is_terminal else stamp(at)


def counts(progress: Progress) -> str:
    """Return how the batches stand, without what there is none of: `7 completed, 1 failed, 2 yet to start`."""
    named = [
        (progress.completed, "completed"),
        (progress.failed, "failed"),
        (progress.cancelled, "cancelled"),
        (progress.triggered, "triggered"),
        (progress.yet_to_start, "yet to start"),
    ]
    return ", ".join(f"{count:,} {name}" for count, name in named if count)


def ended(progress: Progress) -> int:
    """Return how many batches are done, one way or another."""
    return progress.completed + progress.failed + progress.cancelled


def about(terminal: Terminal, ingestion: IngestionResponse, now: datetime) -> list[Fact]:
    """Return what there is to say of an ingestion."""
    progress = ingestion.progress
    of = f"{progress.total_ids:,} IDs in {progress.total_batches:,} batches"
    rows = [
        ("ingestion", ingestion.ingestion_id),
        ("status", ingestion.status),
        ("priority", ingestion.priority),
        ("lane", ingestion.lane),
        ("size", of),
        ("batches", counts(progress)),
        ("created", when(terminal, ingestion.created_time, now)),
    ]
    if ingestion.finished_time is not None:
        took = duration(ingestion.finished_time - ingestion.created_time)
        return [*rows, ("finished", when(terminal, ingestion.finished_time, now)), ("took", took)]
    if ingestion.expected_completion is None:
        return [*rows, ("expected", PAUSED)]
    return [
        *rows,
        ("ahead", f"{ingestion.position:,} batches" if ingestion.position is not None else ""),
        ("next start", when(terminal, ingestion.expected_start, now)),
        ("expected", when(terminal, ingestion.expected_completion, now)),
    ]


def summary(ingestion: IngestionResponse, failures: Sequence[str]) -> list[Fact]:
    """Return what is left to say of an ingestion that is completed."""
    progress = ingestion.progress
    finished = ingestion.finished_time or ingestion.created_time
    return [
        ("ingestion", ingestion.ingestion_id),
        ("completed", f"{progress.completed:,} of {progress.total_batches:,} batches"),
        ("failed", f"{progress.failed:,} batches" if progress.failed else ""),
        ("cancelled", f"{progress.cancelled:,} batches" if progress.cancelled else ""),
        ("duration", duration(finished - ingestion.created_time)),
        *(("failure", failure) for failure in failures),
    ]


def about_queue(terminal: Terminal, queue: QueueResponse, now: datetime) -> list[Fact]:
    """Return what there is to say of a queue."""
    running = queue.running
    next_start = when(terminal, queue.next_start, now) if queue.next_start else "nothing waits"
    return [
        ("lane", queue.lane),
        ("paused", _paused(terminal, queue, now)),
        ("held", f"until {when(terminal, queue.hold.until, now)}: {queue.hold.reason}" if queue.hold else ""),
        ("running", _running(running)),
        ("since", when(terminal, running.started_at, now) if running else ""),
        ("next start", "not while paused" if queue.paused else next_start),
        ("waiting", ", ".join(f"{count:,} {priority}" for priority, count in queue.waiting.items()) + " batches"),
        ("retrying", f"{queue.retrying:,} ingestions wait to try IDs again" if queue.retrying else ""),
    ]


def queue_line(queue: QueueResponse) -> str:
    """Return how a queue is, in one line, with times for machines."""
    waiting = ", ".join(f"{count} {priority}" for priority, count in queue.waiting.items())
    paused = f"; paused: {queue.paused.reason or 'no reason given'}" if queue.paused else ""
    held = f"; held until {stamp(queue.hold.until)}: {queue.hold.reason}" if queue.hold else ""
    return f"running {_running(queue.running)}; waiting {waiting}{paused}{held}"


def ingestion_row(terminal: Terminal, ingestion: IngestionResponse, now: datetime) -> list[str]:
    """Return the cells of an ingestion in a list; `LIST_HEADER` names them."""
    progress = ingestion.progress
    state = str(ingestion.status)
    if ingestion.status == "completed" and (progress.failed or progress.cancelled):
        state = "failed" if progress.failed else "cancelled"
    done = ingestion.finished_time or ingestion.expected_completion
    return [
        ingestion.ingestion_id,
        state if terminal.is_interactive else str(ingestion.status),
        ingestion.priority,
        f"{ended(progress)}/{progress.total_batches}",
        clock(done, now) if terminal.is_interactive else stamp(done),
    ]


LIST_HEADER = ("ingestion", "status", "priority", "batches", "done")


def batch_row(batch: BatchResponse) -> list[str]:
    """Return the cells of a batch; `BATCH_HEADER` names them."""
    notes = [f"{each.id}: {each.error}" for each in (*batch.failed, *batch.retrying)]
    return [batch.batch_id, batch.status, _some(batch.ids), "; ".join(notes)]


BATCH_HEADER = ("batch", "status", "ids", "errors")


def _paused(terminal: Terminal, queue: QueueResponse, now: datetime) -> str:
    if queue.paused is None:
        return ""
    since = f"since {when(terminal, queue.paused.since, now)}"
    return f"{since}: {queue.paused.reason}" if queue.paused.reason else since


def _running(running: RunningResponse | None) -> str:
    """Return what has the slot: the IDs of each ingestion that shares it, as far as one can take that in."""
    if running is None:
        return "nothing"
    parts: list[SharedSlot] = [running, *running.also]
    shown = ", ".join(f"{_some(part.ids)} of {part.ingestion_id}" for part in parts[:MOST_PARTS])
    left = len(parts) - MOST_PARTS
    return f"{shown} and {left:,} more" if left > 0 else shown


def _some(ids: Sequence[int], most: int = 6) -> str:
    shown = " ".join(map(str, ids[:most]))
    return shown if len(ids) <= most else f"{shown} and {len(ids) - most} more"


def _style(cell: str) -> str:
    return STYLES.get(cell, "dim" if cell == NOTHING else "")
