"""Multipart uploads: numbered on disk, capped, and gone afterwards."""

import asyncio
import shutil
from pathlib import Path

import psutil
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from python_multipart.multipart import MultipartParser

from spinepaint.app import problems
from spinepaint.app.upload_form import Form, Preamble, Upload
from spinepaint.app.uploads import received
from spinepaint.imaging.caps import Caps
from spinepaint.imaging.errors import InstanceReason, Refusal


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "incoming"


@pytest.fixture
def client(incoming: Path) -> TestClient:
    app = FastAPI()
    problems.install(app)
    caps = Caps(upload_bytes=100_000, upload_files=3)

    @app.post("/")
    async def take(request: Request) -> dict[str, object]:
        async with received(request, incoming, caps, frozenset({"spec"})) as upload:
            stored = {path.name: path.read_bytes().decode() for path in sorted(upload.folder.iterdir())}
            return {"stored": stored, "names": upload.names, "fields": upload.fields, "source": upload.source.name}

    return TestClient(app)


def _files(*contents: bytes, name: str = "a.dcm") -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, content)) for content in contents]


def test_files_are_numbered_and_fields_kept(client: TestClient) -> None:
    answer = client.post("/", files=_files(b"one", b"two"), data={"spec": "{}"}).json()
    assert answer["stored"] == {"000001": "one", "000002": "two"}
    assert answer["names"] == {"000001": "a.dcm", "000002": "a.dcm"}
    assert answer["fields"] == {"spec": "{}"}


def test_one_file_is_itself_the_source(client: TestClient) -> None:
    assert client.post("/", files=_files(b"PK")).json()["source"] == "000001"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x\\passwd", "a/../passwd"])
def test_a_client_name_is_never_a_path(client: TestClient, incoming: Path, name: str) -> None:
    answer = client.post("/", files=_files(b"x", b"y", name=name)).json()
    assert set(answer["stored"]) == {"000001", "000002"}
    assert answer["names"]["000001"] == "passwd"
    assert not any(incoming.parent.rglob("passwd"))


def test_binary_content_survives_chunking(incoming: Path) -> None:
    app = FastAPI()
    content = bytes(range(256)) * 4000 + b"\r\n--almost-a-boundary\r\n"

    @app.post("/")
    async def take(request: Request) -> bool:
        async with received(request, incoming, Caps()) as upload:
            return upload.source.read_bytes() == content

    assert TestClient(app).post("/", files=_files(content)).json() is True


def test_of_very_many_files_in_a_piece_one_is_open_at_a_time(tmp_path: Path) -> None:
    upload = Upload(tmp_path)
    form = Form(upload, Caps(), frozenset())
    part = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\n%d\r\n'
    MultipartParser(b"b", form.callbacks()).write(b"".join(part % number for number in range(500)))
    assert len(upload.names) == 500
    assert list(tmp_path.iterdir()) == []  # for the thread that writes, and not for the event loop
    before = psutil.Process().num_fds()
    form.flush()
    assert psutil.Process().num_fds() == before + 1
    form.close()
    assert psutil.Process().num_fds() == before
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"%d" % number for number in range(500)]


def test_the_folder_of_an_upload_is_removed_off_the_event_loop(
    client: TestClient, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    rmtree = shutil.rmtree

    def watched(path: Path) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        threads.append(path.parent)
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", watched)
    assert client.post("/", files=_files(b"one")).status_code == 200
    assert threads == [incoming]


def test_nothing_stays_after_the_request(client: TestClient, incoming: Path) -> None:
    client.post("/", files=_files(b"one"))
    client.post("/", files=_files(b"x" * 200_000))
    assert list(incoming.iterdir()) == []


def test_too_many_bytes(client: TestClient) -> None:
    answer = client.post("/", files=_files(b"x" * 200_000))
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("/over-cap-upload-bytes")
    assert "upload_bytes" in answer.json()["title"]


def test_too_many_bytes_without_a_length(client: TestClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = iter([head, b"x" * 80_000, b"x" * 80_000, b"\r\n--b--\r\n"])
    answer = client.post("/", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413


def test_too_many_files(client: TestClient) -> None:
    answer = client.post("/", files=_files(b"1", b"2", b"3", b"4"))
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("/over-cap-upload-files")


def test_no_files(client: TestClient) -> None:
    answer = client.post("/", files={"spec": (None, "{}")})
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("/no-files")


def test_unknown_and_repeated_fields(client: TestClient) -> None:
    assert client.post("/", files=_files(b"x"), data={"patient": "y"}).status_code == 422
    assert client.post("/", files=_files(b"x"), data={"spec": ["1", "2"]}).status_code == 422


def test_a_long_field(client: TestClient) -> None:
    answer = client.post("/", files=_files(b"x"), data={"spec": "x" * 70_000})
    assert answer.status_code == 413
    assert answer.json()["type"].endswith("/field-too-long")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "application/json"}, b"{}", 415),
        ({"Content-Type": "multipart/form-data"}, b"", 415),
        ({"Content-Type": "multipart/form-data; boundary=b", "Content-Encoding": "gzip"}, b"", 415),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"nonsense", 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"--b\r\nContent-Disposition: form-data", 400),
        ({"Content-Type": "multipart/form-data; boundary=" + "b" * 600}, b"--b\r\n", 400),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"", 400),
    ],
)
def test_what_is_no_form(client: TestClient, incoming: Path, headers: dict[str, str], body: bytes, status: int) -> None:
    answer = client.post("/", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert not incoming.exists() or list(incoming.iterdir()) == []


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_preamble_is_passed_over_however_it_is_cut(size: int) -> None:
    rest = b"--bound\r\n\r\ncontent\r\n--bound--\r\n"
    for preamble in (b"", b"\r\n", b"text\r\n--boundless\r\n --bound\r\n--\r\n\n"):
        opening, body = Preamble(b"bound"), preamble + rest
        assert b"".join(opening.rest(body[at : at + size]) for at in range(0, len(body), size)) == rest
    opening = Preamble(b"bound")
    assert opening.rest(b"no part may be lost\r\n--bound \r\n") == b"--bound \r\n"
    opening = Preamble(b"bound")
    assert opening.rest(b"x" * 100_000) + opening.rest(b"\r\n--boun") == b""
    assert len(opening._held or b"") < 20


def test_a_cut_body_is_refused(client: TestClient) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\ncontent that never ends'
    answer = client.post("/", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("/malformed-upload")


def test_refusals_speak_of_the_clients_names(tmp_path: Path) -> None:
    upload = Upload(tmp_path, names={"000001": "IM1.dcm"})
    refusal = Refusal("t", "T", instances=[InstanceReason("000001", "bad"), InstanceReason("other", "bad")])
    assert [i.file for i in upload.named(refusal).instances] == ["IM1.dcm", "other"]
