"""Files from the web, fetched politely, once, and the same ever after.

In: the addresses of one file (mirrors, in order) and where it goes.  Out: the file, and beside it NAME.json with its
address, size and SHA-256. A file that is there is never fetched again: its hash is compared with the recorded one, and
a changed file is an error that names it.

- One request at a time, two seconds between requests to a host, a user agent that says who asks, and each host's
  robots.txt is obeyed, its Crawl-delay too (RFC 9309: one that is missing allows, one that fails forbids for now).
- NAME.part grows until the file is whole, then takes its name. A broken transfer goes on where it stopped (Range),
  unless the file has changed since (If-Range), and then begins anew. All the promised bytes make a file, and no fewer.
- 429 and 5xx are tried again after a growing wait, or the one that Retry-After asks for; other refusals go to the next
  mirror. No answer within ten seconds, or a trickle, counts as broken. Without a network the error comes in seconds.
"""

import contextlib
import http.client
import threading
import time
import urllib.error
import urllib.request
import urllib.robotparser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from socket import getaddrinfo
from typing import Any
from urllib.parse import urlsplit

from bpe.progress import progress_bar
from data.errors import DataError
from data.partial import Partial, verify

USER_AGENT = "LLM-BPE (fetches a fixed list of texts, once, one request at a time)"
_CHUNK = 1 << 16  # bytes
_TRICKLE = 512  # bytes a second: below this for longer than the timeout, a transfer is as good as dead
_LONGEST_WAIT = 60.0  # seconds a server may ask us to wait before the next mirror is tried instead
_LONGEST_LOOK_UP = 5.0  # seconds for a host's name

Progress = Callable[[int], object]  # told how many bytes came in


class Unreachable(DataError):
    """No server answers: there is no network, or a firewall is in the way."""


