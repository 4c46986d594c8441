"""What lies between the product and its bucket: passes bytes on, or fails in the ways that networks and stores fail."""

import random
import socket
import threading
from contextlib import suppress

PASS, UNAVAILABLE, CUT, SILENT = "pass", "unavailable", "cut", "silent"
FAILURES = (UNAVAILABLE, CUT, SILENT)
_CHUNK = 65536
_BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """A port before another one; `mode` may be changed at any time and is every connection's from then on.

    `unavailable` answers 503, `cut` closes connections in the middle of requests and of answers, `silent` takes requests and
    never answers them while it lasts.
    """

    def __init__(self, target: int) -> None:
        self.mode = PASS
        self._target = target
        self._chance = random.Random(target)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def fail(self, mode: str) -> None:
        """Begin to fail; connections that are open fail as new ones do."""
        self.mode = mode

    def heal(self) -> None:
        """Pass on again. What was kept waiting is cut: its bytes are gone."""
        self.mode = PASS
        self._close_all()

    def close(self) -> None:
        self._listener.close()
        self._close_all()

    def _close_all(self) -> None:
        for connection in list(self._open):
            _end(connection)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            _end(client)
            return
        server.settimeout(None)
        self._open.add(server)
        back = threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True)
        back.start()
        self._pass_on(client, server, True)
        back.join()
        self._open -= {client, server}
        client.close()
        server.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket, asking: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if self.mode == UNAVAILABLE and asking:
                    source.sendall(_BUSY)
                    break
                if self.mode == SILENT:
                    continue
                if self.mode == CUT and self._chance.random() < 0.5:
                    sink.sendall(data[: self._chance.randrange(len(data))])
                    break
                sink.sendall(data)
        _end(source)
        _end(sink)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
