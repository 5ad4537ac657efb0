"""Running the service."""

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PORT", min=0, max=65_535, help="The port to listen on.")] = 8000,
) -> None:
    """Run the service until SIGTERM or Ctrl-C; the settings come from the environment."""
    # Not for a command that only asks a server: importing this takes longer than the answer.
    import uvicorn  # noqa: PLC0415

    uvicorn.run(
        "sluice.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=1,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
