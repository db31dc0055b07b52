"""How a person, or the system, asks a training to stop.

In: Ctrl-C (SIGINT) or the request to end (SIGTERM).  Out: the wish to stop after the step that is under way; a second
one stops at once.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


class StopSignals:
    """Remembers whether a signal came while it listened. told: what to do at the first one."""

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        self.told = told
        self.came = threading.Event()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals in the block; elsewhere they do what they did before. Only a main thread can."""
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._take) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, signum: int, frame: object) -> None:
        if self.came.is_set():
            raise KeyboardInterrupt
        self.came.set()
        self.told()
