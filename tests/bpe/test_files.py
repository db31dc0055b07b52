"""Files are written whole or not at all."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bpe.errors import FileError
from bpe.files import atomic_write, sha256_of, write_json

ROOT = Path(__file__).resolve().parents[2]


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def only_the_old_file_is_there(path):
    return path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_what_is_written_takes_the_old_files_place(old):
    with atomic_write(old) as file:
        file.write("neu: é\n")
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == "neu: é\n".encode()
    with atomic_write(old, binary=True) as file:
        file.write(b"\xff\n")
    assert old.read_bytes() == b"\xff\n"
    assert list(old.parent.iterdir()) == [old]


def test_missing_folders_are_made_and_the_users_file_mode_is_kept(tmp_path):
    with atomic_write(tmp_path / "a" / "b" / "file") as file:
        file.write("x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "a" / "b" / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("module", "name", "number"),
    [
        (os, "fsync", errno.ENOSPC),
        (os, "replace", errno.EACCES),
        (Path, "open", errno.EACCES),
        (Path, "open", errno.EROFS),
    ],
)
def test_a_full_disk_or_a_locked_folder_leaves_the_old_file_and_no_other(module, name, number, old, monkeypatch):
    monkeypatch.setattr(module, name, failing(number))
    with pytest.raises(FileError) as caught, atomic_write(old) as file:
        file.write("new")
    monkeypatch.undo()
    assert str(caught.value).startswith(f"cannot write {old}: {os.strerror(number)}; ")
    assert "\n" not in str(caught.value)
    assert only_the_old_file_is_there(old)


def test_a_disk_that_fills_while_writing_leaves_the_old_file(old):
    with pytest.raises(FileError, match="No space left"), atomic_write(old) as file:
        file.write("new")
        failing(errno.ENOSPC)()
    assert only_the_old_file_is_there(old)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_passes_through_and_leaves_the_old_file(error, old):
    with pytest.raises(error), atomic_write(old) as file:
        file.write("new")
        raise error
    assert only_the_old_file_is_there(old)


def test_a_file_where_a_folder_should_be_is_named(old):
    with pytest.raises(FileError, match="cannot write"), atomic_write(old / "below"):
        pass
    assert only_the_old_file_is_there(old)


def test_a_kill_while_writing_leaves_the_old_file(old):
    code = (
        "import sys, time\nfrom bpe.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write('new' * 100_000)\n    file.flush()\n    print('here', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(old)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"here\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert old.read_bytes() == b"old"
    with atomic_write(old) as file:
        file.write("newer")
    assert old.read_bytes() == b"newer"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_is_written_where_the_system_cannot_sync_folders(number, old, monkeypatch):
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (failing(number) if stat.S_ISDIR(os.fstat(handle).st_mode) else fsync)(handle)
    )
    with atomic_write(old) as file:
        file.write("new")
    assert old.read_bytes() == b"new"


def test_json_is_text_that_people_can_read(tmp_path):
    write_json(tmp_path / "file.json", {"title": "Émile — or", "pages": [1]})
    assert (tmp_path / "file.json").read_text(encoding="utf-8").splitlines()[1] == ' "title": "Émile — or",'
    assert json.loads((tmp_path / "file.json").read_bytes()) == {"title": "Émile — or", "pages": [1]}


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")
    with pytest.raises(FileError, match="cannot read"):
        sha256_of(tmp_path / "missing")