class _BrokenError(Exception):
    """A transfer that may work when tried again, after `wait` seconds where the server asked for that."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _RefusedError(Exception):
    """A mirror that will not give the file; another may."""


class _SilentError(_RefusedError):
    """A host that does not answer."""


@dataclass
class Downloader:
    """Fetches files one after another; knows when each host was last asked, and which do not answer."""

    pause: float = 2.0  # seconds between requests to one host
    timeout: float = 10.0  # seconds for connecting, and for each piece of an answer
    attempts: int = 4  # in a row without a new byte
    backoff: float = 1.0  # seconds before the second attempt, doubled each time
    _free_at: dict[str, float] = field(default_factory=dict)  # host -> time.monotonic() from which it may be asked
    _robots: dict[str, urllib.robotparser.RobotFileParser] = field(default_factory=dict)
    _silent: dict[str, str] = field(default_factory=dict)  # host -> why it is not asked any more

    def fetch(
        self, urls: str | Sequence[str], to: Path, *, sha256: str | None = None, progress: Progress | None = None
    ) -> Path:
        """Have the file at `to`: as it was fetched before, or from the first of `urls` that gives it.

        sha256: what the file must be, in hexadecimal, where that is known. progress: told of bytes as they come;
        without it a progress bar is shown. Raises Unreachable when no host answers, DataError when the file cannot be
        had or is not what was recorded or asked for, FileError when it cannot be written.
        """
        if to.exists():
            verify(to, sha256)
            return to
        refusals: list[_RefusedError] = []
        with Partial(to) as part:
            for url in [urls] if isinstance(urls, str) else urls:
                try:
                    self._fetch_from(url, part, sha256, progress)
                except _RefusedError as refusal:
                    refusals.append(refusal)
                else:
                    return to
        reasons = "; ".join(dict.fromkeys(map(str, refusals)))
        if all(isinstance(refusal, _SilentError) for refusal in refusals):
            raise Unreachable(f"cannot fetch {to.name}, no server answers ({reasons}); check the network and run again")
        raise DataError(f"cannot fetch {to.name}: {reasons}; run again later, or put the file at {to} yourself")

    def _fetch_from(self, url: str, part: Partial, sha256: str | None, progress: Progress | None) -> None:
        """Fetch one file from one mirror and give it its name; _RefusedError when this mirror will not do."""
        if not url.startswith(("http://", "https://")):
            raise DataError(f"{url} is not a web address (http:// or https://)")
        self._check_allowed(url)
        failures = 0
        while True:
            before = part.size
            try:
                self._transfer(url, part, progress)
                break
            except _BrokenError as broken:
                failures = 1 if part.size > before else failures + 1
                wait = self.backoff * 2 ** (failures - 1) if broken.wait is None else broken.wait
                if failures >= self.attempts or wait > _LONGEST_WAIT:
                    raise _RefusedError(f"{_host(url)}: {broken}") from broken
                time.sleep(wait)
        if sha256 is not None and (found := part.sha256()) != sha256.lower():
            part.empty()
            raise _RefusedError(f"{_host(url)}: its file has SHA-256 {found}, expected {sha256}")
        part.finish(url)

    def _transfer(self, url: str, part: Partial, progress: Progress | None) -> None:
        """Bring `part` to the whole file, from where it stands."""
        headers = {"Accept-Encoding": "identity"}
        have, version = part.size, part.version_of(url)
        if have and version:
            headers |= {"Range": f"bytes={have}-", "If-Range": version}
        try:
            with self._asked(url, headers) as answer:
                goes_on = answer.status == 206 and f"{answer.headers['Content-Range']}".startswith(f"bytes {have}-")
                if not goes_on:
                    part.empty()
                if answer.status == 206 and not goes_on:
                    raise _BrokenError("it sent another part of the file than was asked for")
                version = answer.headers["ETag"] or answer.headers["Last-Modified"]
                if version and not version.startswith("W/"):  # a weak tag promises no equal bytes
                    part.belongs_to(url, version)
                self._receive(answer, part, progress)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416:  # the file is now shorter than what we have of it
                    part.empty()
                    raise _BrokenError("the file changed while it was fetched", wait=0) from error
                if error.code == 429 or error.code >= 500:
                    raise _BrokenError(f"HTTP {error.code} {error.reason}", _retry_after(error.headers)) from error
                raise _RefusedError(f"{_host(url)}: HTTP {error.code} {error.reason}") from error

    def _receive(self, answer: Any, part: Partial, progress: Progress | None) -> None:
        """Append an answer's bytes to `part`; _BrokenError unless all that were promised came."""
        promised = int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
        received, began = 0, time.monotonic()
        with contextlib.ExitStack() as stack:
            if progress is None:
                total = None if promised is None else part.size + promised
                bar = progress_bar(total=total, description=part.to.name, unit="B", unit_scale=True, initial=part.size)
                progress = stack.enter_context(bar).update
            while chunk := _read(answer):
                part.append(chunk)
                progress(len(chunk))
                received += len(chunk)
                seconds = time.monotonic() - began
                if seconds > self.timeout and received < _TRICKLE * seconds:
                    raise _BrokenError(f"under {_TRICKLE} bytes a second")
        if promised is not None and received != promised:
            raise _BrokenError(f"the connection broke after {received:,} of {promised:,} bytes")

    @contextlib.contextmanager
    def _asked(self, url: str, headers: dict[str, str]) -> Iterator[Any]:
        """One polite request: its answer, if that is a success.

        Raises HTTPError for other answers, _SilentError when the host gives none, _BrokenError when it breaks off.
        """
        host = _host(url)
        if host in self._silent:
            raise _SilentError(self._silent[host])
        time.sleep(max(0.0, self._free_at.get(host, 0.0) - time.monotonic()))
        try:
            self._look_up(url)
            request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, **headers})
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                yield answer
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            self._silent[host] = f"{host}: {getattr(reason, 'strerror', None) or reason}"
            raise _SilentError(self._silent[host]) from error
        except (OSError, http.client.HTTPException) as error:  # urllib lets those of reading an answer's head through
            raise _BrokenError(f"the connection broke ({error})") from error
        finally:
            robots = self._robots.get(host)
            delay = float((robots and robots.crawl_delay(USER_AGENT)) or 0)
            self._free_at[host] = time.monotonic() + max(self.pause, delay)

    def _look_up(self, url: str) -> None:
        """Look a host's name up, giving up in time: without a network the system's own look-up may hang for minutes."""
        parts = urlsplit(url)
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc):
            return  # the proxy looks names up
        failures: list[OSError] = []

        def look_up() -> None:
            try:
                getaddrinfo(parts.hostname, None)
            except OSError as error:
                failures.append(error)

        thread = threading.Thread(target=look_up, daemon=True)
        thread.start()
        thread.join(_LONGEST_LOOK_UP)
        if thread.is_alive():
            raise TimeoutError("its name cannot be looked up")
        if failures:
            raise urllib.error.URLError(failures[0])

    def _check_allowed(self, url: str) -> None:
        """Read the host's robots.txt, once, and obey it; _RefusedError where it says no."""
        host = _host(url)
        if host not in self._robots:
            rules = urllib.robotparser.RobotFileParser()
            try:
                with self._asked(f"{urlsplit(url).scheme}://{host}/robots.txt", {}) as answer:
                    rules.parse(answer.read(500_000).decode("utf-8", errors="replace").splitlines())
            except urllib.error.HTTPError as error:
                with error:
                    if error.code == 429 or error.code >= 500:
                        raise _RefusedError(f"{host}: its robots.txt cannot be read, HTTP {error.code}") from error
                rules.parse([])
            except _BrokenError as error:
                raise _RefusedError(f"{host}: its robots.txt cannot be read, {error}") from error
            self._robots[host] = rules
        if not self._robots[host].can_fetch(USER_AGENT, url):
            raise _RefusedError(f"{host}: its robots.txt does not allow programs to fetch {urlsplit(url).path}")


def fetch(urls: str | Sequence[str], to: Path, *, sha256: str | None = None) -> Path:
    """Have one file at `to`, fetched from the first of `urls` that gives it; see Downloader.fetch."""
    return Downloader().fetch(urls, to, sha256=sha256)


def _read(answer: Any) -> bytes:
    """The next bytes of an answer, as soon as there are any; none at its end. _BrokenError when they fail to come."""
    try:
        chunk: bytes = answer.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(f"the connection broke ({error})") from error
    return chunk


def _retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait, from either form of Retry-After."""
    value = headers["Retry-After"]
    if value is None:
        return None
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None


def _host(url: str) -> str:
    return urlsplit(url).netloc
