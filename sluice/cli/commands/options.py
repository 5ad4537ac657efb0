"""The arguments and options that several commands have."""

import os
from typing import Annotated

import typer

from sluice.cli.client import Client
from sluice.cli.secret import VARIABLE, is_readable_on_the_way, read_secret
from sluice.cli.terminal import Terminal

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option("--url", envvar="SLUICE_URL", show_envvar=True, help="The server.", metavar="URL")]
Lane = Annotated[str | None, typer.Option("--lane", help="Which upstream; the server's default if left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="The API's JSON as it came, for machines.")]
IngestionId = Annotated[
    str, typer.Argument(metavar="ID", help="The ingestion's id, as submit prints it.", show_default=False)
]
Column = Annotated[
    str | None, typer.Option("--column", help="The files are CSVs with a header, and this is the column with the IDs.")
]
Sources = Annotated[
    list[str],
    typer.Argument(metavar="IDS|FILE|-", help="IDs, files with IDs, or - for standard input.", show_default=False),
]


def connect(url: str) -> tuple[Client, Terminal]:
    """Return the server, not asked yet, and the terminal; say so if others could read the key on its way."""
    secret = read_secret(os.environ)
    client, terminal = Client(url, secret=secret), Terminal()
    if secret and is_readable_on_the_way(client.url):
        terminal.say(f"{VARIABLE} travels to {client.name} unencrypted; with https:// nobody on the way could read it")
    return client, terminal
