"""Watching things happen."""

import json
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Annotated, Generic, TypeVar

import typer
from pydantic import BaseModel

from sluice.cli.batches import first_failures
from sluice.cli.client import Client
from sluice.cli.commands.options import DEFAULT_URL, Lane, Url, connect
from sluice.cli.commands.submit import MOST_FAILURES, goes_on, outcome
from sluice.cli.errors import ExitCode
from sluice.cli.follow import Step, follow_ingestion, follow_queue
from sluice.cli.live import progress_bar, queue_picture
from sluice.cli.screen import counts, facts, queue_line, summary
from sluice.cli.terminal import Terminal, plain
from sluice.cli.times import stamp
from sluice.schemas import QueueResponse, StatusResponse

Model = TypeVar("Model", bound=BaseModel)


def watch(
    ingestion_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="The ingestion's id; without it, the queue.", show_default=False),
    ] = None,
    lane: Lane = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON per event, for machines.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Watch an ingestion until it is completed, or the queue until Ctrl-C.

    Ends with 1 if any ID of the ingestion was not completed.
    """
    client, terminal = connect(url)
    if ingestion_id is None:
        _watch_queue(client, terminal, lane, as_json=as_json)
    else:
        raise typer.Exit(_watch_ingestion(client, terminal, ingestion_id, as_json=as_json))


def _watch_ingestion(client: Client, terminal: Terminal, ingestion_id: str, *, as_json: bool) -> ExitCode:
    changes = Changes[StatusResponse](lambda status: (status.status, status.priority, repr(status.progress)))
    latest: StatusResponse | None = None
    with ExitStack() as stack:
        stack.enter_context(goes_on(terminal, ingestion_id))
        is_drawn = terminal.is_interactive and not as_json
        move = stack.enter_context(progress_bar(terminal.screen, client.now)) if is_drawn else None
        for step in follow_ingestion(client, ingestion_id, terminal.say):
            latest = step.answer.content
            if move:
                move(latest)
            elif as_json:
                changes.print_json(terminal, "status", step)
            elif changes.is_one(latest):
                expected = stamp(latest.finished_time or latest.expected_completion)
                described = f"{counts(latest.progress)}; done {expected or 'when resumed'}"
                terminal.line(f"{stamp(client.now())} {latest.priority}: {described}")
    assert latest is not None, "following yields at least one step"
    if not as_json:
        facts(terminal, summary(latest, first_failures(client, latest, MOST_FAILURES)))
    return outcome(latest)


def _watch_queue(client: Client, terminal: Terminal, lane: str | None, *, as_json: bool) -> None:
    changes = Changes[QueueResponse](lambda queue: repr(queue.model_copy(update={"next_start": None})))
    with ExitStack() as stack:
        is_drawn = terminal.is_interactive and not as_json
        change = stack.enter_context(queue_picture(terminal, client.now)) if is_drawn else None
        for step in follow_queue(client, lane, terminal.say):
            queue = step.answer.content
            if change:
                change(queue)
            elif as_json:
                changes.print_json(terminal, "queue", step)
            elif changes.is_one(queue):
                terminal.line(f"{stamp(client.now())} {plain(queue_line(queue))}")


class Changes(Generic[Model]):
    """Tells what is new from what only was looked at again."""

    def __init__(self, key: Callable[[Model], Hashable]) -> None:
        self._key = key
        self._last: Hashable = None

    def is_one(self, state: Model) -> bool:
        """Return whether this is not what it was the last time."""
        last, self._last = self._last, self._key(state)
        return last != self._last

    def print_json(self, terminal: Terminal, kind: str, step: Step[Model]) -> None:
        """Print the events of a step, a line each; where none told of the change, how things are now, as a `kind`."""
        is_change = self.is_one(step.answer.content)
        for event in step.events:
            terminal.json_line({"event": event.kind, **json.loads(event.data)})
        if is_change and not step.events:
            terminal.json_line({"event": kind, **json.loads(step.answer.text)})
