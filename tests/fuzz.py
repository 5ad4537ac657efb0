"""Schemathesis against the service: whatever its OpenAPI document allows, and what it does not."""

import os
from collections.abc import Mapping
from random import getrandbits
from typing import Any, NamedTuple

import anyio
import schemathesis
from schemathesis import BaseSchema, Case, Config, HookContext, Response, engine
from schemathesis.core.failures import Failure
from schemathesis.engine import events
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree
from schemathesis.python import asgi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.problem import OTHER_BODY

# Random requests for each operation, and random sequences. They are always the same unless their number is given;
# then they go by a seed.
CASES = int(os.environ.get("FUZZ_CASES", "15"))
IS_DETERMINISTIC = "FUZZ_CASES" not in os.environ
SEED = int(os.environ.get("FUZZ_SEED", 0 if IS_DETERMINISTIC else getrandbits(32)))
PHASES = ("examples", "coverage", "fuzzing", "stateful")
STREAMS = (b"text/event-stream", b"application/x-ndjson")
STAY = 0.1  # seconds


class Leaving:
    """An ASGI app whose clients leave `STAY` seconds after a stream has begun: it may never end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            await send(message)
            if dict(message.get("headers", ())).get(b"content-type", b"").startswith(STREAMS):
                stay.deadline = anyio.current_time() + STAY

        with anyio.CancelScope() as stay:
            await self._app(scope, receive, note)
        if stay.cancelled_caught:
            await send({"type": "http.response.body"})


class Answer(NamedTuple):
    """What was answered to one request: `name` is its method and the path's template."""

    name: str
    status: int
    phase: str
    headers: Mapping[str, list[str]]


class Outcome(NamedTuple):
    """What came of a run: every answer, and whatever is not as documented."""

    answers: list[Answer]
    findings: list[str]

    @property
    def report(self) -> str:
        """Everything that was found, and how to find it again."""
        again = "" if IS_DETERMINISTIC else f"FUZZ_CASES={CASES} FUZZ_SEED={SEED} "
        return "\n\n".join([*self.findings, f"Again: {again}pytest tests/test_api_fuzz.py"])


def fuzz(
    app: ASGIApp,
    headers: Mapping[str, str],
    schema_headers: Mapping[str, str],
    *,
    makes_up_keys: bool = False,
    only: str | None = None,
    phases: tuple[str, ...] = PHASES,
    cases: int = CASES,
    expected: tuple[int, ...] = (),
) -> Outcome:
    """Ask for everything, or for `only` the paths in which this is found: examples, bounds, random data, sequences.

    Server errors are findings but for those `expected`. All requests have the
    headers; some have keys too, if some are to be made up.
    """
    config = Config(seed=SEED)
    project = config.projects.default
    project.update(headers=dict(headers), continue_on_failure=True)
    project.max_stream_events = 1
    project.generation.update(max_examples=cases, deterministic=IS_DETERMINISTIC, database="none", no_shrink=True)
    project.generation.with_security_parameters = makes_up_keys
    project.checks.not_a_server_error.expected_statuses = ["2xx", "3xx", "4xx", *map(str, expected)]
    for phase in PHASES:
        project.phases.get_by_name(name=phase).enabled = phase in phases
    schema: BaseSchema = schemathesis.openapi.from_asgi(
        "/openapi.json", app, config=config, headers=dict(schema_headers)
    )
    if only:
        schema = schema.include(path_regex=only)
    schema.hook(filter_failure)
    outcome = Outcome([], [])
    for event in engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            outcome.answers.extend(_answers(event.recorder, event.phase.value))
            outcome.findings.extend(_findings(event.recorder))
        elif isinstance(event, events.NonFatalError):
            outcome.findings.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return outcome


def submit(app: Any, headers: Mapping[str, str], *bodies: dict[str, Any]) -> None:
    """Submit before a run, within the lifespan that it will have."""
    with asgi.get_client(app) as client:
        for body in bodies:
            response = client.post("/ingest", json=body, headers=dict(headers))
            assert response.status_code == 200, response.text


def _answers(recorder: ScenarioRecorder, phase: str) -> list[Answer]:
    return [
        Answer(f"{case.method} {case.operation.path}", int(response.status_code), phase, response.headers)
        for case_id, interaction in recorder.interactions.items()
        if (response := interaction.response) is not None
        for case in [recorder.cases[case_id].value]
    ]


def _findings(recorder: ScenarioRecorder) -> list[str]:
    return [
        f"{check.name}: {info.failure.title}: {info.failure.message}\n{info.code_sample}\n{_text(recorder, case_id)}"
        for case_id, checks in recorder.checks.items()
        for check in checks
        if (info := check.failure_info)
    ]


def _text(recorder: ScenarioRecorder, case_id: str) -> str:
    interaction = recorder.interactions.get(case_id)
    return interaction.response.text if interaction and interaction.response else ""


def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Return whether it is one: some of what the schema allows is refused as it should be."""
    if isinstance(failure, UseAfterFree):
        return False  # DELETE cancels: what was cancelled is still there to be looked at
    return not isinstance(failure, RejectedPositiveData) or not any(
        meant in response.content.decode()
        for meant in (
            OTHER_BODY,  # what else a key was used with is nothing that a schema can say
            "Input should be a valid integer",  # to JSON Schema 1.0 is one; here nothing stands in for one
        )
    )
