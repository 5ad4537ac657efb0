"""Making keys."""

import re
from typing import Annotated

import typer

from sluice.cli.errors import UsageError
from sluice.cli.secret import VARIABLE
from sluice.cli.terminal import Terminal
from sluice.keys import NAME, Role, make_key

RULE = "1 to 63 lower-case letters, digits, - and _, and begins with a letter or digit"


def key(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Whose it is; what is submitted with it, too.", show_default=False)
    ],
    role: Annotated[
        Role,
        typer.Option(
            case_sensitive=False,
            help="submit: submit, and follow its own ingestions; read: see everything; admin: steer, too.",
            show_default=False,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Both as JSON, for machines.")] = False,
) -> None:
    """Make a key, and the entry for the service's API_KEYS that lets it in. Asks no server.

    The key is alone on standard output, and shown only this once: not even the
    service knows it.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name!r} is no name for a key: one is {RULE}")
    terminal = Terminal()
    secret, entry = make_key(name, role)
    if as_json:
        terminal.json_line({"key": secret, "entry": entry})
        return
    terminal.say(f"the key of {name}, to be kept as {VARIABLE}; it is shown only this once")
    terminal.line(secret)
    terminal.say("its entry, to be added to the service's API_KEYS")
    terminal.line(entry, on_errors=True)
