"""Gathering: what a turn of the loop writes goes out in one go for each connection."""

import asyncio

from sluice.gathering import MOST_HELD, Gathering, Outbox
from tests.virtual import VirtualLoop


class Wire:
    """A transport that notes what is done with it."""

    def __init__(self, log: list[tuple[str, bytes]] | None = None, name: str = "") -> None:
        self.log = [] if log is None else log
        self.name = name
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.log.append((self.name, data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.log.append((self.name, b"<closed>"))
        self.is_closed = True

    def get_extra_info(self, name: str) -> str:
        return f"{name} of {self.name}"


def gathering(loop: VirtualLoop, wire: Wire, outbox: Outbox) -> Gathering:
    return Gathering(wire, loop, outbox)  # type: ignore[arg-type]


def turn(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(0))


def test_head_and_body_are_written_together_when_the_turn_is_over(loop: VirtualLoop) -> None:
    wire = Wire()
    connection = gathering(loop, wire, Outbox())

    connection.write(b"head")
    connection.write(b"body")
    assert wire.log == []
    turn(loop)

    assert wire.log == [("", b"headbody")]


def test_all_connections_are_written_to_in_the_order_that_they_had_something(loop: VirtualLoop) -> None:
    log: list[tuple[str, bytes]] = []
    outbox = Outbox()
    one, other = (gathering(loop, Wire(log, name), outbox) for name in ("one", "other"))

    other.write(b"1")
    one.write(b"2")
    other.write(b"3")
    turn(loop)
    one.write(b"4")
    turn(loop)

    assert log == [("other", b"13"), ("one", b"2"), ("one", b"4")]


def test_much_is_not_held(loop: VirtualLoop) -> None:
    wire = Wire()
    connection = gathering(loop, wire, Outbox())

    connection.write(b"a" * MOST_HELD)
    assert wire.log == []
    connection.write(b"b")

    assert wire.log == [("", b"a" * MOST_HELD + b"b")]
    connection.write(b"c")
    turn(loop)
    assert wire.log[1:] == [("", b"c")]


def test_what_is_held_is_written_before_the_connection_is_closed(loop: VirtualLoop) -> None:
    wire = Wire()
    connection = gathering(loop, wire, Outbox())

    connection.write(b"last words")
    connection.close()
    turn(loop)

    assert wire.log == [("", b"last words"), ("", b"<closed>")]


def test_nothing_is_written_to_who_is_gone(loop: VirtualLoop) -> None:
    wire = Wire()
    connection = gathering(loop, wire, Outbox())

    connection.write(b"too late")
    wire.is_closed = True
    turn(loop)

    assert wire.log == []


def test_connection_that_cannot_be_written_to_keeps_no_other_waiting(loop: VirtualLoop) -> None:
    class Broken(Wire):
        def write(self, data: bytes) -> None:
            raise OSError

    outbox, wire = Outbox(), Wire()
    gathering(loop, Broken(), outbox).write(b"lost")
    gathering(loop, wire, outbox).write(b"text")
    turn(loop)

    assert wire.log == [("", b"text")]


def test_another_loop_begins_anew(loop: VirtualLoop) -> None:
    outbox = Outbox()
    ended = VirtualLoop()
    gathering(ended, Wire(), outbox).write(b"never")
    ended.close()
    wire = Wire()

    gathering(loop, wire, outbox).write(b"text")
    turn(loop)

    assert wire.log == [("", b"text")]


def test_all_else_is_the_transports_own(loop: VirtualLoop) -> None:
    assert gathering(loop, Wire(name="wire"), Outbox()).get_extra_info("peername") == "peername of wire"
