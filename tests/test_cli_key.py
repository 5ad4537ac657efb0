"""Keys on the command line: made, taken, and refused."""

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from sluice.cli import app as command_line
from sluice.cli.client import Client
from sluice.cli.commands import options
from sluice.cli.secret import is_readable_on_the_way
from sluice.keys import Role, make_key, read_keys
from sluice.settings import Settings
from tests.api import Service, serving
from tests.command_line import Result, Run, running

ID = "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11"
MADE = {role: make_key(f"{role}er", role) for role in Role}
SECRET, _ = MADE[Role.SUBMIT]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    api_keys = ",".join(entry for _, entry in MADE.values())
    with serving(Settings(api_keys=api_keys, batch_interval=0, shutdown_grace=0)) as service:
        yield service


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch) -> Run:
    run = running(service, monkeypatch)
    monkeypatch.setenv("SLUICE_KEY", SECRET)
    return run


# Making one


def test_new_key_is_alone_on_standard_output_and_its_entry_beside_it(run: Run) -> None:
    result = run("key", "ann", "--role", "Read")

    secret, entry = result.output.removesuffix("\n"), result.errors.splitlines()[-1]
    assert result.code == 0
    assert "only this once" in result.errors
    assert secret not in result.errors
    [key] = read_keys(entry)
    assert (key.name, key.role) == ("ann", Role.READ)
    with serving(Settings(api_keys=entry, shutdown_grace=0)) as service:
        headers = {"Authorization": f"Bearer {secret}"}
        assert service.client.get("/session", headers=headers).json() == {"name": "ann", "role": "read"}


def test_new_key_for_machines_is_one_document(run: Run) -> None:
    result = run("key", "ann", "--role", "submit", "--json")

    document = json.loads(result.output)
    assert (result.errors, list(document)) == ("", ["key", "entry"])
    assert document["entry"].startswith("ann:submit:")


@pytest.mark.parametrize("name", ["", "Ann", "-a", "_a", "a b", "a:b", "a,b", "é", "a\n", "a" * 64, "\x1b[2J"])
def test_name_that_is_none_is_wrong_usage(name: str, run: Run) -> None:
    result = run("key", "--role", "read", "--", name)

    assert (result.code, result.output) == (2, "")
    assert "lower-case letters" in result.errors
    assert result.errors.count("\n") == 1


@pytest.mark.parametrize("name", ["a", "0", "a" * 63, "a-b_c"])
def test_name_that_is_one_is_taken(name: str, run: Run) -> None:
    assert read_keys(run("key", name, "--role", "admin").errors.splitlines()[-1])[0].name == name


@pytest.mark.parametrize("arguments", [["--role", "root"], []])
def test_role_is_one_that_there_is(arguments: list[str], run: Run) -> None:
    result = run("key", "ann", *arguments)

    assert (result.code, result.output) == (2, "")
    assert all(role in result.errors for role in Role)
    assert result.errors.count("\n") == 1


def test_making_a_key_does_not_wait_for_the_service_to_be_imported() -> None:
    code = "import sys, sluice.cli.app; print([name for name in ('fastapi', 'starlette') if name in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


# Using one


def submitted(run: Run) -> str:
    result = run("submit", "1", "2")
    assert result.code == 0, result.errors
    return result.output.strip()


def test_submitter_submits_and_follows_what_is_its_own(run: Run) -> None:
    waited = run("submit", "1", "2", "--wait")
    ingestion_id = waited.output.strip()

    assert waited.code == 0, waited.errors
    for arguments in (["status", ingestion_id], ["results", ingestion_id], ["watch", ingestion_id], ["list"]):
        result = run(*arguments)
        assert (result.code, result.errors) == (0, "")
    assert ingestion_id in run("list").output
    assert run("forecast", "30").code == 0


@pytest.mark.parametrize(
    ("arguments", "takes"),
    [
        (["watch"], "read or admin"),
        (["queue"], "read or admin"),
        (["pause"], "admin"),
        (["resume"], "admin"),
        (["retry", ID], "admin"),
        (["priority", ID, "HIGH"], "admin"),
        (["cancel", ID, ID], "admin"),
    ],
)
def test_what_is_not_for_a_submitter_ends_with_2_and_says_what_it_takes(
    arguments: list[str], takes: str, run: Run
) -> None:
    result = run(*arguments)

    assert (result.code, result.output) == (2, "")
    assert result.errors == (
        f"sluice: the key in SLUICE_KEY is refused: A key with the role submit is not for that; it takes {takes}.\n"
    )


COMMANDS = [
    ["submit", "1"],
    ["submit", "1", "--wait"],
    ["forecast", "30"],
    ["status", ID],
    ["watch"],
    ["watch", ID],
    ["results", ID],
    ["cancel", ID, ID],
    ["priority", ID, "HIGH"],
    ["retry", ID],
    ["queue"],
    ["pause"],
    ["resume"],
    ["list"],
]


def assert_refused(result: Result, words: str) -> None:
    assert (result.code, result.output) == (2, "")
    assert words in result.errors
    assert result.errors.count("\n") == 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_without_a_key_that_is_taken_every_command_says_what_to_set(
    arguments: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_KEY", "")
    assert_refused(run(*arguments), "http://127.0.0.1:8000 wants a key: set SLUICE_KEY")

    monkeypatch.setenv("SLUICE_KEY", "sluice_wrong")
    assert_refused(run(*arguments), "the key in SLUICE_KEY is refused: This key is not, or no longer, valid.")


def test_key_that_can_be_none_ends_a_command_with_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_KEY", "sluice_é")

    assert_refused(run("queue"), "is no key")


@pytest.mark.parametrize(
    ("url", "is_readable"),
    [
        ("http://sluice.test", True),
        ("http://10.0.0.1:8000", True),
        ("http://localhost.evil.test", True),
        ("http://127.0.0.1.evil.test", True),
        ("https://sluice.test", False),
        ("http://localhost:8000", False),
        ("http://LOCALHOST.", False),
        ("http://sluice.localhost", False),
        ("http://127.8.0.1", False),
        ("http://[::1]:8000", False),
        ("http://[2001:db8::1]", True),
    ],
)
def test_key_in_the_clear_is_warned_of_unless_it_stays_on_the_machine(
    url: str, is_readable: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned = run("list", "--url", url)
    monkeypatch.delenv("SLUICE_KEY")
    unguarded = run("list", "--url", url)

    assert warned.code == 0
    assert warned.errors.count("unencrypted") == warned.errors.count("\n") == is_readable
    assert "unencrypted" not in unguarded.errors
    assert is_readable_on_the_way(httpx.URL(url)) is is_readable


def test_key_that_is_revoked_meanwhile_ends_the_watching(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = httpx.Response(401, json={"detail": "It is no longer valid."})
    answers = iter([httpx.Response(200, json={})])

    def client(url: str, secret: str) -> Client:
        return Client(url, httpx.MockTransport(lambda request: next(answers, refusal)), secret=secret)

    monkeypatch.setattr(options, "Client", client)

    assert_refused(run("watch"), "the key in SLUICE_KEY is refused: It is no longer valid.")


def test_no_traceback_shows_what_variables_hold() -> None:
    assert not command_line.app.pretty_exceptions_enable
