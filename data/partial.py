"""A file on its way in: what has come so far, and what is recorded of it once it is whole.

In: bytes, as they come.  Out: NAME.part while the file is not whole (beside it NAME.part.json: which version of which
address the bytes belong to), then NAME, and NAME.json with address, size and SHA-256. The record is written before the
file takes its name, so a file that is there has its record, whenever the work was interrupted.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from bpe.errors import FileError
from bpe.files import sha256_of, write_json
from data.errors import DataError

try:
    import fcntl
except ImportError:  # Windows has no such lock; there, two downloads of one file at a time are the user's to avoid
    fcntl = None  # type: ignore[assignment]


class Partial:
    """The growing file of one download. Raises FileError when the system refuses a write, and when another process is
    fetching the same file: that ends all downloads, for the file is not one that cannot be had."""

    def __init__(self, to: Path) -> None:
        self.to = to
        self.path = to.with_name(f"{to.name}.part")
        self._state = to.with_name(f"{to.name}.part.json")

    def __enter__(self) -> "Partial":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        except OSError as error:
            raise self._refused(error) from error
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._file.close()
                raise FileError(
                    f"another process is fetching {self.to}; wait until it is done and run again"
                ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        nothing = self.size == 0
        self._file.close()
        if nothing:
            self.path.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        """Bytes that have come so far."""
        return os.fstat(self._file.fileno()).st_size

    def append(self, chunk: bytes) -> None:
        """Add bytes; they are in the file when this returns."""
        try:
            self._file.write(chunk)
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error

    def empty(self) -> None:
        """Begin anew."""
        try:
            self._file.truncate(0)
            self._state.unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from error

    def version_of(self, url: str) -> str | None:
        """The version of `url` that the bytes so far belong to; None when they cannot be gone on with."""
        state = _read_json(self._state)
        return str(state["version"]) if state.get("url") == url and state.get("version") else None

    def belongs_to(self, url: str, version: str) -> None:
        """Note which version of which address the bytes are."""
        write_json(self._state, {"url": url, "version": version})

    def sha256(self) -> str:
        """The SHA-256 of the bytes so far."""
        return sha256_of(self.path)

    def finish(self, url: str) -> None:
        """The file is whole: record it and give it its name."""
        try:
            os.fsync(self._file.fileno())
            write_json(record_path(self.to), {"url": url, "bytes": self.size, "sha256": self.sha256()})
            self._state.unlink(missing_ok=True)
            if os.name == "nt":
                self._file.close()  # Windows renames no open file
                self._file = Path(os.devnull).open("ab")  # noqa: SIM115 (closed on leaving, like the one it replaces)
            self.path.replace(self.to)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> FileError:
        return FileError(f"cannot write {self.path}: {error.strerror or error}; make room there and run again")


def verify(file: Path, sha256: str | None = None) -> None:
    """Raise DataError unless a file is what was recorded when it came, and what it must be where that is known.

    A file without a record (put there by hand) is taken as it is, and recorded.
    """
    found = sha256_of(file)
    record = _read_json(record_path(file))
    for expected, when in ((record.get("sha256"), "recorded when it was fetched"), (sha256, "it has to be")):
        if expected is not None and str(expected).lower() != found:
            raise DataError(
                f"{file} was changed: its SHA-256 is {found}, not {expected} as {when};"
                f" delete it and {record_path(file).name} to fetch it again"
            )
    if not record:
        write_json(record_path(file), {"url": None, "bytes": file.stat().st_size, "sha256": found})


def record_path(file: Path) -> Path:
    """Where a file's address, size and SHA-256 are recorded."""
    return file.with_name(f"{file.name}.json")


def _read_json(path: Path) -> dict[str, Any]:
    """A small JSON object; an empty one when there is no file or it cannot be read as one."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
