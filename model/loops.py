"""Loops that numba compiles, and where it keeps them.

In: functions of NumPy arrays, written as loops (model/one_token.py, model/dots.py).  Out: the same as machine code.

numba takes seconds for a loop, once: what it compiled it keeps beside the loop's file, or below the user's home.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

Loop = TypeVar("Loop", bound=Callable[..., Any])

FILES = "loops.py", "products.py", "dots.py", "one_token.py"  # what is in one is compiled into loops of another
WRITTEN = sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in FILES)).hexdigest()
MOST_THREADS = numba.get_num_threads()  # that numba has made room for


def take_threads(threads: int) -> None:
    """How many the loops take that are called from this thread."""
    numba.set_num_threads(min(threads, MOST_THREADS))


def instruction(build: Callable[..., Any]) -> Any:
    """What calls in a loop are compiled to; the first argument of `build` is numba's, constants come as such."""
    return intrinsic(prefer_literal=True)(build)


def compiled(loop: Loop) -> Loop:
    """The loop, compiled when it is first called. Sums are taken in any order; `prange` is shared by all threads."""
    return _compiled(loop, {"reassoc", "contract", "nsz"})


def compiled_as_written(loop: Loop) -> Loop:
    """The same, with sums in the order in which they are written."""
    return _compiled(loop, set())


def _compiled(loop: Loop, liberties: set[str]) -> Loop:
    in_parallel = "prange" in loop.__code__.co_names
    fast: Any = numba.njit(parallel=in_parallel, fastmath=liberties, error_model="numpy")(loop)
    with suppress(RuntimeError):  # there is no folder to keep it in
        fast._cache = _Cache(loop)  # type: ignore[no-untyped-call]
    return cast(Loop, fast)


class _Cache(FunctionCache):
    """Where numba keeps what it compiled; on a full disk it does without."""

    def _index_key(self, signature: Any, target: Any) -> Any:
        """What must be the same for what was kept to be used; numba looks at a loop's own file alone."""
        return super()._index_key(signature, target), WRITTEN  # type: ignore[no-untyped-call]

    def save_overload(self, signature: Any, overload: Any) -> None:
        """Keep what was compiled for arguments of these types, where there is room."""
        with suppress(OSError):
            super().save_overload(signature, overload)  # type: ignore[no-untyped-call]


class _First(event.Listener):
    """Calls `tell` for the first event that starts."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell

    def on_start(self, event: Any) -> None:
        self.tell()
        self.tell = lambda: None

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once, as the first loop is compiled in the block that was not kept."""
    with event.install_listener("numba:compile", _First(tell)):
        yield
