"""Laws of the pairs: lines stay together, tags and notes go, and what is no story is left out."""

import io
import logging
import lzma
import re
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from data import documents, writing_prompts
from data.clean import normalise
from data.documents import Pair
from data.download import Downloader, Unreachable
from data.errors import DataError
from data.writing_prompts import (
    MIN_WORDS,
    beginning_of_line,
    download,
    find_pair_files,
    pair_of,
    read_pairs,
    without_notes,
)

TALE = "The old keeper climbed the stairs and lit the lamp, for a ship was near and the night was as black as tar. " * 3


def test_stories_of_the_real_data_keep_nothing_of_it(corpora: Path) -> None:
    files = find_pair_files(corpora / "writingprompts")
    pairs = list(read_pairs(*files["valid"]))
    assert len(pairs) == 309
    left = re.compile(r"``|''|\w n't\b|\w '(?:s|re|ve|ll|m|d)\b|\w [.,!?;](?:\s|$)|<newline>|[“”‘’]|\[ ?WP")
    assert not [found[0] for pair in pairs for text in (pair.prompt, pair.story) if (found := left.search(text))]
    assert all(normalise(pair.story) == pair.story and normalise(pair.prompt) == pair.prompt for pair in pairs)
    assert {pair.tag for pair in pairs} <= {"WP", "EU", "CW", "TT", "RF"}


@pytest.mark.parametrize(
    ("line", "prompt", "tag"),
    [
        ("[ WP ] A man , alone .", "A man, alone.", "WP"),
        ("[WP]A man, alone.", "A man, alone.", "WP"),
        ("[ eu ] [ WP ] A man, alone. [ WP ]", "A man, alone.", "EU"),
        ("A man with a [ red ] hat , alone .", "A man with a [red] hat, alone.", ""),
        ("A man, <newline> alone.", "A man, alone.", ""),
    ],
)
def test_the_tag_is_taken_off_the_prompt_and_kept(line: str, prompt: str, tag: str) -> None:
    assert pair_of(line, TALE) == Pair(prompt, TALE.strip(), tag)


def test_newline_marks_become_line_breaks_and_emphasis_goes() -> None:
    pair = pair_of(
        "[ WP ] A ship", f"*Run! * she said. <newline> <newline> {TALE} <newline> * * * <newline> **The** _end_."
    )
    assert isinstance(pair, Pair)
    assert pair.story == f"Run! she said.\n\n{TALE.strip()}\n* * *\nThe end."


@pytest.mark.parametrize(
    "note",
    [
        "EDIT: spelling",
        "Edited for spelling and grammar.",
        "edit 2 - thanks for the gold!",
        "Thank you so much for reading!",
        "More of my stories at /r/keeperstories.",
        "(part 1/2, continued in reply)",
        "To be continued...",
        "TL;DR: a keeper lights a lamp",
        "https://example.org/keeper",
        "* * *",
        "_____",
        "",
    ],
)
def test_notes_go_from_both_ends_and_stay_inside(note: str) -> None:
    inside = f"{TALE}\n{note}\n{TALE}"
    assert without_notes(f"{note}\n\n{inside}\n\n* * *\n{note}") == inside


@pytest.mark.parametrize(
    "line", ["He edited the letter.", "Thanks for the tea.", '"..."', "Part of him knew.", "r/", "Or/and"]
)
def test_lines_of_a_story_are_not_notes(line: str) -> None:
    assert without_notes(f"{line}\n{TALE}\n{line}") == f"{line}\n{TALE}\n{line}"


@pytest.mark.parametrize(
    ("prompt", "story", "reason"),
    [
        ("[ OT ] What do you read?", TALE, "ask for no story"),
        ("[ IP ] The tower", TALE, "ask for no story"),
        ("[ WP ]", TALE, "no words"),
        ("[ WP ] ...", TALE, "no words"),
        ("[ WP ] A ship", "word " * (MIN_WORDS - 1), "under"),
        ("[ WP ] A ship", "word " * (MIN_WORDS - 1) + "<newline> EDIT: some more words", "under"),
        ("[ WP ] A ship", "", "under"),
        ("[ WP ] A ship", f"**Off-Topic Discussion**: {TALE}", "moderators"),
    ],
)
def test_what_is_no_story_is_left_out_with_a_reason(prompt: str, story: str, reason: str) -> None:
    left_out = pair_of(prompt, story)
    assert isinstance(left_out, str) and reason in left_out


