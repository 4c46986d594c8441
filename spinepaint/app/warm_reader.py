"""A reader that has its imports behind it and forks a process for each upload: `python -m spinepaint.app.warm_reader FD`.

What a reader imports costs three times what it does with a series. Here that is paid once: a process without threads
imports it and then only forks, and each upload is still read by a process of its own, which ends with it.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from math import ceil

from spinepaint.app.reader import CONSUMING, TIMEOUT_S, ReaderEnded, ReaderFailed, answer_once, answer_text, prepare

TAKEN = b"\n"
"""What a process says first of an upload: that it is there, and a silence from now on is the upload's doing. And last."""
_END_S = 0.5
"""Those that a process forked may be seen to end before it is itself."""


class WarmReader:
    """Answers requests by the processes that a warm one forks; that one is started when it is first needed, or by `start`.

    It ends with this object, or with this process however that ends: its socket closes then. Safe to share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Have it warm before it is needed."""
        with self._lock:
            self._running()

    def answer(self, request: str) -> str:
        """What a reader says to a request.

        Raises ReaderFailed where it crashed, ReaderEnded where this was closed meanwhile or where what was begun cannot be begun
        again, TimeoutError where it took too long.
        """
        warm, said = self._asked(request.encode())
        if said.endswith(TAKEN) and said != TAKEN:
            return said.decode()
        if said.startswith(TAKEN) and not _has_ended(warm):
            raise ReaderFailed
        if warm is not None and warm is self._closed:
            raise ReaderEnded
        if said and json.loads(request)["task"] == CONSUMING:
            raise ReaderEnded
        return answer_once(request)  # the warm one was gone, or could not fork: that is not the upload's fault

    def close(self) -> None:
        """End it; whatever it is asked next starts another."""
        with self._lock:
            self._closed = self._process
            self._end()

    def _asked(self, request: bytes) -> tuple[subprocess.Popen[bytes] | None, bytes]:
        """The warm process that was asked, None where there was none to be had, and what one that it forked said."""
        warm = None
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, suppress(OSError), self._lock:
                control = self._running()
                warm = self._process
                socket.send_fds(control, [b"."], [theirs.fileno()])
            ours.settimeout(TIMEOUT_S)
            try:
                ours.sendall(request)
                ours.shutdown(socket.SHUT_WR)
                return warm, b"".join(iter(lambda: ours.recv(1 << 16), b""))
            except ConnectionError:
                return warm, b""

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


def _has_ended(process: subprocess.Popen[bytes] | None) -> bool:
    """Whether a process is gone, or goes just now."""
    try:
        return process is None or process.wait(_END_S) is not None
    except subprocess.TimeoutExpired:
        return False


def _serve(control: socket.socket) -> None:
    """Fork a process for each socket that comes, until nobody is left who could send one."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # they are meant for the service, which ends this one when all is read
    prepare()
    gc.collect()
    gc.freeze()  # what is here by now is nobody's garbage; to look through it would copy it into each process
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
        asker.sendall(answer_text(request).encode() + TAKEN)
    finally:
        os._exit(0)  # never back into the loop, nor through what the warm process would do at its end


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
