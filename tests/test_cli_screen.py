"""How things look: for people on a terminal, as stable plain text elsewhere, and never as the text would have it."""

import io
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sluice.cli.live import progress_bar, queue_picture
from sluice.cli.screen import LIST_HEADER, about, about_queue, facts, ingestion_row, queue_line, summary, table
from sluice.cli.terminal import Terminal, plain
from sluice.cli.times import clock, duration, moment, stamp
from sluice.schemas import STATUS_EXAMPLE, IngestionResponse, QueueResponse, RunningResponse

NOW = datetime(2026, 1, 1, 12, 0, 4, tzinfo=UTC)
STYLING = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "[red]a[/red] \x1b[2J\x9b\r\n\u202ex :smile:"
HARMLESS = r"[red]a[/red] \x1b[2J\x9b\r\n\u202ex :smile:"


class Screen(io.StringIO):
    """What a terminal was sent."""

    def isatty(self) -> bool:
        return True


def ingestion(**progress: int) -> IngestionResponse:
    return IngestionResponse.model_validate({**STATUS_EXAMPLE, "progress": {**STATUS_EXAMPLE["progress"], **progress}})


def queue(reason: str) -> QueueResponse:
    return QueueResponse.model_validate(
        {
            "lane": "default",
            "waiting": {"HIGH": 0, "MEDIUM": 2, "LOW": 1200},
            "retrying": 1,
            "running": None,
            "next_start": None,
            "hold": {"until": NOW + timedelta(seconds=30), "reason": reason},
            "paused": {"since": NOW, "reason": reason},
        }
    )


