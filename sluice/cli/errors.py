"""How a command ends, and the errors that end one.

CommandError
├── UsageError        2: what was asked for makes no sense, here or to the server
├── DeniedError       2: it takes a key, or another key
└── UnreachableError  3: no server that answers
    └── TruncatedError   it stopped in the middle of an answer
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What scripts can tell apart."""

    DONE = 0
    FAILED = 1  # what was waited for ended, but not every ID of it was completed
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130  # Ctrl-C, as shells have it: 128 + SIGINT
    PIPE_CLOSED = 141  # whoever read the output went away: 128 + SIGPIPE


class CommandError(Exception):
    """Ends the command with one line on standard error. Its text is not yet safe to show."""

    exit_code: ExitCode


class UsageError(CommandError):
    """The arguments are wrong, or the server refused the request as wrong."""

    exit_code = ExitCode.USAGE


class DeniedError(CommandError):
    """The server lets nobody do this without a key, or not with this one: another request would fare no better."""

    exit_code = ExitCode.USAGE


class UnreachableError(CommandError):
    """The server cannot be reached, or fails, or is no Sluice."""

    exit_code = ExitCode.UNREACHABLE


class TruncatedError(UnreachableError):
    """The server's answer ended before it was whole."""
