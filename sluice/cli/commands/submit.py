"""Handing work in, and waiting for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import uuid4

import typer

from sluice.cli.batches import first_failures
from sluice.cli.client import Client
from sluice.cli.commands.options import DEFAULT_URL, AsJson, Column, Lane, Sources, Url, connect
from sluice.cli.errors import ExitCode, UnreachableError
from sluice.cli.follow import follow_ingestion
from sluice.cli.ids import is_count, read_ids
from sluice.cli.live import progress_bar
from sluice.cli.screen import PAUSED, facts, summary, table, when
from sluice.cli.terminal import Terminal, plain
from sluice.schemas import PriorityName, StatusResponse

MOST_FAILURES = 5
FORECAST_HEADER = ("priority", "ahead", "start", "done")


def submit(  # noqa: PLR0913, PLR0917 - they are options
    sources: Sources,
    priority: Annotated[PriorityName, typer.Option(case_sensitive=False, help="How urgent it is.")] = "MEDIUM",
    column: Column = None,
    lane: Lane = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="The same key and IDs again are the same submission. One is made up if you give none."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is completed; 1 if any ID was not.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit IDs and print the ingestion's id, alone, on standard output.

    With --wait there is a progress bar on a terminal, and a summary at the end, both
    on standard error.
    """
    ids = read_ids(sources, column, sys.stdin)
    client, terminal = connect(url)
    key = idempotency_key or str(uuid4())
    try:
        answer = client.submit(ids, priority, lane, key)
    except UnreachableError as error:
        hint = f"to try again without submitting it twice: --idempotency-key {key}"
        raise UnreachableError(f"{error}; {hint}") from error
    ingestion_id = answer.content.ingestion_id
    if not as_json:
        terminal.line(plain(ingestion_id))
    elif not wait:
        terminal.json(answer.text)
    if wait:
        code = wait_for(client, terminal, ingestion_id, as_json=as_json)
        raise typer.Exit(code)
    if terminal.error_screen.is_terminal and terminal.is_interactive:
        status = client.status(ingestion_id, limit=1).content
        done = when(terminal, status.expected_completion, client.now())
        facts(terminal, [("expected", done if status.expected_completion else PAUSED)], on_errors=True)


@contextmanager
def goes_on(terminal: Terminal, ingestion_id: str) -> Iterator[None]:
    """Say, to whoever waits no longer, that the ingestion does not end with that."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.say(f"waiting no longer; ingestion {ingestion_id} goes on")
        raise
    except UnreachableError as error:
        raise UnreachableError(f"{error}; ingestion {ingestion_id} goes on once the server is back") from error


def wait_for(client: Client, terminal: Terminal, ingestion_id: str, *, as_json: bool) -> ExitCode:
    """Wait until an ingestion is completed, and say what came of it; `FAILED` if not every ID is completed."""
    status: StatusResponse | None = None
    text = ""
    with goes_on(terminal, ingestion_id), progress_bar(terminal.error_screen, client.now) as move:
        for step in follow_ingestion(client, ingestion_id, terminal.say, was_there=True):
            status, text = step.answer.content, step.answer.text
            move(status)
    assert status is not None, "following yields at least one step"
    if as_json:
        terminal.json(text)
    failures = first_failures(client, status, MOST_FAILURES)
    facts(terminal, summary(status, failures), on_errors=True)
    return outcome(status)


def outcome(status: StatusResponse) -> ExitCode:
    """Return what a completed ingestion comes to: cancelled IDs are not done either."""
    progress = status.progress
    return ExitCode.FAILED if progress.failed or progress.cancelled else ExitCode.DONE


def forecast(
    sources: Sources,
    column: Column = None,
    lane: Lane = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Tell when a number of IDs, or these IDs, would be done at each priority. Nothing is submitted.

    A single number is how many there would be.
    """
    count = int(sources[0]) if is_count(sources) else len(read_ids(sources, column, sys.stdin))
    client, terminal = connect(url)
    answer = client.forecast(count, lane)
    if as_json:
        terminal.json(answer.text)
        return
    now = client.now()
    rows = [
        [
            priority,
            str(each.position),
            when(terminal, each.expected_start, now),
            when(terminal, each.expected_completion, now),
        ]
        for priority, each in answer.content.forecasts.items()
    ]
    table(terminal, FORECAST_HEADER, rows)