@pytest.fixture
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (2.26, "2.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (7260, "2 h 1 min"),
        (86_400 * 3 + 7300, "3 d 2 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_a_moment_is_told_by_the_clock_and_from_now() -> None:
    local = NOW.astimezone()

    assert moment(NOW + timedelta(seconds=3), NOW).endswith(" (in 3 s)")
    assert moment(NOW - timedelta(seconds=3), NOW).endswith(" (3 s ago)")
    assert moment(NOW, NOW) == f"{local:%H:%M:%S} (now)"
    assert moment(None, NOW) == "-"
    assert clock(NOW + timedelta(days=2), NOW) == f"{local + timedelta(days=2):%Y-%m-%d %H:%M}"


def test_a_moment_for_machines_is_as_the_api_has_it() -> None:
    assert stamp(NOW) == "2026-01-01T12:00:04Z"
    assert stamp(None) == ""


def test_text_from_elsewhere_gives_no_orders() -> None:
    assert plain(HOSTILE) == HARMLESS
    assert plain("grüße, 世界") == "grüße, 世界"


@pytest.mark.usefixtures("width")
def test_text_from_elsewhere_is_shown_as_it_is_on_a_terminal_too() -> None:
    screen = Screen()
    terminal = Terminal(screen, screen)

    facts(terminal, [("held", HOSTILE)])
    table(terminal, ["errors"], [[HOSTILE]])
    terminal.say(HOSTILE)

    assert screen.getvalue().count(HARMLESS) == 3


@pytest.mark.usefixtures("width")
def test_what_goes_to_a_terminal_as_it_came_gives_it_no_orders() -> None:
    screen = Screen()

    Terminal(screen, screen).json('"\x9b\x7fé\u202e"\r')
    Terminal(screen, screen).write(b"1,\x1b]0;title\x07\t\xff\n")

    assert screen.getvalue() == '"\\u009b\\u007fé\\u202e"\\u000d\n1,\\u001b]0;title\\u0007\t\\xff\n'


def test_what_goes_to_a_pipe_is_there_byte_for_byte_whatever_its_encoding() -> None:
    data = io.BytesIO()
    pipe = io.TextIOWrapper(data, encoding="latin-1", newline="\r\n")
    terminal = Terminal(pipe, pipe)

    terminal.line("first")
    terminal.json('"\x9b\x7fé世"\r')
    terminal.write(b"1,\x1b]0;title\x07\xff\n")

    assert data.getvalue() == b"first\r\n" + '"\x9b\x7fé世"\r\n'.encode() + b"1,\x1b]0;title\x07\xff\n"


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CLICOLOR_FORCE"])
def test_a_pipe_gets_plain_text_whatever_the_environment_says(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    pipe = io.StringIO()
    terminal = Terminal(pipe, pipe)

    with progress_bar(terminal.error_screen, lambda: NOW) as move:
        move(ingestion())
    facts(terminal, about(terminal, ingestion(), NOW))
    table(terminal, LIST_HEADER, [ingestion_row(terminal, ingestion(), NOW)])
    terminal.say("x" * 200)

    assert pipe.getvalue() == (
        "ingestion: 0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11\n"
        "status: triggered\n"
        "priority: MEDIUM\n"
        "lane: default\n"
        "size: 5 IDs in 2 batches\n"
        "batches: 1 completed, 1 yet to start\n"
        "created: 2026-01-01T12:00:00Z\n"
        "ahead: 0 batches\n"
        "next start: 2026-01-01T12:00:05Z\n"
        "expected: 2026-01-01T12:00:07Z\n"
        "ingestion\tstatus\tpriority\tbatches\tdone\n"
        "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11\ttriggered\tMEDIUM\t1/2\t2026-01-01T12:00:07Z\n"
        f"sluice: {'x' * 200}\n"
    )


@pytest.mark.usefixtures("width")
def test_the_bar_ends_at_100_percent() -> None:
    screen = Screen()
    terminal = Terminal(screen, screen)

    with progress_bar(terminal.error_screen, lambda: NOW) as move:
        move(ingestion(completed=0, yet_to_start=2))
        move(ingestion(completed=1, failed=1, yet_to_start=0))

    last = screen.getvalue().rpartition("100%")
    assert last[1]
    assert "2/2 batches, 1 failed" in last[2]


@pytest.mark.usefixtures("width")
def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    terminal = Terminal(screen, screen)

    with progress_bar(terminal.error_screen, lambda: NOW) as move:
        move(ingestion())
    table(terminal, LIST_HEADER, [ingestion_row(terminal, ingestion(), NOW)])

    assert "\x1b[3" not in screen.getvalue()
    assert "\x1b[38;5" not in screen.getvalue()


@pytest.mark.usefixtures("width")
@pytest.mark.parametrize("columns", [20, 40, 60, 100])
def test_an_id_can_be_read_and_nothing_sticks_out_however_narrow_it_is(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Screen()
    terminal = Terminal(screen, screen)

    table(terminal, LIST_HEADER, [ingestion_row(terminal, ingestion(), NOW)])

    shown = STYLING.sub("", screen.getvalue())
    assert "0d5d7f60-1b2e-4c55-9c5b-1f3a7a0c9f11" in shown.replace("\n", "").replace(" ", "")
    assert max(map(len, shown.splitlines())) <= columns
    assert "MEDIUM" in shown


def test_a_summary_says_what_was_not_completed_and_why() -> None:
    done = ingestion(completed=1, failed=1, yet_to_start=0).model_copy(
        update={"finished_time": datetime(2026, 1, 1, 12, 0, 8, tzinfo=UTC)}
    )

    assert summary(done, ["4: not here"])[1:] == [
        ("completed", "1 of 2 batches"),
        ("failed", "1 batches"),
        ("cancelled", ""),
        ("duration", "8 s"),
        ("failure", "4: not here"),
    ]


def test_a_queue_says_what_stands_in_the_way() -> None:
    pipe = io.StringIO()
    terminal = Terminal(pipe, pipe)

    facts(terminal, about_queue(terminal, queue("too many"), NOW))

    assert pipe.getvalue().splitlines() == [
        "lane: default",
        "paused: since 2026-01-01T12:00:04Z: too many",
        "held: until 2026-01-01T12:00:34Z: too many",
        "running: nothing",
        "next start: not while paused",
        "waiting: 0 HIGH, 2 MEDIUM, 1,200 LOW batches",
        "retrying: 1 ingestions wait to try IDs again",
    ]


def sharing(parts: int) -> QueueResponse:
    """Return a queue with a slot that so many ingestions share: the first has two IDs, each other one."""
    first, *others = (
        {"ingestion_id": str(UUID(int=number)), "batch_ids": [str(UUID(int=number + 100))], "ids": [number]}
        for number in range(1, parts + 1)
    )
    running = {**first, "ids": [1, 1], "started_at": NOW, "also": others}
    return queue("").model_copy(update={"running": RunningResponse.model_validate(running)})


def test_all_that_shares_the_running_slot_is_named() -> None:
    one, two, three = (UUID(int=number) for number in (1, 2, 3))

    assert f"running 1 1 of {one}, 2 of {two}, 3 of {three};" in queue_line(sharing(3))
    assert f"running 1 1 of {one};" in queue_line(sharing(1))
    assert f", 20 of {UUID(int=20)};" in queue_line(sharing(20))
    assert f", 20 of {UUID(int=20)} and 980 more;" in queue_line(sharing(1000))


@pytest.mark.usefixtures("width")
def test_the_picture_of_a_queue_shows_all_that_runs() -> None:
    screen = Screen()

    with queue_picture(Terminal(screen, screen), lambda: NOW) as change:
        change(sharing(3))

    shown = STYLING.sub("", screen.getvalue())
    assert all(str(UUID(int=number)) in shown.replace("\n", "") for number in (1, 2, 3))
