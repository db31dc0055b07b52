"""Other processes that share the work: Python runs one thread at a time, and so keeps one core busy.

In: a function of some items, and all items.  Out: its answer for each, in order.

A helper is a second Python. What is asked and answered stands in memory that both processes have, and a pipe says how
long it is. So nobody waits: this process asks, does a part of the work itself, and looks for answers now and then; a
helper has the next question while it works on one. Where the system has no such memory to give to another process
(Windows), all is done here.
"""

import contextlib
import mmap
import os
import pickle
import select
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Sequence, Sized
from itertools import chain
from typing import IO, Generic, TypeVar, cast

from bpe.freed_memory import keep_freed_memory

Given = TypeVar("Given")
Item = TypeVar("Item")
Question = TypeVar("Question")
Answer = TypeVar("Answer")

AHEAD = 3  # questions that a helper has at a time: it may be done with two of them before this process looks again
SHARES = 4  # for each process: no more is given at once than one of these parts of what is left
ROOM = 1 << 23  # bytes of each of them, or of its answer: several times what is asked in English
PIPED = 0  # said in place of a size: what it is of comes through the pipe
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
    """Helpers that work as `make(given)` does; `make` is a function that a module has by its name."""

    def __init__(self, make: Callable[[Given], Callable[[Question], Sequence[Answer]]], given: Given) -> None:
        self._make, self._given = make, given
        self._idle: list[_Helper] = []
        self._pid = os.getpid()

    def share(
        self,
        items: Sequence[Item],
        number: int,
        here: Callable[[Sequence[Item]], Sequence[Answer]],
        question: Callable[[Sequence[Item]], Question],
        *,
        together: int = 1,
    ) -> list[Answer]:
        """The answer for each item, in order: from the first on by `here`, from the last on by `number` helpers.

        here: the answers for some items. question: what a helper is asked for the same. together: how many items at
        once; fewer towards the end, so that all end at about the same time. What a lost helper leaves undone is done by
        the others.
        """
        answers, too_long = dict[int, Answer](), False
        left = deque(range(len(items)))
        asked = {helper: deque[list[int]]() for helper in self._taken(number)}
        while left or any(asked.values()):
            for helper, runs in [*asked.items()]:
                try:
                    while runs and helper.has_answered(wait=not left):
                        answers.update(zip(runs[0], cast(Sequence[Answer], helper.answer()), strict=True))
                        runs.popleft()
                    # no helper queues more than its share of what is left: towards the end, whoever is free takes it
                    while len(left) > sum(map(len, runs)) * len(asked) and len(runs) < AHEAD and not too_long:
                        runs.append(_taken_from(left.pop, left, together, len(asked) + 1)[::-1])
                        if not helper.ask(question([items[place] for place in runs[-1]])):
                            left.extend(runs.pop())
                            too_long = True  # and so may be the others: they are not made ready in vain
                except HelperLostError:
                    left.extend(chain.from_iterable(reversed(runs)))
                    del asked[helper]
            if left:
                places = _taken_from(left.popleft, left, together, len(asked) + 1)
                answers.update(zip(places, here([items[place] for place in places]), strict=True))
        self._idle += asked
        return [answers[place] for place in range(len(items))]

    def _taken(self, number: int) -> "list[_Helper]":
        """Idle helpers, and new ones, as many as can be had."""
        if self._pid != os.getpid():  # forked: the helpers are those of the other process
            self._pid, self._idle = os.getpid(), []
        taken = list[_Helper]()
        with contextlib.suppress(HelperLostError):
            while len(taken) < number and not hasattr(sys, "frozen"):  # else sys.executable is no Python
                try:
                    taken.append(self._idle.pop())
                except IndexError:  # another thread may have taken the last one just now
                    taken.append(_Helper(self._make, self._given))
        return taken


