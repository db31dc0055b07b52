"""Files that are written whole or not at all.

In: a path, and what to write.  Out: the file, never half of it, whatever happens in between.
What this project writes goes through `atomic_write`, but for two kinds of files that grow, downloads on their way
(data/partial.py) and metrics.jsonl (model/report.py), and a run's .lock, which is empty (model/run.py).
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bpe.errors import FileError

# What a system says that cannot bring a folder to the disk, or lets it be written but not opened.
_FOLDERS_ARE_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place when the block ends well, and leaves no trace when it does not.

    Text is UTF-8 with LF line ends. Missing parent folders are made. The file's bytes reach the disk before its name
    does, so a crash or a kill at any moment leaves the old file or the new one; a kill may leave a .*.tmp beside it.
    Raises FileError when the system refuses (no space, no permission, a folder in the way).
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") if binary else temporary.open("x", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise FileError(
            f"cannot write {path}: {error.strerror or error}; nothing is half written: make room there, or allow "
            "writing, and run again"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # it is only there if something went wrong, which is what to tell of
            temporary.unlink()


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Write a value as JSON, one item a line. Raises FileError as `atomic_write` does."""
    with atomic_write(path) as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises FileError when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}; check its name and permissions") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename durable where the system lets folders be synced (not on Windows)."""
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _FOLDERS_ARE_NOT_SYNCED:
            raise
