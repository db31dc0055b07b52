"""Laws of a run's folder: its record, its hashes, its lock."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bpe.errors import FileError, UserError
from model.errors import ModelError
from model.run import RunFolder, differences


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.note_stage("pretrain", state="training", limit={"steps": 5})
    folder.note_stage("pretrain", state="finished")
    assert RunFolder(tmp_path).stage("pretrain") == {"state": "finished", "limit": {"steps": 5}}
    assert "torch" in RunFolder(tmp_path).record["versions"]


def test_a_changed_file_is_named_with_both_hashes(tmp_path: Path) -> None:
    folder, file = RunFolder(tmp_path), tmp_path / "pretrain" / "config.json"
    file.parent.mkdir()
    with folder.writing(file):
        file.write_text("one")
    RunFolder(tmp_path).verify(file)
    file.write_text("two")
    with pytest.raises(ModelError, match=r"config\.json was changed: its SHA-256 is .{12}, in .*run\.json it is .{12}"):
        RunFolder(tmp_path).verify(file.parent)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder, file = RunFolder(tmp_path), tmp_path / "tokenizer.json"
    with folder.writing(file):
        file.write_text("one")
    file.unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        folder.verify(file)


def test_a_file_replaced_by_a_write_that_was_cut_short_is_not_accused(tmp_path: Path) -> None:
    file = tmp_path / "resume.pt"
    with RunFolder(tmp_path).writing(file):
        file.write_text("old")
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path).writing(file):
        file.write_text("new")
        raise KeyboardInterrupt  # as a kill between the file's rename and the record of its hash
    RunFolder(tmp_path).verify(file)


def test_a_file_outside_of_what_is_asked_for_is_not_read(tmp_path: Path) -> None:
    folder, file = RunFolder(tmp_path), tmp_path / "pretrain" / "config.json"
    file.parent.mkdir()
    with folder.writing(file):
        file.write_text("one")
    file.write_text("two")
    folder.verify(tmp_path / "finetune")


def test_a_forgotten_stage_leaves_no_hashes(tmp_path: Path) -> None:
    folder, file = RunFolder(tmp_path), tmp_path / "pretrain" / "config.json"
    file.parent.mkdir()
    with folder.writing(file):
        file.write_text("one")
    folder.note_stage("pretrain", state="finished")
    folder.forget_stage("pretrain")
    assert RunFolder(tmp_path).record["files"] == {}
    assert RunFolder(tmp_path).stage("pretrain") == {}


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from model.run import RunFolder\n"
            "with RunFolder(sys.argv[1]).locked(): print('locked', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    try:
        with pytest.raises(ModelError, match="another process is training in"), RunFolder(tmp_path).locked():
            pass
    finally:
        holder.kill()  # as hard as can be: the lock dies with the process
        holder.communicate()
    with RunFolder(tmp_path).locked():
        pass


DAMAGED = ["", "{", "[]", '{"format": 99}', '"run"', "\x00", "[" * 100_000]
DAMAGED += ['{"format": 1, "stages": []}', '{"format": 1, "stages": {"pretrain": 1}}', '{"format": 1, "files": 1}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json.*choose another folder with --run") as error:
        RunFolder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_locks_is_written_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("model.run._lock", no_locks)
    with RunFolder(tmp_path).locked():
        RunFolder(tmp_path).note_stage("pretrain", state="training")
    assert "has no locks" in caplog.text


def test_what_a_kill_left_of_a_write_is_swept_up_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "pretrain" / "deep").mkdir(parents=True)
    left = [tmp_path / ".run.json.0123abcd.tmp", tmp_path / "pretrain" / ".resume.pt.89abcdef.tmp"]
    others = [tmp_path / ".notes.tmp", tmp_path / "a.01234567.tmp", tmp_path / "pretrain" / "deep" / ".x.01234567.tmp"]
    for file in left + others:
        file.write_text("half")
    with RunFolder(tmp_path).locked():
        assert [file.exists() for file in left + others] == [False, False, True, True, True]


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match=r"choose another folder with --run"), RunFolder(tmp_path / "file").locked():
        pass


def test_only_what_was_asked_for_can_differ() -> None:
    recorded = {"seed": 1, "lr": 0.02}
    assert differences(recorded, {"seed": None, "lr": 0.02}) == []
    assert differences(recorded, {"seed": 2, "lr": 0.02}) == ["seed 1 (asked: 2)"]


def test_the_record_is_json_that_others_can_read(tmp_path: Path) -> None:
    RunFolder(tmp_path).note_stage("tokenizer", vocab_size=300)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["stages"]["tokenizer"]["vocab_size"] == 300
