"""A local server that can misbehave, for what fetches files."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest


@dataclass
class Site:
    """What the local server answers, and what it was asked."""

    body: bytes = b"a file"
    etag: str | None = '"one"'
    robots: str | None = None  # None: 404
    statuses: list[int] = field(default_factory=list)  # answers to give before the file
    headers: dict[str, str] = field(default_factory=dict)  # with those answers
    cuts: list[int] = field(default_factory=list)  # bytes after which to drop the connection, one for each answer
    stall: float = 0.0  # seconds to wait after a cut before the connection drops
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    agents: set[str] = field(default_factory=set)
    address: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.agents.add(str(self.headers["User-Agent"]))
            if self.path == "/robots.txt":
                self.answer(404 if site.robots is None else 200, (site.robots or "").encode())
                return
            site.asked.append((self.path, self.headers["Range"]))
            if site.statuses:
                self.answer(site.statuses.pop(0), b"", **site.headers)
                return
            asked, unchanged = self.headers["Range"], self.headers["If-Range"] in (None, site.etag)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and unchanged else 0
            if start >= len(site.body):
                self.answer(416, b"")
                return
            extra = {"ETag": site.etag} if site.etag else {}
            if start:
                extra["Content-Range"] = f"bytes {start}-{len(site.body) - 1}/{len(site.body)}"
            self.answer(206 if start else 200, site.body[start:], cut=site.cuts.pop(0) if site.cuts else None, **extra)

        def answer(self, status: int, body: bytes, cut: int | None = None, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body if cut is None else body[:cut])
            if cut is not None:
                self.wfile.flush()
                time.sleep(site.stall)
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()
