"""A client that uploads a series over a plain socket and notes when what happened, to the byte."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydicom import dcmread

BOUNDARY = b"spinepaint-bench"
SEND_BUFFER_BYTES = 65_536
PIECE_BYTES = 65_536
PATIENCE_S = 300.0
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_DIGITS = 8


@dataclass(frozen=True)
class Answer:
    """A response: 0 is none, the connection having been cut. Times in seconds.

    `transfer_s` runs from the first byte of the request to the last byte of its body, when the client's kernel has taken it;
    with a send buffer of 64 KiB that is at most so much before the gateway's kernel has it. `accept_s` runs from there to the
    first byte of the answer: whatever the gateway has not read yet, it reads within it.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    transfer_s: float
    accept_s: float

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Slice:
    """A file as it is sent: what has UIDs in it, and the rest, which all uploads share."""

    head: bytes
    rest: memoryview


@dataclass(frozen=True)
class Template:
    """A series to upload any number of times, each time as another one."""

    slices: tuple[Slice, ...]
    uids: tuple[bytes, ...]

    @classmethod
    def of(cls, paths: list[Path]) -> "Template":
        """Of the files of a series."""
        slices, uids = [], set()
        for path in paths:
            data = path.read_bytes()
            dataset = dcmread(path, stop_before_pixels=True)
            uids |= {str(dataset[name].value).encode() for name in _UIDS}
            at = data.rindex(b"\xe0\x7f\x10\x00", 0, 65_536)
            slices.append(Slice(data[:at], memoryview(data)[at:]))
        return cls(tuple(slices), tuple(sorted(uids)))

    def pieces(self, number: int, spec: dict[str, Any]) -> Iterator[bytes | memoryview]:
        """The multipart body of upload `number`, whose UIDs no other number has."""
        for place, part in enumerate(self.slices):
            head = part.head
            for uid in self.uids:
                head = head.replace(uid, uid[:-_DIGITS] + b"%0*d" % (_DIGITS, number))
            name = b'Content-Disposition: form-data; name="files"; filename="%04d.dcm"' % place
            yield b"--%s\r\n%s\r\nContent-Type: application/dicom\r\n\r\n%s" % (BOUNDARY, name, head)
            yield part.rest
            yield b"\r\n"
        told = json.dumps(spec).encode()
        yield b'--%s\r\nContent-Disposition: form-data; name="spec"\r\n\r\n%s\r\n--%s--\r\n' % (BOUNDARY, told, BOUNDARY)


async def upload(url: str, template: Template, number: int, spec: dict[str, Any]) -> Answer:
    """`POST /v1/inpaint` of a series."""
    length = sum(len(piece) for piece in template.pieces(number, spec))
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    return await send(url, "POST", "/v1/inpaint", template.pieces(number, spec), length, kind)


async def ask(url: str, method: str, path: str) -> Answer:
    """A request without a body."""
    return await send(url, method, path, iter(()), 0, "application/json")


async def send(url: str, method: str, path: str, pieces: Iterator[bytes | memoryview], length: int, kind: str) -> Answer:
    """One request on a connection of its own."""
    at = urlsplit(url)
    began = sent = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(at.hostname, at.port, limit=2**20)
            try:
                _hold_little(writer)
                began = time.perf_counter()
                head = f"{method} {path} HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: close\r\n"
                writer.write(f"{head}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode())
                for piece in pieces:
                    for start in range(0, len(piece), PIECE_BYTES):
                        writer.write(piece[start : start + PIECE_BYTES])
                        await writer.drain()
                sent = time.perf_counter()
                first = await reader.readexactly(1)
                answered = time.perf_counter()
                whole = first + await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return Answer(0, {}, b"", sent - began, time.perf_counter() - sent)
    status, headers, body = _parsed(whole)
    return Answer(status, headers, body, sent - began, answered - sent)


def _hold_little(writer: asyncio.StreamWriter) -> None:
    """Have what was written be with the kernel when `drain` returns, and little of it be held there."""
    writer.transport.set_write_buffer_limits(high=0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def _parsed(whole: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = whole.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return int(line.split()[1]), headers, body
