"""What the project's commands do alike: read options, say what went wrong in one line, end with the right status.

In: a command's name and its work.  Out: an exit status: 0 done, 2 something the user can put right, 130 after Ctrl-C.
Text goes to stdout and nothing else does; notes and errors go to stderr.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bpe.errors import FileError, UserError


class UsageError(UserError):
    """A command line that cannot be read."""


class OutputError(FileError):
    """Nothing more can be written to stdout."""


class _ReaderLeftError(Exception):
    """Who read stdout has seen enough, as `| head` has."""


class CommandParser(argparse.ArgumentParser):
    """argparse: complaints are one line like all others, --help keeps line breaks, options are never guessed."""

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; --help lists the options")


def positive_int(text: str) -> int:
    """What argparse reads an option as that has to be 1 or more."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def run_command(name: str, work: Callable[[], None]) -> int:
    """Do the work; return the exit status, after one line on stderr where the user has something to put right."""
    for stream in ("stdin", "stdout", "stderr"):
        if getattr(sys, stream) is None:  # it was closed before the command began, as `<&-` does
            setattr(sys, stream, Path(os.devnull).open("r" if stream == "stdin" else "w"))  # noqa: SIM115
        if isinstance(getattr(sys, stream), io.TextIOWrapper):  # UTF-8 whatever the locale or code page says
            getattr(sys, stream).reconfigure(encoding="utf-8", errors="replace")
    try:
        work()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)  # after the ^C that the terminal shows
        return 130
    except _ReaderLeftError:
        _leave_stdout()
    return 0


def show(text: str) -> None:
    """Write to stdout at once. Raises OutputError when there is no room; where nobody reads it any more, all ends."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise _ReaderLeftError from error
    except OSError as error:
        _leave_stdout()
        raise OutputError(f"cannot write the text: {error.strerror}; make room, or write elsewhere") from error


def _leave_stdout() -> None:
    """Send what is still buffered nowhere; Python would complain about it on leaving."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
