"""Where the output goes, and how much a terminal there can be asked for."""

import json
import os
import sys
from typing import Any, TextIO

from rich.console import Console

ORDERS = (
    *(code for code in range(0x20) if chr(code) not in "\t\n"),
    *range(0x7F, 0xA0),
    # These change in which order the text around them is shown.
    *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
)
ESCAPES = {code: f"\\u{code:04x}" for code in ORDERS}


def plain(text: str) -> str:
    """Return text from elsewhere with whatever a terminal could take as an order written out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class Terminal:
    """Standard output and standard error; on anything but a terminal, nothing but text goes to either."""

    def __init__(self, output: TextIO | None = None, errors: TextIO | None = None) -> None:
        self.output = output or sys.stdout
        self.errors = errors or sys.stderr
        self.screen = _console(self.output)
        self.error_screen = _console(self.errors)

    @property
    def is_interactive(self) -> bool:
        """Whether somebody sees the output as it comes."""
        return self.screen.is_terminal

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer a question."""
        return sys.stdin is not None and sys.stdin.isatty() and self.error_screen.is_terminal

    def line(self, text: str = "", *, on_errors: bool = False) -> None:
        """Print one line, at once and as it is: `text` must be safe."""
        stream = self.errors if on_errors else self.output
        stream.write(f"{text}\n")
        stream.flush()

    def write(self, data: bytes) -> None:
        """Write text from elsewhere, byte for byte; on a terminal, control characters are written as JSON escapes."""
        if self.is_interactive:
            self.output.write(data.decode(errors="backslashreplace").translate(ESCAPES))
        else:
            self.output.flush()
            self.output.buffer.write(data)
        self.output.flush()

    def json(self, text: str) -> None:
        """Print a JSON document as it came, or as safe as `write` makes it."""
        self.write(f"{text}\n".encode())

    def json_line(self, document: dict[str, Any]) -> None:
        """Print one line of JSON."""
        self.json(json.dumps(document, ensure_ascii=False, separators=(",", ":")))

    def say(self, text: str) -> None:
        """Tell something on standard error, in one line, whatever is in the text."""
        line = f"sluice: {plain(text)}"
        if self.error_screen.is_terminal:
            # Through the screen, for there may be a bar to go above.
            self.error_screen.print(line, soft_wrap=True)
        else:
            self.line(line, on_errors=True)


def quiet_output() -> None:
    """Keep the interpreter from writing to a pipe that was closed, when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(stream: TextIO) -> Console:
    # Nothing in the texts is markup. What variables of the environment (FORCE_COLOR, TTY_COMPATIBLE)
    # would have in a pipe does not belong there.
    is_terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=is_terminal,
        force_interactive=is_terminal and os.environ.get("TERM") != "dumb",
        markup=False,
        emoji=False,
        highlight=False,
    )
