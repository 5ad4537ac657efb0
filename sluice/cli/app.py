"""The commands together, and how each way of ending becomes an exit code."""

import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from sluice.cli.commands.control import cancel, pause, priority, resume, retry
from sluice.cli.commands.key import key
from sluice.cli.commands.look import list_ingestions, queue, results, status
from sluice.cli.commands.serve import serve
from sluice.cli.commands.submit import forecast, submit
from sluice.cli.commands.watch import watch
from sluice.cli.errors import CommandError, ExitCode
from sluice.cli.terminal import Terminal, quiet_output

PROGRAM = "python -m sluice"


class Commands(TyperGroup):
    """Ends the process with the exit code that the README promises, and one line that says why."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CommandError as error:
            Terminal().say(str(error))
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            quiet_output()
            raise typer.Exit(ExitCode.PIPE_CLOSED) from error

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Parse the arguments and run the command; the process ends with it."""
        try:
            code = super().main(*arguments, **{**options, "prog_name": PROGRAM, "standalone_mode": False})
        except TyperException as error:
            complaint = " ".join(error.format_message().split())
            Terminal().say(f"{complaint} (--help shows what there is)")
            code = ExitCode.USAGE
        except typer.Abort:
            code = ExitCode.INTERRUPTED
        sys.exit(code or ExitCode.DONE)


app = typer.Typer(
    cls=Commands,
    help=(
        "Submit IDs to Sluice, follow them, and collect what came of them.\n\n"
        "A server that wants a key gets that in SLUICE_KEY, a variable of the environment. There is no option for it: "
        "every user of the machine could read that in the list of processes."
    ),
    epilog="Exit codes: 0 done, 1 some IDs were not completed, 2 wrong usage or refused, 3 no answer, 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (serve, key, submit, forecast, status, watch, results, cancel, priority, retry, queue, pause, resume):
    app.command()(command)
app.command("list")(list_ingestions)


def run() -> None:
    """Run the command line; ends the process."""
    for stream in (sys.stdout, sys.stderr):
        # Text from elsewhere may have what an old terminal's encoding lacks; that is no reason to fail.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app()
