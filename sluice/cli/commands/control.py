"""Changing what is under way."""

from typing import Annotated

import typer

from sluice.cli.client import Answer, Client
from sluice.cli.commands.options import DEFAULT_URL, AsJson, IngestionId, Lane, Url, connect
from sluice.cli.errors import ExitCode, UsageError
from sluice.cli.screen import about, about_queue, counts, facts
from sluice.cli.terminal import Terminal, plain
from sluice.schemas import IngestionResponse, PriorityName, QueueResponse


def cancel(
    ingestion_ids: Annotated[list[str], typer.Argument(metavar="ID", help="The ingestions.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Cancel what has not started of ingestions; a running batch finishes.

    Asks on a terminal; a script is taken at its word.
    """
    client, terminal = connect(url)
    if not yes and terminal.can_ask:
        what = f"ingestion {ingestion_ids[0]}" if len(ingestion_ids) == 1 else f"{len(ingestion_ids)} ingestions"
        if not typer.confirm(f"Cancel {what}?", err=True):
            terminal.say("nothing was cancelled")
            raise typer.Exit(ExitCode.FAILED)
    is_refused = False
    for ingestion_id in ingestion_ids:
        try:
            ingestion = client.cancel(ingestion_id).content
        except UsageError as error:
            # The others are cancelled all the same.
            terminal.say(f"{ingestion_id}: {error}")
            is_refused = True
        else:
            terminal.line(f"{plain(ingestion.ingestion_id)} {counts(ingestion.progress)}")
    if is_refused:
        raise typer.Exit(ExitCode.USAGE)


def priority(
    ingestion_id: IngestionId,
    priority: Annotated[
        PriorityName,
        typer.Argument(metavar="HIGH|MEDIUM|LOW", case_sensitive=False, help="The new one.", show_default=False),
    ],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Give an ingestion another priority; it keeps its time of arrival."""
    client, terminal = connect(url)
    _show_ingestion(client, terminal, client.reprioritise(ingestion_id, priority), as_json=as_json)


def retry(ingestion_id: IngestionId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Give every failed ID of an ingestion a fresh set of attempts."""
    client, terminal = connect(url)
    _show_ingestion(client, terminal, client.retry(ingestion_id), as_json=as_json)


def pause(
    reason: Annotated[str, typer.Option(help="Shown to everyone who looks at the queue.")] = "",
    lane: Lane = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Start no batch until resume; a running one finishes."""
    client, terminal = connect(url)
    _show_queue(client, terminal, client.pause(lane, reason), as_json=as_json)


def resume(lane: Lane = None, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Start batches again after pause."""
    client, terminal = connect(url)
    _show_queue(client, terminal, client.resume(lane), as_json=as_json)


def _show_ingestion(client: Client, terminal: Terminal, answer: Answer[IngestionResponse], *, as_json: bool) -> None:
    if as_json:
        terminal.json(answer.text)
    else:
        facts(terminal, about(terminal, answer.content, client.now()))


def _show_queue(client: Client, terminal: Terminal, answer: Answer[QueueResponse], *, as_json: bool) -> None:
    if as_json:
        terminal.json(answer.text)
    else:
        facts(terminal, about_queue(terminal, answer.content, client.now()))
