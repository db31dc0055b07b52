"""A run's folder: who may write to it, what was decided, and which files belong to it.

In: a folder.  Out: run.json, the record of settings, versions and hashes, and a lock that keeps a second process out.

    runs/story/run.json      settings of every stage, versions, where the data came from, a SHA-256 for every file
    runs/story/tokenizer.json, tokens/, pretrain/, finetune/
"""

import contextlib
import errno
import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bpe.errors import FileError
from bpe.files import atomic_write, sha256_of
from model.errors import ModelError

FORMAT = 1
PACKAGES = ("torch", "numpy", "regex", "safetensors")
LEFT_OVER = f".*.{'[0-9a-f]' * 8}.tmp"  # of a write that a kill cut short (bpe/files.py)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # what a file system says that has none, as some network drives


_log = logging.getLogger("model")


class RunFolder:
    """One run on disk. Reading needs no lock; `locked` is for who writes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.record: dict[str, Any] = self._read()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing to this run; the system lets go of the lock when a process dies.

        Raises ModelError when another process has it, FileError when the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("a+b")
        except OSError as error:
            raise FileError(
                f"cannot write to {self.path}: {error.strerror or error}; choose another folder with --run"
            ) from error
        with file:
            try:
                _lock(file.fileno())
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise ModelError(
                        f"another process is training in {self.path}; wait for it, or choose another folder with --run"
                    ) from error
                _log.warning("%s has no locks: see to it that no other process trains there", self.path)
            self.record = self._read()  # it may have changed while the lock was another's
            for left_over in (*self.path.glob(LEFT_OVER), *self.path.glob(f"*/{LEFT_OVER}")):
                left_over.unlink(missing_ok=True)
            yield

    def stage(self, name: str) -> dict[str, Any]:
        """What is recorded of a stage: settings, data, state; empty before its first start."""
        found = self.record.get("stages", {}).get(name, {})
        return dict(found)

    def note_stage(self, name: str, **changes: Any) -> None:
        """Record facts about a stage, keeping its other facts, and write run.json."""
        self.record.setdefault("stages", {})[name] = self.stage(name) | changes
        self._write()

    def forget_stage(self, name: str) -> None:
        """Drop a stage from the record, with the hashes of its files, before it is trained anew."""
        self.record.get("stages", {}).pop(name, None)
        self._drop_hashes([self.path / name])
        self._write()

    @contextlib.contextmanager
    def writing(self, *paths: Path) -> Iterator[None]:
        """Write or replace files of the run in the block, and record their hashes.

        The old hashes are dropped first: a kill in between leaves files without a recorded hash, which are taken as
        they are (each is whole, being written atomically), never a hash that accuses a good file.
        """
        self._drop_hashes(paths)
        self._write()
        yield
        for path in paths:
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if file.is_file() and not file.name.startswith("."):
                    self.record.setdefault("files", {})[self._name(file)] = sha256_of(file)
        self._write()

    def lists(self, file: Path) -> bool:
        """Whether the file's hash is recorded: it was written, whether or not it is still there."""
        return self.hash_of(file) is not None

    def hash_of(self, file: Path) -> str | None:
        """The hash that is recorded of a file of the run; None where there is none."""
        found: str | None = self.record.get("files", {}).get(self._name(file))
        return found

    def verify(self, *paths: Path) -> None:
        """Raise ModelError naming the first of these files, or files below these folders, that is not as recorded."""
        for name, expected in sorted(self.record.get("files", {}).items()):
            file = self.path / name
            if any(file == path or path in file.parents for path in paths):
                if not file.exists():
                    raise ModelError(
                        f"{file} is missing, though {self.path / 'run.json'} lists it; "
                        "put it back, or train its stage anew with --restart"
                    )
                if (found := sha256_of(file)) != expected:
                    raise ModelError(
                        f"{file} was changed: its SHA-256 is {found[:12]}, in {self.path / 'run.json'} it is "
                        f"{expected[:12]}; put the file back, or train its stage anew with --restart"
                    )

    def _drop_hashes(self, paths: "tuple[Path, ...] | list[Path]") -> None:
        files = self.record.get("files", {})
        for name in list(files):
            file = self.path / name
            if any(file == path or path in file.parents for path in paths):
                del files[name]

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _read(self) -> dict[str, Any]:
        path = self.path / "run.json"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"cannot read {path}: {error}; choose another folder with --run") from error
        try:
            record = json.loads(text)
            if not isinstance(record, dict) or record.get("format") != FORMAT:
                raise ValueError(f"it is not a run record of format {FORMAT}")
            stages, files = record.get("stages", {}), record.get("files", {})
            if not (isinstance(stages, dict) and isinstance(files, dict)):
                raise ValueError("its stages and files are no objects")
            if not all(isinstance(stage, dict) for stage in stages.values()):
                raise ValueError("a stage of it is no object")
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"{path} is damaged or of another program ({error}); choose another folder with --run"
            ) from error
        return record

    def _write(self) -> None:
        self.record |= {"format": FORMAT, "versions": versions()}
        with atomic_write(self.path / "run.json") as file:
            json.dump(self.record, file, indent=1, ensure_ascii=False)
            file.write("\n")


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The settings asked for that are not the run's own, in words; what was not asked for (None) does not differ."""
    return [
        f"{name} {recorded.get(name)} (asked: {value})"
        for name, value in asked.items()
        if value is not None and recorded.get(name) != value
    ]


def versions() -> dict[str, str]:
    """The versions that made a run."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _lock(handle: int) -> None:
    """Take an exclusive lock that dies with the process; OSError when it is taken."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
