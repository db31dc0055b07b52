"""Laws of a file on its way in: nobody else writes it, what came stays, and what is there is what was recorded."""

import errno
import os
from pathlib import Path

import pytest

from bpe.errors import FileError
from data.errors import DataError
from data.partial import Partial, record_path, verify


def test_what_came_before_a_stop_is_gone_on_with_from_the_same_version_of_the_same_address(tmp_path: Path) -> None:
    with Partial(tmp_path / "b") as part:
        part.append(b"half")
        part.belongs_to("http://one", "v1")
    with Partial(tmp_path / "b") as part:
        assert (part.size, part.version_of("http://one"), part.version_of("http://two")) == (4, "v1", None)
        part.append(b" and half")
        part.finish("http://one")
    assert (tmp_path / "b").read_bytes() == b"half and half"
    verify(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "b.json"]


def test_a_part_without_a_byte_leaves_nothing(tmp_path: Path) -> None:
    with Partial(tmp_path / "b") as part:
        part.belongs_to("http://one", "v1")
    assert list(tmp_path.iterdir()) == []


def test_two_downloads_of_one_file_at_once_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="the system has no such locks")
    with Partial(tmp_path / "b") as part:
        with pytest.raises(FileError, match="another process is fetching"), Partial(tmp_path / "b"):
            pass
        part.append(b"more")
    assert (tmp_path / "b.part").read_bytes() == b"more"


def test_a_file_that_is_there_has_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is written first: whatever stops the renaming, no file stands there unrecorded."""

    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".part":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(self, target)

    replace = Path.replace
    monkeypatch.setattr(Path, "replace", refuse)
    with Partial(tmp_path / "b") as part:
        part.append(b"whole")
        with pytest.raises(FileError, match="cannot write"):
            part.finish("http://one")
    assert not (tmp_path / "b").exists()
    assert record_path(tmp_path / "b").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match="cannot write") as caught, Partial(tmp_path / "file" / "b"):
        pass
    assert "\n" not in str(caught.value)


def test_a_record_that_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"by hand")
    for damaged in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        record_path(tmp_path / "b").write_bytes(damaged)
        verify(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"changed")
    with pytest.raises(DataError, match="was changed"):
        verify(tmp_path / "b")
