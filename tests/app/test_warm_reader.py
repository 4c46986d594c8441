"""Uploads are read by processes that a warm one forks, and a warm one that dies costs no upload."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from fastapi.testclient import TestClient

from spinepaint.app import warm_reader
from spinepaint.app.reader import ReaderFailed, read_apart
from spinepaint.app.warm_reader import WarmReader
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import Refusal
from tests.app.conftest import Files
from tests.imaging.series_factory import make_series


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmReader]:
    reader = WarmReader()
    reader.start()
    yield reader
    reader.close()


def _pid(reader: WarmReader) -> int:
    assert reader._process is not None
    return reader._process.pid


def test_it_answers_what_a_process_of_its_own_answers(warm: WarmReader, series_files: list[Path], tmp_path: Path) -> None:
    folder = series_files[0].parent
    assert read_apart("read", folder, None, Caps(), answer_to=warm.answer) == read_apart("read", folder, None, Caps())
    (tmp_path / "bad.dcm").write_bytes(series_files[0].read_bytes()[:-2000])
    with pytest.raises(Refusal) as there:
        read_apart("read", tmp_path, None, Caps(), answer_to=warm.answer)
    with pytest.raises(Refusal) as apart:
        read_apart("read", tmp_path, None, Caps())
    assert there.value == apart.value


def test_the_memory_that_one_upload_may_take_is_not_taken_from_the_next(warm: WarmReader, tmp_path: Path) -> None:
    folder = make_series(tmp_path, slices=7, rows=512, columns=512, spacing_mm=(4.4, 0.5, 0.5))[0].parent
    with pytest.raises(Refusal) as refused:
        read_apart("read", folder, None, Caps(reader_memory_bytes=1), answer_to=warm.answer)
    assert refused.value.status == 413
    assert read_apart("read", folder, None, Caps(), answer_to=warm.answer)["sha256"]


def test_a_process_that_crashes_takes_its_upload_and_not_the_warm_one(warm: WarmReader, series_files: list[Path]) -> None:
    before = _pid(warm)
    with pytest.raises(ReaderFailed):
        warm.answer("this is no request")
    assert read_apart("read", series_files[0].parent, None, Caps(), answer_to=warm.answer)["sha256"]
    assert _pid(warm) == before


def test_a_warm_one_that_was_killed_costs_no_upload(warm: WarmReader, series_files: list[Path]) -> None:
    before = _pid(warm)
    os.kill(before, signal.SIGKILL)
    found = [read_apart("read", series_files[0].parent, None, Caps(), answer_to=warm.answer) for _ in range(2)]
    assert found[0] == found[1]
    assert _pid(warm) != before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_a_whole_service_does_not_end_it(warm: WarmReader, series_files: list[Path], signum: int) -> None:
    """Such as systemd, which tells every process of a service: the gateway ends this one when all that it has to read is read."""
    before = _pid(warm)
    read_apart("read", series_files[0].parent, None, Caps(), answer_to=warm.answer)
    os.kill(before, signum)
    for _ in range(2):  # the first might not have met with one that is about to end
        assert read_apart("read", series_files[0].parent, None, Caps(), answer_to=warm.answer)["sha256"]
    assert _pid(warm) == before


class _LastByte(socket.socket):
    """The end of a request's way to a reader, which does something before it says that all of it was sent."""

    before: Callable[[], None]

    def shutdown(self, how: int) -> None:
        assert self.recv(1, socket.MSG_PEEK) == warm_reader.TAKEN  # a process has the upload by now
        # And has the request, but for its end: with some of it unread the socket is reset, as where nothing was begun.
        while any(fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(4))):
            time.sleep(0.001)
        self.before()
        super().shutdown(how)


def _do_while_it_reads(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    pair = socket.socketpair

    def pair_once() -> tuple[socket.socket, socket.socket]:
        monkeypatch.setattr(socket, "socketpair", pair)
        ours, theirs = pair()
        last = _LastByte(fileno=ours.detach())
        last.before = what
        return last, theirs

    monkeypatch.setattr(socket, "socketpair", pair_once)


def test_a_warm_one_that_is_killed_while_it_reads_costs_no_upload(
    warm: WarmReader, series_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the kernel runs out of memory: what it forked ends with it."""
    warm.start()
    _do_while_it_reads(monkeypatch, lambda: os.kill(_pid(warm), signal.SIGKILL))
    assert read_apart("read", series_files[0].parent, None, Caps(), answer_to=warm.answer)["sha256"]


def test_a_store_request_is_not_begun_twice(warm: WarmReader, series_files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes away what is of another study, which a second reader would not miss."""
    warm.start()
    _do_while_it_reads(monkeypatch, lambda: os.kill(_pid(warm), signal.SIGKILL))
    with pytest.raises(Refusal) as refused:
        read_apart("store", series_files[0].parent, None, Caps(), answer_to=warm.answer)
    assert (refused.value.status, refused.value.type) == (503, "stopping")


def test_one_that_is_closed_while_it_reads_says_nothing_of_the_upload(
    warm: WarmReader, series_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_request: str) -> str:
        raise AssertionError("a process was started by a service that ends")

    warm.start()
    monkeypatch.setattr(warm_reader, "answer_once", never)
    _do_while_it_reads(monkeypatch, warm.close)
    with pytest.raises(Refusal) as refused:
        read_apart("read", series_files[0].parent, None, Caps(), answer_to=warm.answer)
    assert (refused.value.status, refused.value.type) == (503, "stopping")


def test_one_that_is_silent_for_too_long_is_a_refusal(
    warm: WarmReader, series_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    warm.start()
    monkeypatch.setattr(warm_reader, "TIMEOUT_S", 0.2)
    os.kill(_pid(warm), signal.SIGSTOP)
    try:
        with pytest.raises(Refusal) as refused:
            read_apart("read", series_files[0].parent, None, Caps(), answer_to=warm.answer)
    finally:
        os.kill(_pid(warm), signal.SIGCONT)
    assert (refused.value.type, refused.value.title) == ("upload-unreadable", "The upload takes too long to read.")


def test_it_ends_with_the_process_that_has_it(series_files: list[Path]) -> None:
    request = {"task": "read", "source": str(series_files[0].parent), "series_uid": None, "caps": asdict(Caps())}
    request |= {"spill": None, "study_uid": None, "allow_synthetic": False}
    program = (
        "import sys; from spinepaint.app.warm_reader import WarmReader; reader = WarmReader(); reader.answer(sys.argv[1]); "
        "print(reader._process.pid, flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", program, json.dumps(request)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        warm = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    gone, _ = psutil.wait_procs([warm], timeout=60)
    assert gone == [warm]


def test_the_gateway_reads_all_its_uploads_by_one_warm_reader(
    client: TestClient, upload: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_request: str) -> str:
        raise AssertionError("a process was started for an upload")

    monkeypatch.setattr(warm_reader, "answer_once", never)
    reader: WarmReader = client.app.state.reader  # type: ignore[attr-defined]
    assert client.post("/v1/series", files=upload).status_code == 201
    first = _pid(reader)
    assert client.post("/v1/series", files=upload).status_code == 201
    assert client.post("/v1/series:check", files=upload).json()["accepted"]
    assert _pid(reader) == first
