"""Downloads, against a local server that can misbehave: whole or not at all, once, politely, and never hanging."""

import email.utils
import errno
import hashlib
import http.client
import json
import socket
import ssl
import time
from pathlib import Path
from typing import IO, Any

import pytest

from bpe.errors import FileError
from data import download
from data.download import USER_AGENT, Downloader, Unreachable
from data.errors import DataError
from data.partial import Partial

BODY = bytes(range(256)) * 4_000  # 1,024,000 bytes: more than one chunk
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def site(site: Any) -> Any:
    """The local server (conftest.py), which has a file of this BODY."""
    site.body = BODY
    return site


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the downloader slept, in seconds, without sleeping it."""
    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    return slept


def quick(**settings: float) -> Downloader:
    return Downloader(**{"pause": 0.0, "backoff": 0.01, "timeout": 5.0, **settings})  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_file_is_fetched_once_and_its_hash_recorded(site: Any, tmp_path: Path) -> None:
    to = tmp_path / "new folder" / "book.txt"
    for _ in range(2):
        assert quick().fetch(f"{site.address}/book.txt", to) == to
    assert to.read_bytes() == BODY
    assert json.loads((to.parent / "book.txt.json").read_text()) == {
        "url": f"{site.address}/book.txt",
        "bytes": len(BODY),
        "sha256": SHA256,
    }
    assert names(to.parent) == ["book.txt", "book.txt.json"]
    assert site.asked == [("/book.txt", None)]
    assert site.agents == {USER_AGENT}


def test_a_file_that_was_changed_is_named_and_not_used(site: Any, tmp_path: Path) -> None:
    to = quick().fetch(f"{site.address}/book.txt", tmp_path / "book.txt")
    to.write_bytes(BODY[:-1])
    with pytest.raises(DataError, match=r"book\.txt was changed: .* delete it and book\.txt\.json to fetch it again"):
        quick().fetch(f"{site.address}/book.txt", to)
    assert len(site.asked) == 1


def test_a_file_put_there_by_hand_is_taken_and_from_then_on_verified(tmp_path: Path) -> None:
    to = tmp_path / "book.txt"
    to.write_bytes(b"by hand")
    assert quick().fetch("http://never.invalid/book.txt", to) == to
    to.write_bytes(b"changed")
    with pytest.raises(DataError, match="was changed"):
        quick().fetch("http://never.invalid/book.txt", to)


@pytest.mark.parametrize("cut", [1, 300_000, len(BODY) - 1])
def test_a_dropped_connection_goes_on_where_it_stopped(site: Any, tmp_path: Path, cut: int) -> None:
    site.cuts = [cut]
    assert quick().fetch(f"{site.address}/b", tmp_path / "b").read_bytes() == BODY
    assert site.asked == [("/b", None), ("/b", f"bytes={cut}-")]


def test_a_download_that_was_killed_goes_on_where_it_stopped(site: Any, tmp_path: Path) -> None:
    site.cuts = [300_000]
    with pytest.raises(DataError):
        quick(attempts=1).fetch(f"{site.address}/b", tmp_path / "b")
    assert names(tmp_path) == ["b.part", "b.part.json"]
    assert quick().fetch(f"{site.address}/b", tmp_path / "b").read_bytes() == BODY
    assert site.asked[-1] == ("/b", "bytes=300000-")
    assert names(tmp_path) == ["b", "b.json"]


def test_a_file_that_changed_meanwhile_begins_anew(site: Any, tmp_path: Path) -> None:
    site.cuts = [300_000]
    with pytest.raises(DataError):
        quick(attempts=1).fetch(f"{site.address}/b", tmp_path / "b")
    site.body, site.etag = BODY[::-1], '"two"'
    assert quick().fetch(f"{site.address}/b", tmp_path / "b").read_bytes() == site.body


def test_a_file_that_shrank_under_the_same_version_begins_anew(site: Any, tmp_path: Path) -> None:
    site.cuts = [300_000]
    with pytest.raises(DataError):
        quick(attempts=1).fetch(f"{site.address}/b", tmp_path / "b")
    site.body = BODY[:300_000]
    assert quick().fetch(f"{site.address}/b", tmp_path / "b").read_bytes() == site.body


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_version_a_broken_download_begins_anew(site: Any, tmp_path: Path, etag: str | None) -> None:
    site.cuts, site.etag = [300_000], etag
    assert quick().fetch(f"{site.address}/b", tmp_path / "b").read_bytes() == BODY
    assert site.asked == [("/b", None), ("/b", None)]


def test_a_part_from_one_mirror_is_not_continued_from_another(site: Any, tmp_path: Path) -> None:
    site.cuts = [300_000]
    assert quick(attempts=1).fetch([f"{site.address}/a", f"{site.address}/b"], tmp_path / "b").read_bytes() == BODY
    assert site.asked == [("/a", None), ("/b", None)]


def test_a_truncated_file_is_never_taken_for_whole(site: Any, tmp_path: Path) -> None:
    site.cuts = [100] * 4
    site.etag = None
    with pytest.raises(DataError, match="broke after 100 of 1,024,000 bytes"):
        quick().fetch(f"{site.address}/b", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_mirrors_are_tried_in_order(site: Any, tmp_path: Path) -> None:
    site.statuses = [404, 403]
    mirrors = [
        f"{dead_address()}/a",
        f"{site.address}/b",
        f"{site.address}/c",
        f"{site.address}/d",
        f"{site.address}/e",
    ]
    assert quick().fetch(mirrors, tmp_path / "d").read_bytes() == BODY
    assert [path for path, _ in site.asked] == ["/b", "/c", "/d"]


def test_a_file_that_no_mirror_has_is_an_error_of_one_line(site: Any, tmp_path: Path) -> None:
    site.statuses = [404]
    with pytest.raises(
        DataError, match=r"cannot fetch b: .*HTTP 404 Not Found; run again later, or put the file"
    ) as caught:
        quick().fetch(f"{site.address}/b", tmp_path / "b")
    assert not isinstance(caught.value, Unreachable)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_too_many_requests_waits_as_long_as_it_is_told(site: Any, tmp_path: Path, naps: list[float]) -> None:
    site.statuses, site.headers = [429], {"Retry_After": "7"}
    assert quick().fetch(f"{site.address}/b", tmp_path / "b").read_bytes() == BODY
    assert 7.0 in naps


def test_a_wait_may_be_told_as_a_date(site: Any, tmp_path: Path, naps: list[float]) -> None:
    site.statuses, site.headers = [503], {"Retry_After": email.utils.formatdate(time.time() + 30, usegmt=True)}
    quick().fetch(f"{site.address}/b", tmp_path / "b")
    assert any(25 < nap <= 30 for nap in naps)


def test_a_wait_of_an_hour_goes_to_the_next_mirror(site: Any, tmp_path: Path, naps: list[float]) -> None:
    site.statuses, site.headers = [429], {"Retry_After": "3600"}
    assert quick().fetch([f"{site.address}/a", f"{site.address}/b"], tmp_path / "b").read_bytes() == BODY
    assert max(naps) < 60


def test_a_failing_server_is_asked_again_after_growing_waits_and_not_for_ever(
    site: Any, tmp_path: Path, naps: list[float]
) -> None:
    site.statuses = [500] * 10
    with pytest.raises(DataError, match="HTTP 500"):
        quick(backoff=1.0).fetch(f"{site.address}/b", tmp_path / "b")
    assert [nap for nap in naps if nap] == [1.0, 2.0, 4.0]
    assert len(site.asked) == 4


def test_requests_to_one_host_keep_their_distance(site: Any, tmp_path: Path, naps: list[float]) -> None:
    downloader = quick(pause=2.0)
    for name in "ab":
        downloader.fetch(f"{site.address}/{name}", tmp_path / name)
    waits = [nap for nap in naps if nap]
    assert len(waits) == 2  # robots.txt, then a, then b
    assert all(1.5 < wait <= 2.0 for wait in waits)


def test_robots_rules_are_obeyed(site: Any, tmp_path: Path, naps: list[float]) -> None:
    site.robots = "User-agent: *\nDisallow: /private/\nCrawl-delay: 9\n"
    downloader = quick()
    downloader.fetch(f"{site.address}/open/b", tmp_path / "b")
    with pytest.raises(DataError, match=r"robots\.txt does not allow"):
        downloader.fetch(f"{site.address}/private/c", tmp_path / "c")
    assert [path for path, _ in site.asked] == ["/open/b"]
    downloader.fetch(f"{site.address}/open/d", tmp_path / "d")
    assert max(naps) > 8


def test_another_file_than_the_expected_is_refused_and_leaves_nothing(site: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"has SHA-256 {SHA256}, expected 0000"):
        quick().fetch(f"{site.address}/b", tmp_path / "b", sha256="0" * 64)
    assert names(tmp_path) == []
    assert quick().fetch(f"{site.address}/b", tmp_path / "b", sha256=SHA256.upper()).read_bytes() == BODY


def test_without_a_network_the_error_comes_at_once_and_says_so(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no server answers") as caught:
        Downloader().fetch([f"{dead_address()}/a", f"{dead_address()}/b"], tmp_path / "b")
    assert time.monotonic() - began < 2
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_name_look_up_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "_LONGEST_LOOK_UP", 0.1)
    monkeypatch.setattr(download, "getaddrinfo", lambda *_: time.sleep(1))
    with pytest.raises(Unreachable, match="name cannot be looked up"):
        Downloader().fetch("http://books.invalid/b", tmp_path / "b")


def test_a_server_that_falls_silent_is_given_up(site: Any, tmp_path: Path) -> None:
    site.cuts, site.stall = [1_000] * 2, 1.0
    began = time.monotonic()
    with pytest.raises(DataError, match="timed out"):
        quick(timeout=0.2, attempts=1).fetch(f"{site.address}/b", tmp_path / "b")
    assert time.monotonic() - began < 0.9


@pytest.mark.parametrize("good", [0, 1])  # answers: to robots.txt, or none
@pytest.mark.parametrize("error", [ssl.SSLEOFError(8, "EOF occurred"), OSError(errno.ENETUNREACH, "unreachable")])
def test_a_connection_that_breaks_before_the_answer_is_one_line(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int, error: OSError
) -> None:
    def break_off(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        if len(asked) < good:
            asked.append(1)
            return answer(connection)
        raise error

    asked: list[int] = []
    answer = http.client.HTTPConnection.getresponse
    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", break_off)
    with pytest.raises(DataError, match=r"cannot fetch b: .*the connection broke") as caught:
        quick().fetch(f"{site.address}/b", tmp_path / "b")
    assert "\n" not in str(caught.value)


def test_a_host_that_does_not_answer_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloader, address = quick(), dead_address()
    with pytest.raises(Unreachable):
        downloader.fetch(f"{address}/a", tmp_path / "a")
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: pytest.fail("it was asked again"))
    with pytest.raises(Unreachable):
        downloader.fetch(f"{address}/b", tmp_path / "b")


def test_a_full_disk_is_one_line_and_what_came_is_kept(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        """A file that takes one chunk and then no more."""

        def __init__(self, file: IO[bytes]) -> None:
            self.file, self.chunks = file, 0

        def write(self, chunk: bytes) -> int:
            self.chunks += 1
            if self.chunks > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(chunk)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def enter(part: Partial) -> Partial:
        opened(part)
        part._file = FullDisk(part._file)  # type: ignore[assignment]
        return part

    opened = Partial.__enter__
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "__enter__", enter)
        with pytest.raises(FileError, match=r"cannot write .*No space left.*make room"):
            quick().fetch(f"{site.address}/b", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    kept = (tmp_path / "b.part").stat().st_size
    quick().fetch(f"{site.address}/b", tmp_path / "b")
    assert kept > 0 and site.asked[-1] == ("/b", f"bytes={kept}-")


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a web address"):
        quick().fetch(f"file://{tmp_path}/secret", tmp_path / "b")
