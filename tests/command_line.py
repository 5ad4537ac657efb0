"""The command line in this process, against the real service in this process."""

from collections.abc import Callable
from typing import NamedTuple

import httpx
import pytest
from typer.testing import CliRunner

from sluice.cli import app as command_line
from sluice.cli import follow
from sluice.cli.client import Client
from sluice.cli.commands import options
from tests.api import Service


class Result(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    output: str
    errors: str


Run = Callable[..., Result]


class InProcess(httpx.BaseTransport):
    """Takes requests to the service in this process; streams of events, which never end, are not there."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/events"):
            return httpx.Response(404)
        answer = self._service.client.request(
            request.method,
            request.url.raw_path.decode(),
            content=request.read(),
            headers={name: value for name, value in request.headers.items() if name != "host"},
        )
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


def running(service: Service, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a command that asks this service."""

    def client(url: str, secret: str) -> Client:
        return Client(url, InProcess(service), lambda seconds: None, secret=secret)

    monkeypatch.setattr(options, "Client", client)
    monkeypatch.setattr(follow, "POLL", 0.01)
    for variable in ("SLUICE_URL", "SLUICE_KEY"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments: str, standard_input: str = "") -> Result:
        result = CliRunner().invoke(command_line.app, arguments, input=standard_input)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return run
