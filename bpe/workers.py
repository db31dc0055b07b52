"""Worker processes: a generator function of this project, run by fresh interpreters.

In: the function, and messages for it.  Out: its answers.

    def lengths(messages: Iterator[str]) -> Iterator[int]:  # at the top level of a module
        yield from map(len, messages)

    with Worker(lengths) as worker:
        worker.send("four")
        worker.receive()  # 4

Messages and answers are pickled, through stdin and stdout. Unlike a fork, a worker shares no threads with the caller;
unlike the spawn of `multiprocessing`, it does not run the caller's script again.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bpe.errors import UserError

Work = Callable[[Iterator[Any]], Iterator[Any]]

ROOT = Path(__file__).parent.parent


class WorkerEnded(UserError):
    """A worker process came to an end before its work did."""


class Worker:
    """A process that does `work`, gone when the block ends, however it ends.

    work: takes the messages, one at a time, and yields answers, as many as it likes. A top-level function.
    """

    def __init__(self, work: Work) -> None:
        call = f"from bpe.workers import serve; from {work.__module__} import {work.__name__} as work; serve(work)"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", call],  # -P: no modules from the folder that the user happens to be in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            process_group=0,  # Ctrl-C is the caller's to handle, who then ends this process
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # one that is done does not mind
        self._process.wait()
        self._stdout.close()
        with contextlib.suppress(OSError):  # what it did not take any more
            self._stdin.close()

    def send(self, message: object) -> None:
        """Give it a message; waits while it is busy with earlier ones. Raises WorkerEnded."""
        self._send((message,))

    def send_no_more(self) -> None:
        """Say that no message follows: the work's iterator ends. Raises WorkerEnded."""
        self._send(())

    def _send(self, packet: tuple[object, ...]) -> None:
        with _naming_early_ends():
            pickle.dump(packet, self._stdin)
            self._stdin.flush()

    def receive(self) -> Any:
        """Its next answer; waits for that. Raises WorkerEnded."""
        with _naming_early_ends():
            return pickle.load(self._stdout)


@contextlib.contextmanager
def _naming_early_ends() -> Iterator[None]:
    """Make a WorkerEnded of what is seen here when a process ends too soon."""
    try:
        yield
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise WorkerEnded(
            "a worker process came to an early end, perhaps for want of memory; close other programs and run again"
        ) from error


def serve(work: Work) -> None:
    """Be a worker: messages come in on stdin, the answers of `work` go out on stdout, until the caller is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for Windows, which has no process groups of that kind
    for answer in work(_messages(sys.stdin.buffer)):
        try:
            pickle.dump(answer, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError:
            os._exit(0)  # leaving as usual would write the answer once more, and complain to nobody


def _messages(source: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            packet = pickle.load(source)
        except (EOFError, pickle.UnpicklingError):  # the caller is gone, perhaps in the middle of a message
            os._exit(0)
        if not packet:
            return
        yield packet[0]
