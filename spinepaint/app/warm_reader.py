"""A reader that has its imports behind it and forks a process for each upload: `python -m spinepaint.app.warm_reader FD`.

What a reader imports costs three times what it does with a series. Here that is paid once: a process without threads
imports it and then only forks, and each upload is still read by a process of its own, which ends with it.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from math import ceil

from spinepaint.app.reader import TIMEOUT_S, ReaderFailed, answer_once, answer_text, prepare

TAKEN = b"\n"
"""What a process says first of an upload: that it is there, and a silence from now on is the upload's doing."""


class WarmReader:
    """Answers requests by the processes that a warm one forks; that one is started when it is first needed, or by `start`.

    It ends with this object, or with this process however that ends: its socket closes then. Safe to share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Have it warm before it is needed."""
        with self._lock:
            self._running()

    def answer(self, request: str) -> str:
        """What a reader says to a request. Raises ReaderFailed where it crashed, TimeoutError where it took too long."""
        said = self._asked(request.encode())
        if not said.startswith(TAKEN):  # the warm one was gone, or could not fork: that is not the upload's fault
            return answer_once(request)
        if said == TAKEN:
            raise ReaderFailed
        return said.decode()

    def close(self) -> None:
        """End it; whatever it is asked next starts another."""
        with self._lock:
            self._end()

    def _asked(self, request: bytes) -> bytes:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, suppress(OSError), self._lock:
                socket.send_fds(self._running(), [b"."], [theirs.fileno()])
            ours.settimeout(TIMEOUT_S)
            try:
                ours.sendall(request)
                ours.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: ours.recv(1 << 16), b""))
            except ConnectionError:
                return b""

    def _running(self) -> socket.socket:
        if self._control is None or self._process is None or self._process.poll() is not None:
            self._end()
            self._control, theirs = socket.socketpair()
            with theirs:
                argv = [sys.executable, "-m", __name__, str(theirs.fileno())]
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    argv,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},  # a fork keeps no thread
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


def _serve(control: socket.socket) -> None:
    """Fork a process for each socket that comes, until nobody is left who could send one."""
    prepare()
    gc.collect()
    gc.freeze()  # what is here by now is nobody's garbage; to look through it would copy it into each process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the service, which ends this one
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel forgets those that end
    warm = os.getpid()
    while fds := socket.recv_fds(control, 1, 1)[1]:
        with suppress(OSError):
            if os.fork() == 0:
                control.close()
                _attend(socket.socket(fileno=fds[0]), warm)
        os.close(fds[0])


def _attend(asker: socket.socket, warm: int) -> None:
    """Read one upload, say what was found, and end this process."""
    try:
        from spinepaint.app.leash import die_with_parent

        die_with_parent(warm)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.alarm(ceil(TIMEOUT_S))  # its default action ends a process in native code too
        asker.sendall(TAKEN)
        with asker.makefile("r", encoding="utf-8") as stream:
            request = stream.read()
        asker.sendall(answer_text(request).encode())
    finally:
        os._exit(0)  # never back into the loop, nor through what the warm process would do at its end


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
