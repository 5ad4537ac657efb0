"""Looking: what there is, how far it is, what came of it."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sluice.cli.batches import all_batches, failed_batches
from sluice.cli.client import PAGE
from sluice.cli.commands.options import DEFAULT_URL, AsJson, IngestionId, Lane, Url, connect
from sluice.cli.export import destination, export
from sluice.cli.screen import (
    BATCH_HEADER,
    LIST_HEADER,
    about,
    about_queue,
    batch_row,
    facts,
    ingestion_row,
    table,
)
from sluice.models import IngestionStatus
from sluice.schemas import ListResponse, PriorityName

MOST_FAILED = 10  # batches


def status(
    ingestion_id: IngestionId,
    batches: Annotated[bool, typer.Option("--batches", help="Show every batch, not just those that failed.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Tell how far an ingestion has come, when it will be done, and which batches failed."""
    client, terminal = connect(url)
    answer = client.status(ingestion_id)
    ingestion = answer.content
    if as_json:
        if batches and ingestion.progress.total_batches > PAGE:
            shown = [batch.model_dump(mode="json") for batch in all_batches(client, ingestion_id)]
            terminal.json_line({**json.loads(answer.text), "batches": shown})
        else:
            terminal.json(answer.text)
        return
    facts(terminal, about(terminal, ingestion, client.now()))
    if batches:
        terminal.line()
        table(terminal, BATCH_HEADER, map(batch_row, all_batches(client, ingestion_id)))
    elif failed := failed_batches(client, ingestion, MOST_FAILED):
        terminal.line()
        table(terminal, BATCH_HEADER, map(batch_row, failed))
        if (more := ingestion.progress.failed - len(failed)) > 0:
            terminal.line(f"and {more:,} more; --batches shows every batch")


def results(
    ingestion_id: IngestionId,
    kind: Annotated[
        Literal["ndjson", "csv"], typer.Option("--format", help="A line of JSON per ID, or CSV.")
    ] = "ndjson",
    follow: Annotated[bool, typer.Option("--follow", help="Keep going until the ingestion is completed.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write, which is there once it is whole.")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Print what the upstream answered, a line per finished ID.

    Ends with 3 if the server went away before all was there.
    """
    client, terminal = connect(url)
    with destination(terminal, output) as write:
        export(client, ingestion_id, write, follow=follow, as_csv=kind == "csv")


def list_ingestions(  # noqa: PLR0913, PLR0917 - they are options
    status: Annotated[
        IngestionStatus | None, typer.Option(case_sensitive=False, help="Only those with this status.")
    ] = None,
    priority: Annotated[
        PriorityName | None, typer.Option(case_sensitive=False, help="Only those with this priority.")
    ] = None,
    lane: Annotated[str | None, typer.Option(help="Only those of this lane.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show, at most.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List ingestions, newest first."""
    client, terminal = connect(url)
    answer = client.list(status=status, priority=priority, lane=lane, limit=min(limit, PAGE))
    page = answer.content
    text, shown = answer.text, page.ingestions
    # A page can have fewer than were asked for, even none, and not be the last one.
    while page.next_cursor is not None and len(shown) < limit:
        left = min(limit - len(shown), PAGE)
        page = client.list(status=status, priority=priority, lane=lane, limit=left, cursor=page.next_cursor).content
        shown = [*shown, *page.ingestions]
        text = ""
    if as_json:
        terminal.json(text or ListResponse(ingestions=shown, next_cursor=page.next_cursor).model_dump_json())
        return
    table(terminal, LIST_HEADER, [ingestion_row(terminal, each, client.now()) for each in shown])
    if page.next_cursor is not None and terminal.is_interactive:
        terminal.line("there are more; --limit shows them")


def queue(lane: Lane = None, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Tell what runs, when the next batch starts, what waits, and what stands in the way."""
    client, terminal = connect(url)
    answer = client.queue(lane)
    if as_json:
        terminal.json(answer.text)
    else:
        facts(terminal, about_queue(terminal, answer.content, client.now()))
