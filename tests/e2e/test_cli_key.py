"""Keys on the command line, against a real server that wants one."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sluice.keys import Role, make_key
from tests.e2e.command_line import PACE, UUID, environment, on_terminal, sluice, start, submit_and_watch
from tests.e2e.servers import PATIENCE, ROOT, Server, held_port, serving

MADE = {role: make_key(f"{role}er", role) for role in Role}
SUBMITTER, READER, ADMIN = (MADE[role][0] for role in Role)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with serving(**PACE, API_KEYS=",".join(entry for _, entry in MADE.values())) as server:
        server.client.headers["Authorization"] = f"Bearer {ADMIN}"
        yield server


def test_submitter_waits_watches_and_collects_with_the_stream_of_events(guarded: Server) -> None:
    process = start(guarded, "submit", "1", "2", "3", "4", "--wait", key=SUBMITTER)
    output, complaint = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "no stream" in complaint) == (0, False), complaint

    watched, lines = submit_and_watch(guarded, 1, 2, 3, 4, key=SUBMITTER)
    assert {"started", "finished"} <= {line["event"] for line in lines}
    results = sluice(guarded, "results", watched, "--follow", key=SUBMITTER).splitlines()
    assert [json.loads(line)["id"] for line in results] == [1, 2, 3, 4]
    assert "status: completed" in sluice(guarded, "status", output.strip(), key=SUBMITTER)
    assert watched in sluice(guarded, "list", key=SUBMITTER)


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        (["watch"], SUBMITTER, "it takes read or admin"),
        (["queue"], SUBMITTER, "it takes read or admin"),
        (["pause"], READER, "it takes admin"),
        (["submit", "1", "--wait"], READER, "it takes submit or admin"),
        (["queue"], f"{ADMIN}x", "not, or no longer, valid"),
        (["queue"], "", "wants a key: set SLUICE_KEY"),
    ],
    ids=["all events", "queue", "steering", "submitting", "wrong key", "no key"],  # the keys are made anew each time
)
def test_refusal_is_one_line_that_says_what_it_takes(
    guarded: Server, arguments: list[str], key: str, words: str
) -> None:
    complaint = sluice(guarded, *arguments, code=2, key=key)

    assert words in complaint
    assert complaint.count("\n") == 1


def test_operator_with_a_key_pauses_and_resumes(guarded: Server) -> None:
    assert "paused" in sluice(guarded, "pause", "--reason", "maintenance", key=ADMIN)
    assert "maintenance" in sluice(guarded, "queue", key=READER)
    assert "maintenance" not in sluice(guarded, "resume", key=ADMIN)


def test_new_key_can_be_taken_by_a_shell_and_opens_a_server() -> None:
    with held_port() as port:
        made = subprocess.run(
            ["sh", "-c", f'SLUICE_KEY="$({sys.executable} -m sluice key ann --role submit)"; echo "got $SLUICE_KEY"'],
            cwd=ROOT,
            env=environment(port),
            capture_output=True,
            text=True,
            check=True,
        )
    secret, entry = made.stdout.split()[1], made.stderr.splitlines()[-1]

    with serving(**PACE, API_KEYS=entry) as server:
        assert UUID.fullmatch(sluice(server, "submit", "1", key=secret).strip())


def test_new_key_and_its_entry_are_on_lines_of_their_own_on_a_terminal() -> None:
    with held_port() as port:
        code, shown = on_terminal(port, "key", "ann", "--role", "read")

    said, secret, said_again, entry = shown.splitlines()
    assert code == 0
    assert "only this once" in said
    assert secret.startswith("sluice_")
    assert "API_KEYS" in said_again
    assert entry.startswith("ann:read:")


def test_unreachable_server_does_not_bring_the_key_to_light() -> None:
    with held_port() as port:
        complaint = sluice(port, "submit", "1", code=3, key=SUBMITTER)

    assert "no answer" in complaint
    assert SUBMITTER not in complaint
