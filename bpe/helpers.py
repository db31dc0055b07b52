"""Other processes that share the work: Python runs one thread at a time, and so keeps one core busy.

In: a function, and a question to it.  Out: its answer.

A helper is a second Python. It is asked through its standard input, answers on its standard output, and stays for the
next question until whoever started it is dropped.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import IO, Generic, TypeVar, cast

from bpe.freed_memory import keep_freed_memory

Given = TypeVar("Given")
Question = TypeVar("Question")
Answer = TypeVar("Answer")

_SIZE = 8  # bytes that say how many follow
_START = f"""
import pickle, sys
sys.path[:] = pickle.loads(sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read({_SIZE}))))
from bpe.helpers import serve
serve()
"""


class HelperLostError(Exception):
    """A helper did not start, or ended before it answered."""


class Helpers(Generic[Given, Question, Answer]):
    """Helpers that work as `make(given)` does; `make` is a function that a module has by its name.

    As many are started as are asked at the same time, by several threads.
    """

    def __init__(self, make: Callable[[Given], Callable[[Question], Answer]], given: Given) -> None:
        self._make, self._given = make, given
        self._idle: list[_Helper] = []
        self._pid = os.getpid()

    def ask(self, question: Question) -> Answer:
        """What the function says, worked out by a helper that has nothing else to do. Raises HelperLostError."""
        if self._pid != os.getpid():  # forked: the helpers are those of the other process
            self._pid, self._idle = os.getpid(), []
        try:
            helper = self._idle.pop() if self._idle else _Helper(self._make, self._given)
            answer = cast(Answer, helper.ask(question))
        except Exception as error:  # whatever it was: who asks can do the work, and says what is wrong with it
            raise HelperLostError from error
        self._idle.append(helper)
        return answer


class _Helper:
    def __init__(self, *made_of: object) -> None:
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )
        assert process.stdin and process.stdout
        self._questions, self._answers = process.stdin, process.stdout
        weakref.finalize(self, _end, process, os.getpid())
        _write(sys.path, self._questions)
        _write(made_of, self._questions)

    def ask(self, question: object) -> object:
        _write(question, self._questions)
        return _read(self._answers)


def _end(process: subprocess.Popen[bytes], pid: int) -> None:
    """End a helper; a fork of the process that started it leaves it alone."""
    if pid == os.getpid():
        process.kill()  # to wait until it ends would be for ever where a fork holds its pipe open
        with contextlib.suppress(OSError):
            process.communicate()


def _write(something: object, file: IO[bytes]) -> None:
    """Write it in one piece: after each of many, a thread would wait for Python's lock."""
    pickled = pickle.dumps(something, pickle.HIGHEST_PROTOCOL)
    file.write(len(pickled).to_bytes(_SIZE))
    file.write(pickled)
    file.flush()


def _read(file: IO[bytes]) -> object:
    """Raises EOFError at the end."""
    size = file.read(_SIZE)
    if not size:
        raise EOFError
    return pickle.loads(file.read(int.from_bytes(size)))


def serve() -> None:
    """What a helper does."""
    keep_freed_memory()
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    make, given = cast(tuple[Callable[[object], Callable[[object], object]], object], _read(questions))
    work = make(given)
    with contextlib.suppress(EOFError):
        while True:
            _write(work(_read(questions)), answers)