def folder_with(folder: Path, **files: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        split, kind, *packed = name.split("_")
        path = folder / f"{split}.wp_{kind}{'.xz' if packed else ''}"
        raw = content if isinstance(content, bytes) else content.encode("utf-8")
        path.write_bytes(lzma.compress(raw) if packed else raw)
    return folder


def test_plain_and_packed_files_give_the_same_pairs(tmp_path: Path) -> None:
    prompts, stories = "[ WP ] One\n[ EU ] Two\n", f"{TALE}a\n{TALE}b\n"
    plain = find_pair_files(folder_with(tmp_path / "plain", train_source=prompts, train_target=stories))
    packed = find_pair_files(folder_with(tmp_path / "packed", train_source_xz=prompts, train_target_xz=stories))
    assert list(read_pairs(*plain["train"])) == list(read_pairs(*packed["train"]))
    assert [pair.tag for pair in read_pairs(*plain["train"])] == ["WP", "EU"]


def test_a_progress_bar_follows_the_bytes_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = MagicMock()
    monkeypatch.setattr(documents, "progress_bar", bar)
    files = find_pair_files(folder_with(tmp_path, train_source="A man\n" * 200, train_target_xz=f"{TALE}\n" * 200))
    assert len(list(read_pairs(*files["train"], "counting"))) == 200
    size = sum(file.stat().st_size for file in files["train"])
    bar.assert_called_once_with(total=size, description="counting", unit="B", unit_scale=True)
    steps = [call.args[0] for call in bar.return_value.__enter__().update.call_args_list]
    assert sum(steps) == size
    assert min(steps) >= 0


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    stories = f"{TALE}\u2028{TALE}\x85 a\r\n{TALE}\x0b\x1c b\r\n"
    files = find_pair_files(folder_with(tmp_path, train_source="One\r\nTwo\r\n", train_target=stories))
    assert [pair.prompt for pair in read_pairs(*files["train"])] == ["One", "Two"]


def test_how_many_were_left_out_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    documents.warn_once.cache_clear()
    files = find_pair_files(folder_with(tmp_path, train_source="One\nTwo\n", train_target=f"{TALE}\nshort\n"))
    with caplog.at_level(logging.WARNING, "data"):
        for _ in range(2):
            assert len(list(read_pairs(*files["train"]))) == 1
    assert caplog.messages == [f"train.wp_source: 1 of 2 pairs left out (1 with stories under {MIN_WORDS} words)"]


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("One\nTwo\n", f"{TALE}\n", "target has 1 lines"),
        ("One\n", f"{TALE}\n{TALE}\n", "source has 1 lines"),
        ("", "", "empty"),
        (b"One\0\n", f"{TALE}\n", "not a text file"),
        ("One\n", TALE.encode() + b"caf\xe9\n", "line 1 is not UTF-8"),
        ("One\n", "x" * 3000, "longer than"),
        ("One\nTwo\n", "short\n \n", r"no pair .* can be used \(2 with stories under 50 words\)"),
    ],
)
def test_files_that_do_not_fit_together_are_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | bytes, target: str | bytes, says: str
) -> None:
    monkeypatch.setattr(writing_prompts, "MAX_DOCUMENT", 2000)
    files = find_pair_files(folder_with(tmp_path, train_source=source, train_target=target))
    with pytest.raises(DataError, match=says) as caught:
        list(read_pairs(*files["train"]))
    assert "\n" not in str(caught.value)


def test_a_damaged_or_unreadable_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_pair_files(folder_with(tmp_path, train_source="One\n", train_target_xz=TALE))["train"]
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-9])
    with pytest.raises(DataError, match="damaged"):
        list(read_pairs(*files))

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(io, "open", refuse)
    with pytest.raises(DataError, match=r"cannot read .*Permission denied"):
        list(read_pairs(*files))
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(DataError, match=r"cannot read .*Permission denied"):
        find_pair_files(tmp_path)


def test_a_folder_that_lacks_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        find_pair_files(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no train\.wp_source"):
        find_pair_files(folder_with(tmp_path / "a", valid_source="One\n", valid_target=TALE))
    with pytest.raises(DataError, match="no other half"):
        find_pair_files(folder_with(tmp_path / "b", train_source="One\n"))


def archive_of(members: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def test_the_download_is_unpacked_once_and_never_outside_its_folder(
    tmp_path: Path, site: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {f"writingPrompts/{name}": f"[ WP ] {name}\n".encode() for name in writing_prompts._FILES}
    site.body = archive_of({"../../evil.txt": b"evil", "/evil.wp_source": b"evil", **members})
    downloads = tmp_path / "downloads"
    unpacked = download(downloads, address=f"{site.address}/a.tar.gz", downloader=Downloader(pause=0))
    assert sorted(path.name for path in unpacked.iterdir()) == sorted(writing_prompts._FILES)
    assert not list(tmp_path.rglob("*evil*"))
    assert find_pair_files(unpacked).keys() == {"train", "valid"}
    said = capsys.readouterr()
    assert "370 MB" in said.err and not said.out
    assert download(downloads, address="http://127.0.0.1:9/a.tar.gz") == unpacked


def test_a_damaged_download_is_an_error_and_no_server_is_another(tmp_path: Path, site: Any) -> None:
    site.body = b"no archive"
    with pytest.raises(DataError, match="damaged"):
        download(tmp_path / "one", address=f"{site.address}/a.tar.gz", downloader=Downloader(pause=0))
    with pytest.raises(Unreachable):
        download(tmp_path / "two", address="http://127.0.0.1:9/a.tar.gz", downloader=Downloader(pause=0, backoff=0))


def test_the_beginning_of_a_line_has_every_word_that_is_counted():
    line = "EDIT : thanks for reading ! <newline> <newline> `` I do n't *know* , '' she said . <newline> r/stories"
    assert beginning_of_line(line, 1000) == 'EDIT: thanks for reading!\n\n"I don\'t know," she said.\nr/stories'
    assert beginning_of_line(line, 8) == "EDIT: thanks for reading!"
    assert beginning_of_line(line, 9) == 'EDIT: thanks for reading!\n\n"'


def test_a_pair_knows_its_line():
    target = "word " * 60 + "<newline> Edit: thanks for reading"
    pair = pair_of("[ WP ] A prompt .", target)
    assert pair.line == target
    assert "thanks" not in pair.story
    assert pair == Pair(pair.prompt, pair.story, "WP")
