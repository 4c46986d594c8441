"""Uploads fit onto the disk, or are told so before it is full."""

import shutil
from collections import namedtuple
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from spinepaint.app.admission import QUICK_S, Admission, Busy, Turn
from spinepaint.app.disk_room import DiskRoom
from spinepaint.app.gateway import create_app
from spinepaint.imaging.errors import Refusal
from spinepaint.settings import Settings
from spinepaint.store.database import migrate
from tests.app.conftest import Files, problem_type
from tests.app.test_admission import Clock

MOST, RESERVE = 1000, 50
Usage = namedtuple("Usage", "free")


class Disk:
    """What is free of a disk, less what uploads have written to it."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, _folder: Path) -> Usage:
        return Usage(self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(10**9)
    monkeypatch.setattr(shutil, "disk_usage", disk)
    return disk


@pytest.fixture
def admission(tmp_path: Path) -> Admission:
    return Admission(8, Clock(), DiskRoom(tmp_path, MOST, RESERVE))


def let_in(admission: Admission, stack: ExitStack, declared: int = 0) -> Turn:
    """Until the stack ends, unless it is refused."""
    with ExitStack() as own:
        turn = own.enter_context(admission.turn())
        admission.expect(turn, declared)
        stack.push(own.pop_all())
    return turn


def test_uploads_take_no_more_together_than_they_may(disk: Disk, admission: Admission) -> None:
    with ExitStack() as stack:
        first = let_in(admission, stack, MOST - 100)
        with pytest.raises(Busy) as refused:
            let_in(admission, stack, 101)
        assert (refused.value.status, refused.value.type) == (429, "too-many-uploads")
        second = let_in(admission, stack, 100)
        admission.came(first, MOST - 100)
        admission.came(second, 100)
        with pytest.raises(Busy):
            admission.came(second, 1)  # more than it said
    with ExitStack() as stack:
        let_in(admission, stack, MOST)


def test_what_is_announced_and_does_not_come_takes_no_room(disk: Disk, admission: Admission) -> None:
    with ExitStack() as stack:
        let_in(admission, stack, MOST)
        admission._clock.now += 2 * QUICK_S  # type: ignore[attr-defined]
        let_in(admission, stack, MOST)


def test_what_could_never_fit_is_refused_for_good(disk: Disk, admission: Admission) -> None:
    with ExitStack() as stack, pytest.raises(Refusal) as refused:
        let_in(admission, stack, MOST + 1)
    assert (refused.value.status, refused.value.type) == (413, "over-cap-max-incoming-bytes")


def test_a_reserve_of_the_disk_is_left(disk: Disk, admission: Admission) -> None:
    disk.free = RESERVE + 300
    with ExitStack() as stack:
        with pytest.raises(Refusal) as refused:
            let_in(admission, stack, 301)
        assert (refused.value.status, refused.value.type) == (503, "disk-full")
    with ExitStack() as stack:
        first = let_in(admission, stack, 200)
        admission.came(first, 200)
        disk.free -= 200
        with pytest.raises(Busy):
            let_in(admission, stack, 250)  # there will be room when the first has ended
        second = let_in(admission, stack)
        admission.came(second, 100)
        disk.free -= 100
        disk.free -= 1  # somebody else's
        with pytest.raises(Busy):
            admission.came(second, 10)


def test_a_body_that_did_not_say_how_long_it_is_ends_where_the_room_does(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", max_incoming_bytes=100_000)
    migrate(settings.database_url)
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    opening = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client, ExitStack() as stack:
        answer = client.post("/v1/series", content=iter([opening, *[b"x" * 50_000] * 3]), headers=form)
        assert (answer.status_code, problem_type(answer)) == (413, "over-cap-max-incoming-bytes")
        admission: Admission = client.app.state.admission  # type: ignore[attr-defined]
        admission.came(let_in(admission, stack), 60_000)
        answer = client.post("/v1/series", content=iter([opening, *[b"x" * 20_000] * 3]), headers=form)
        assert (answer.status_code, problem_type(answer)) == (429, "too-many-uploads")
        assert list((settings.data_dir / "incoming").iterdir()) == []


def test_what_is_unpacked_leaves_the_reserve_too(tmp_path: Path, zipped: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path / "data", disk_reserve_bytes=RESERVE)
    migrate(settings.database_url)
    free = 10**9

    def usage(_folder: Path) -> Usage:
        return Usage(free - sum(path.stat().st_size for path in (settings.data_dir / "incoming").rglob("*")))

    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        monkeypatch.setattr(shutil, "disk_usage", usage)
        files = {"files": ("series.zip", zipped)}
        free = RESERVE + len(zipped) + 10_000
        answer = client.post("/v1/series", files=files)
        assert (answer.status_code, problem_type(answer)) == (503, "disk-full")
        free = 10**9
        assert client.post("/v1/series", files=files).status_code == 201


def test_over_http(tmp_path: Path, upload: Files) -> None:
    size = sum(len(content) for _name, (_file, content) in upload)
    for limits, status, slug in (
        ({"max_incoming_bytes": size // 2}, 413, "over-cap-max-incoming-bytes"),
        ({"disk_reserve_bytes": 2**62}, 503, "disk-full"),
    ):
        settings = Settings(data_dir=tmp_path / slug, **limits)  # type: ignore[arg-type]
        migrate(settings.database_url)
        with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
            answer = client.post("/v1/series", files=upload)
            assert (answer.status_code, problem_type(answer)) == (status, slug)
        assert list((settings.data_dir / "incoming").iterdir()) == []
