"""What moves on a terminal: the bar of an ingestion, the picture of a queue."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from sluice.cli.screen import about_queue, ended, fact_grid
from sluice.cli.terminal import Terminal
from sluice.cli.times import clock, duration
from sluice.schemas import IngestionResponse, QueueResponse

ROOM_FOR_ECHO = 3  # columns
NARROW = 70  # columns below which the bar goes without words


class ExpectedColumn(ProgressColumn):
    """When it will be done, and in how long, which ticks between the answers."""

    max_refresh = None

    def __init__(self, now: Callable[[], datetime], *, is_short: bool) -> None:
        super().__init__(Column(no_wrap=True))
        self._now = now
        self._is_short = is_short

    def render(self, task: Task) -> Text:
        """Return the text for now."""
        at, now = task.fields["expected"], self._now()
        if task.fields["is_over"]:
            return Text(f"took {duration(task.fields['took'])}", style="green")
        if task.total is None:
            return Text("")
        if at is None:
            return Text("paused", style="yellow")
        left = max(timedelta(0), timedelta(seconds=round((at - now).total_seconds())))
        relation = f"in {duration(left)}"
        return Text(relation if self._is_short else f"done {clock(at, now)}, {relation}", style="cyan")


class Bar(Progress):
    """Bars over the width of the terminal, but for what it echoes of Ctrl-C, which would break the line."""

    def __init__(self, *columns: ProgressColumn, screen: Console) -> None:
        self._screen = screen
        super().__init__(*columns, console=screen, disable=not screen.is_terminal)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Return the bars."""
        table = super().make_tasks_table(tasks)
        table.width = self._screen.width - ROOM_FOR_ECHO
        return table


@contextmanager
def progress_bar(screen: Console, now: Callable[[], datetime]) -> Iterator[Callable[[IngestionResponse], None]]:
    """Show a bar for as long as the block lasts, and yield what moves it; the last state stays. None off a terminal."""
    is_narrow = screen.width < NARROW
    words = [] if is_narrow else [TextColumn("{task.fields[words]}", markup=False)]
    columns = [
        BarColumn(bar_width=None, complete_style="cyan"),
        TaskProgressColumn(),
        *words,
        ExpectedColumn(now, is_short=is_narrow),
    ]
    bar = Bar(*columns, screen=screen)
    task = bar.add_task("", total=None, expected=None, took=timedelta(0), is_over=False, words="")

    def move(ingestion: IngestionResponse) -> None:
        progress = ingestion.progress
        finished = ingestion.finished_time
        words = f"{ended(progress):,}/{progress.total_batches:,} batches"
        bar.update(
            task,
            total=progress.total_batches,
            completed=ended(progress),
            words=f"{words}, {progress.failed:,} failed" if progress.failed else words,
            expected=ingestion.expected_completion,
            is_over=finished is not None,
            took=(finished or ingestion.created_time) - ingestion.created_time,
        )

    with bar:
        yield move


@contextmanager
def queue_picture(terminal: Terminal, now: Callable[[], datetime]) -> Iterator[Callable[[QueueResponse], None]]:
    """Show a queue for as long as the block lasts, its times ticking, and yield what changes it."""
    latest: list[QueueResponse] = []

    def picture() -> RenderableType:
        return fact_grid(about_queue(terminal, latest[-1], now())) if latest else Text("")

    with Live(get_renderable=picture, console=terminal.screen, refresh_per_second=4) as live:

        def change(queue: QueueResponse) -> None:
            latest[:] = [queue]
            live.refresh()

        yield change
