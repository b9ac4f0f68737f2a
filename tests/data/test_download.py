"""Downloads from a server on this machine: whole, resumed, lying, broken, absent."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adabc_lightning.data import download
from adabc_lightning.data.download import fetch
from adabc_lightning.errors import UserError

BODY = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one body; its attributes say how it misbehaves."""

    daemon_threads = False  # closing waits for the last answer

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.knows_ranges = True
        self.hangs_up_after: int | None = None  # bytes of a response
        self.says_length = True
        self.claims: int | None = None  # Content-Length, whatever is sent
        self.silent = False
        self.sent: list[int] = []  # bytes of each response
        self.ranges: list[str | None] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if server.silent:
            server.released.wait(10)
            return
        if self.path == "/moved.hdf5":
            self.send_response(302)
            self.send_header("Location", "/d.hdf5")
            self.end_headers()
            return
        if self.path != "/d.hdf5":
            self.send_error(404)
            return
        asked = self.headers["Range"]
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        start = start if server.knows_ranges else 0
        if start >= len(server.body):
            self.send_error(416)
            return
        rest = server.body[start:]
        self.send_response(206 if start else 200)
        if start:
            total = len(server.body)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.says_length:
            self.send_header("Content-Length", str(server.claims or len(rest)))
        self.end_headers()
        rest = rest[: server.hangs_up_after]
        self.wfile.write(rest)
        server.sent.append(len(rest))

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "d.hdf5"


def get(server: Server, target: Path, path: str = "d.hdf5", **expected: Any) -> None:
    fetch(f"{server.url}/{path}", target, **{"size": len(BODY), "sha256": SHA256, **expected})


def refusal(server: Server, target: Path, path: str = "d.hdf5", **expected: Any) -> str:
    """The one sentence of a download that must not leave a file under the target's name."""
    with pytest.raises(UserError) as caught:
        get(server, target, path, **expected)
    message = str(caught.value)
    assert "\n" not in message
    assert not target.exists()
    assert message.count(server.url) == 1
    return message.replace(server.url, "URL")


def left(target: Path) -> list[tuple[str, int]]:
    return sorted((path.name, path.stat().st_size) for path in target.parent.iterdir())


@pytest.mark.parametrize("path", ["d.hdf5", "moved.hdf5"])
@pytest.mark.parametrize("known", [{}, {"size": None}, {"sha256": None, "size": None}])
def test_a_whole_file(server: Server, target: Path, path: str, known: dict[str, Any]) -> None:
    get(server, target, path, **known)
    assert target.read_bytes() == BODY
    assert left(target) == [("d.hdf5", len(BODY))]
    assert server.ranges == [None]


def test_without_a_length_the_size_decides(server: Server, target: Path) -> None:
    server.says_length = False
    get(server, target)
    assert target.read_bytes() == BODY


def test_what_broke_off_goes_on_where_it_was(server: Server, target: Path) -> None:
    server.hangs_up_after = 100_000
    assert refusal(server, target) == (
        "the download of URL/d.hdf5 broke off after 100000 of 300000 bytes (the connection ended);"
        " the same command goes on from there"
    )
    assert left(target) == [("d.hdf5.part", 100_000)]
    assert "broke off after 200000 of" in refusal(server, target)
    server.hangs_up_after = None
    get(server, target)
    assert target.read_bytes() == BODY
    assert server.sent == [100_000] * 3  # nothing twice
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert left(target) == [("d.hdf5", len(BODY))]


def test_a_server_without_ranges_starts_over(server: Server, target: Path) -> None:
    server.hangs_up_after, server.knows_ranges = 100_000, False
    refusal(server, target)
    server.hangs_up_after = 40_000
    assert "broke off after 40000 of" in refusal(server, target)
    assert left(target) == [("d.hdf5.part", 40_000)]
    server.hangs_up_after = None
    get(server, target)
    assert target.read_bytes() == BODY


def test_without_a_checksum_nothing_is_resumed(server: Server, target: Path) -> None:
    server.hangs_up_after = 100_000
    refusal(server, target, sha256=None)
    server.hangs_up_after = None
    get(server, target, sha256=None)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, None]


def test_a_part_longer_than_the_file_is_dropped(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part = target.with_name("d.hdf5.part")
    for known in ({}, {"size": None}):  # the second time it is the server that says so
        part.write_bytes(BODY + b"more")
        get(server, target, **known)
        assert target.read_bytes() == BODY
        target.unlink()


def test_a_whole_part_is_checked_and_named_without_asking(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part = target.with_name("d.hdf5.part")
    part.write_bytes(BODY)
    get(server, target)
    assert target.read_bytes() == BODY

    target.unlink()
    part.write_bytes(BODY[:-1] + b"?")
    assert "is another file than expected: SHA-256 " in refusal(server, target)
    assert left(target) == []
    assert server.ranges == []
    get(server, target)  # and the next attempt is a new one
    assert target.read_bytes() == BODY


def test_a_part_of_another_version_does_not_survive(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("d.hdf5.part").write_bytes(b"x" * 1000)
    assert refusal(server, target).endswith(f", not {SHA256}")
    assert left(target) == []


def test_a_wrong_size_is_refused_before_it_is_transferred(server: Server, target: Path) -> None:
    assert refusal(server, target, size=7) == "URL/d.hdf5 has 300000 bytes now; expected are 7"
    assert left(target) == []


def test_a_server_that_sends_more_than_is_expected_is_stopped(server: Server, target: Path) -> None:
    server.says_length = False
    message = "URL/d.hdf5 sent more than the 100 bytes that are expected"
    assert refusal(server, target, size=100) == message
    assert left(target) == []


def test_a_wrong_checksum(server: Server, target: Path) -> None:
    server.body = BODY[::-1]
    found = hashlib.sha256(BODY[::-1]).hexdigest()
    assert refusal(server, target) == (
        f"what came from URL/d.hdf5 is another file than expected: SHA-256 {found}, not {SHA256}"
    )
    assert left(target) == []


def test_a_server_that_sends_less_than_it_says(server: Server, target: Path) -> None:
    server.body, server.claims = BODY[:5], len(BODY)
    assert "broke off after 5 of 300000 bytes" in refusal(server, target)
    assert left(target) == [("d.hdf5.part", 5)]


def test_no_such_file(server: Server, target: Path) -> None:
    message = "URL/other.hdf5 cannot be downloaded: the server answers 404 Not Found"
    assert refusal(server, target, "other.hdf5") == message
    assert left(target) == []


def test_a_server_that_does_not_answer(server: Server, target: Path) -> None:
    server.silent = True
    message = "URL/d.hdf5 cannot be downloaded: the server does not answer"
    assert refusal(server, target, timeout=0.2) == message
    assert left(target) == []


def test_nobody_listens(target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/d.hdf5"
    with pytest.raises(UserError, match=rf"^{re.escape(url)} cannot be .*: Connection refused$"):
        fetch(url, target)
    assert left(target) == []


def test_only_one_process_downloads(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = download._transfer

    def second(*arguments: Any, **options: Any) -> None:
        assert refusal(server, target).startswith("another process is downloading URL/d.hdf5 to ")
        transfer(*arguments, **options)

    monkeypatch.setattr(download, "_transfer", second)
    get(server, target)
    assert target.read_bytes() == BODY
