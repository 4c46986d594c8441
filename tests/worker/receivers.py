"""Destinations under test: a DICOMweb service and a DICOM node that answer as they are told."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage


@dataclass
class WebReceiver:
    """A STOW-RS service: gives `answers` one after the other, the last one for ever; keeps what it was sent.

    The answer "all" names every instance as stored.
    """

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=lambda: [(200, "all")])
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hold: threading.Event | None = None
    asked: threading.Event = field(default_factory=threading.Event)

    def parts(self, request: int = -1) -> list[bytes]:
        boundary = self.headers[request]["content-type"].partition("boundary=")[2].encode()
        pieces = self.bodies[request].split(b"--" + boundary)[1:-1]
        return [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces]


def referenced(uids: Iterable[str], tag: str = "00081199", **more: Any) -> dict[str, Any]:
    """A response that names instances: as stored, or under another tag as failed."""
    return {tag: {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}, **more} for uid in uids]}}


@contextmanager
def web_receiver() -> Iterator[WebReceiver]:
    receiver = WebReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.asked.set()
            if receiver.hold is not None:
                receiver.hold.wait(60)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
            receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
            if answer == "all":
                answer = referenced(str(dcmread(BytesIO(part)).SOPInstanceUID) for part in receiver.parts())
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    try:
        yield receiver
    finally:
        if receiver.hold is not None:
            receiver.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Node:
    """A C-STORE SCP: answers with `status`, and keeps what it was sent."""

    port: int = 0
    status: Callable[[int], int] = lambda _number: 0x0000
    received: list[Dataset] = field(default_factory=list)
    contexts: list[tuple[str, str]] = field(default_factory=list)
    calling: list[str] = field(default_factory=list)


@contextmanager
def store_node(
    sop_classes: Sequence[str] = (MRImageStorage,), ae_title: str = "ARCHIVE", syntaxes: Sequence[str] = ()
) -> Iterator[Node]:
    node = Node()

    def store(event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        node.calling.append(event.assoc.requestor.ae_title)
        node.contexts.append((str(event.context.abstract_syntax), str(event.context.transfer_syntax)))
        node.received.append(dataset)
        return node.status(len(node.received))

    entity = AE(ae_title=ae_title)
    entity.require_called_aet = True
    for sop_class in sop_classes:
        entity.add_supported_context(sop_class, *([list(syntaxes)] if syntaxes else []))
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    node.port = server.server_address[1]
    try:
        yield node
    finally:
        server.shutdown()


@contextmanager
def raw_receiver(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where `answer` has each connection to itself, until the client closes it or the block ends."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            connections.append(self.request)
            with suppress(OSError):
                answer(self.request)

    connections: list[socket.socket] = []
    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.shutdown()
        thread.join()
        server.server_close()


def drip(connection: socket.socket, first: bytes = b"", pause_s: float = 0.05) -> None:
    """Begin an answer, and go on with it a byte at a time, for ever."""
    connection.sendall(first)
    while True:
        connection.sendall(b" ")
        time.sleep(pause_s)


def read_request(connection: socket.socket) -> None:
    """Take an HTTP request in, whole."""
    with connection.makefile("rb") as stream:
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        stream.read(length)