def _taken_from(take: Callable[[], int], left: Sized, most: int, processes: int) -> list[int]:
    """The next places for one of so many processes: `most`, fewer towards the end, and always one."""
    return [take() for _ in range(max(1, min(most, len(left) // (SHARES * processes))))]


class _Helper:
    """One process. It answers in the order in which it is asked."""

    def __init__(self, *made_of: object) -> None:
        try:
            with tempfile.TemporaryFile() as file:
                made = pickle.dumps(made_of)
                file.write(bytes(AHEAD * ROOM) + made)  # zeros, so that their place on the disk is certain
                file.flush()
                memory = _memory(file.fileno())
                self._process = process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _START],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,  # what has come can be seen
                    pass_fds=[file.fileno()],
                    start_new_session=True,  # Ctrl-C is not for it
                )
                assert process.stdin and process.stdout
                weakref.finalize(self, _end, process, os.getpid())
                self._channel = _Channel(process.stdout, process.stdin, memory)
                self._come = select.poll()
                self._come.register(process.stdout, select.POLLIN)
                for first in sys.path, (file.fileno(), len(made)):  # short: the pipe takes it before it is read
                    _write_piped(pickle.dumps(first), process.stdin)
        except Exception as error:  # whatever it was: the work can be done without
            raise HelperLostError from error

    def ask(self, question: object) -> bool:
        """Give it one more question, AHEAD at most before it is asked for an answer; whether there is room for it.

        Raises HelperLostError.
        """
        try:
            return self._channel.write(question, through_pipe=False)
        except Exception as error:
            raise HelperLostError from error

    def has_answered(self, *, wait: bool) -> bool:
        """Whether an answer, or the helper's end, has come. wait: until it has."""
        return bool(self._come.poll(None if wait else 0))

    def answer(self) -> object:
        """The answer to the first of its questions that has none yet. Raises HelperLostError."""
        try:
            return self._channel.read()
        except Exception as error:
            raise HelperLostError from error


class _Channel:
    """Objects to and from another process, by turns in AHEAD places of memory that both have."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes], memory: Sequence[mmap.mmap]) -> None:
        self._incoming, self._outgoing, self._memory = incoming, outgoing, memory
        self._written = self._read = 0

    def write(self, something: object, *, through_pipe: bool) -> bool:
        """Write an object, and return whether it was; one that is too long for the memory only if it may take the pipe.

        In the pipe it has to wait until the other process reads it.
        """
        place = self._memory[self._written % AHEAD]
        place.seek(0)
        try:
            pickle.dump(something, place, pickle.HIGHEST_PROTOCOL)  # straight there: what is long is copied once
        except ValueError:  # it goes beyond the place
            if not through_pipe:
                return False
            _write_size(PIPED, self._outgoing)
            _write_piped(pickle.dumps(something), self._outgoing)
        else:
            _write_size(place.tell(), self._outgoing)
        self._written += 1
        return True

    def read(self) -> object:
        """Raises EOFError at the end."""
        size = _read_size(self._incoming)
        place = self._memory[self._read % AHEAD]
        self._read += 1
        if size == PIPED:
            return pickle.loads(_read_bytes(_read_size(self._incoming), self._incoming))
        with memoryview(place) as memory, memory[:size] as pickled:
            return pickle.loads(pickled)


def _memory(file: int) -> list[mmap.mmap]:
    """The AHEAD places of memory at the beginning of an open file."""
    return [mmap.mmap(file, ROOM, offset=place * ROOM) for place in range(AHEAD)]


def _write_size(size: int, file: IO[bytes]) -> None:
    file.write(size.to_bytes(_SIZE))
    file.flush()


def _write_piped(pickled: bytes, file: IO[bytes]) -> None:
    _write_size(len(pickled), file)
    left = memoryview(pickled)
    while left:
        left = left[file.write(left) :]
    file.flush()


def _read_size(file: IO[bytes]) -> int:
    return int.from_bytes(_read_bytes(_SIZE, file))


def _read_bytes(size: int, file: IO[bytes]) -> bytes:
    """Exactly so many. Raises EOFError where fewer are left."""
    read = bytearray()
    while len(read) < size:
        some = file.read(size - len(read))
        if not some:
            raise EOFError
        read += some
    return bytes(read)


def _end(process: subprocess.Popen[bytes], pid: int) -> None:
    """End a helper; a fork of the process that started it leaves it alone."""
    if pid == os.getpid():
        process.kill()  # to wait until it ends would be for ever where a fork holds its pipe open
        with contextlib.suppress(OSError):
            process.communicate()


def serve() -> None:
    """What a helper does."""
    keep_freed_memory()
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    file, size = pickle.loads(_read_bytes(_read_size(questions), questions))
    channel = _Channel(questions, answers, _memory(file))
    make, given = pickle.loads(os.pread(file, size, AHEAD * ROOM))
    work = make(given)
    with contextlib.suppress(EOFError):
        while True:
            channel.write(work(channel.read()), through_pipe=True)
