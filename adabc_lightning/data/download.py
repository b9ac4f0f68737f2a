"""One file over HTTP: resumable, checked, and under its name only when it is whole and right.

Not by pooch (1.9): it starts over after each break, checks no size before the transfer, and keeps
two processes from nothing.
"""

import hashlib
import os
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import no_link, sync_folder
from adabc_lightning.run.lock import hold

TIMEOUT = 10.0  # seconds without a byte
BLOCK = 1 << 20  # bytes read at once


def fetch(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Downloads a file, going on from ``TARGET.part`` if an earlier attempt left one.

    Only what is known by its checksum is resumed: nothing else would notice that the halves
    of two versions had been put together.

    Args:
        url: http or https; redirects are followed.
        target: where the file goes; folders are made.
        size: its bytes, None if unknown.
        sha256: its checksum, None if unknown.
        timeout: seconds to wait for a connection and for each next byte.
    Raises: UserError: no connection, a refusal, a transfer that broke off (its part stays for
        the next attempt), or another file than expected (its part is removed).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with open(part, "ab", opener=no_link) as file:
        _lock(file, part, url)
        kept = file.tell()
        if sha256 is None or (size is not None and kept > size):
            kept = 0
        try:
            if size is None or kept < size:
                _transfer(url, file, kept, size, timeout, resumable=sha256 is not None)
            _check(url, part, sha256)
        except UserError as error:
            if isinstance(error, _WrongFile) or not file.seek(0, os.SEEK_END):
                part.unlink()
            raise
        os.fsync(file.fileno())
        os.replace(part, target)
    sync_folder(target.parent)


class _WrongFile(UserError):
    """What was received can never become the file."""


def _lock(file: BinaryIO, part: Path, url: str) -> None:
    """Two processes must not write one part; the loser may even hold one that is whole by now."""
    mine = hold(file) and part.exists()
    if not (mine and os.path.samestat(os.fstat(file.fileno()), part.stat())):
        raise UserError(f"another process is downloading {url} to {part}; wait until it is done")


def _transfer(
    url: str, file: BinaryIO, kept: int, size: int | None, timeout: float, *, resumable: bool
) -> None:
    """Appends what is missing after the first ``kept`` bytes, or everything anew."""
    try:
        response, start, total = _open(url, kept, timeout)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise UserError(f"{url} cannot be downloaded: {_reason(error)}") from error
    with response:
        if size is not None and total not in (None, size):
            raise _WrongFile(f"{url} has {total} bytes now; expected are {size}")
        file.truncate(start)
        file.seek(start)
        expected = total if size is None else size
        try:
            received = start + _copy(response, file, start, expected)
            problem = "the connection ended"
        except (OSError, HTTPException) as error:
            received, problem = file.tell(), _reason(error)
    if expected is not None and received > expected:
        raise _WrongFile(f"{url} sent more than the {expected} bytes that are expected")
    if received < (expected or 0) or problem != "the connection ended":
        raise UserError(
            f"the download of {url} broke off after {received} of {expected or 'unknown'} bytes "
            f"({problem}); the same command "
            + ("goes on from there" if resumable else "starts over, for lack of a checksum")
        )


def _open(url: str, kept: int, timeout: float) -> tuple[HTTPResponse, int, int | None]:
    """A response, the position of its first byte in the file, and the file's total bytes."""
    if kept:
        try:
            response = urlopen(Request(url, headers={"Range": f"bytes={kept}-"}), timeout=timeout)
        except HTTPError as error:
            if error.code != 416:  # the part is longer than the server's file
                raise
            error.close()
        else:
            unit, _, content = response.headers.get("Content-Range", "").partition(" ")
            place, _, total = content.partition("/")
            if response.status == 206 and unit == "bytes" and place.startswith(f"{kept}-"):
                return response, kept, int(total) if total.isdecimal() else None
            if response.status == 200:  # the server knows no ranges: from the start
                return response, 0, response.length
            response.close()
    response = urlopen(Request(url), timeout=timeout)
    if response.status != 200:
        response.close()
        raise HTTPException(f"the server answers {response.status} {response.reason}")
    return response, 0, response.length


def _copy(response: HTTPResponse, file: BinaryIO, start: int, expected: int | None) -> int:
    """Writes the body to the end of the file; stops at the first block that is too much."""
    copied = 0
    name = Path(file.name).stem
    with tqdm(
        total=expected, initial=start, desc=name, unit="B", unit_scale=True, disable=None
    ) as bar:
        while block := response.read1(BLOCK):
            file.write(block)
            copied += len(block)
            bar.update(len(block))
            if expected is not None and start + copied > expected:
                break
    file.flush()
    return copied


def _check(url: str, part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise _WrongFile(
            f"what came from {url} is another file than expected: SHA-256 {found}, not {sha256}"
        )


def _reason(error: Exception) -> str:
    """What went wrong with the network, in a few words."""
    if isinstance(error, HTTPError):
        return f"the server answers {error.code} {error.reason}"
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return "the server does not answer"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return " ".join(str(cause).split()) or type(cause).__name__
