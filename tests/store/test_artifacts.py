import os
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from obstore.store import S3Store

from spinepaint.store import ArtifactStore, artifacts
from spinepaint.store.artifacts import StoreError


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_what_is_put_is_got(store: ArtifactStore, tmp_path: Path) -> None:
    store.put_bytes("a/b.bin", b"bytes")
    source = tmp_path / "file"
    source.write_bytes(b"file")
    store.put_file("a/c.bin", source)
    assert store.get("a/b.bin") == b"bytes"
    assert store.get("a/c.bin") == b"file"
    assert store.size("a/b.bin") == 5
    assert store.exists("a/b.bin")
    assert not store.exists("a/d.bin")


def test_a_file_url_is_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    ArtifactStore(folder.as_uri()).put_bytes("a", b"1")
    assert ArtifactStore(str(folder)).get("a") == b"1"


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    ArtifactStore(tmp_path / "artifacts")
    assert (tmp_path / "artifacts").stat().st_mode & 0o077 == 0


def test_a_stream_gives_the_whole_in_pieces(store: ArtifactStore) -> None:
    data = os.urandom(3_000_000)
    store.put_bytes("big", data)
    pieces = list(store.stream("big", chunk_bytes=100_000))
    assert b"".join(pieces) == data
    assert len(pieces) > 3


def test_an_absent_file_raises_before_the_stream_starts(store: ArtifactStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.stream("absent")
    with pytest.raises(FileNotFoundError):
        store.get("absent")


def test_a_folder_goes_in_and_comes_out_the_same(store: ArtifactStore, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "series").mkdir(parents=True)
    (tree / "series" / "1 é%.dcm").write_bytes(b"1")
    (tree / "report.json").write_bytes(b"{}")
    keys = store.put_folder("results/j/t/", tree)
    assert keys == ["results/j/t/report.json", "results/j/t/series/1 é%.dcm"]
    assert [(a.key, a.size) for a in store.list("results/j/t/")] == [(keys[0], 2), (keys[1], 1)]
    store.copy_out("results/j/t/", tmp_path / "out")
    assert (tmp_path / "out" / "series" / "1 é%.dcm").read_bytes() == b"1"
    assert (tmp_path / "out" / "report.json").read_bytes() == b"{}"


def test_one_file_comes_out_under_its_name(store: ArtifactStore, tmp_path: Path) -> None:
    store.put_bytes("sources/a/upload.zip", b"zip")
    path = store.copy_out("sources/a/upload.zip", tmp_path)
    assert path == tmp_path / "upload.zip"
    assert path.read_bytes() == b"zip"


def test_nothing_below_a_prefix_is_an_error_not_an_empty_folder(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.copy_out("sources/absent/", tmp_path)


def test_a_link_in_a_folder_is_not_followed_into_the_store(store: ArtifactStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(secret)
    assert store.put_folder("results/j/t/", tree) == []


def test_deleting_a_prefix_takes_all_below_it_and_nothing_beside_it(store: ArtifactStore, tmp_path: Path) -> None:
    for key in ("r/a/1", "r/a/b/2", "r/ab/3"):
        store.put_bytes(key, b"x")
    half_written = tmp_path / "artifacts" / "r" / "a" / "1#1"
    half_written.write_bytes(b"h")
    assert store.delete_prefix("r/a/") == 2
    assert [a.key for a in store.list("r/")] == ["r/ab/3"]
    assert not half_written.exists()
    assert store.delete_prefix("r/a/") == 0
    assert store.delete_prefix("r/ab/3") == 1
    assert store.delete_prefix("r/ab/3") == 0


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a//b", "", ".", "a/./b", "a\0b"])
def test_keys_that_leave_the_store_are_refused(store: ArtifactStore, key: str, tmp_path: Path) -> None:
    for attempt in (
        lambda: store.put_bytes(key, b"x"),
        lambda: store.get(key),
        lambda: store.stream(key),
        lambda: store.copy_out(key, tmp_path / "out"),
        lambda: store.delete_prefix(key + "/"),
    ):
        with pytest.raises(ValueError, match="artifact key"):
            attempt()


def test_a_reader_never_sees_half_of_a_file(store: ArtifactStore) -> None:
    store.put_bytes("file", b"a" * 4_000_000)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            data = store.get("file")
            seen.add(bytes(set(data)) + str(len(data)).encode())

    reader = threading.Thread(target=read)
    reader.start()
    for letter in (b"b", b"c", b"a", b"b", b"c"):
        store.put_bytes("file", letter * 4_000_000)
    done.set()
    reader.join()
    assert seen <= {b"a4000000", b"b4000000", b"c4000000"}
    assert seen


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that takes connections and is silent; of whoever connects its backlog keeps all that was sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def bucket_at(port: int, monkeypatch: pytest.MonkeyPatch, **environment: str) -> ArtifactStore:
    said = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ALLOW_HTTP": "true", "REGION": "us-east-1", **environment}
    for name, value in {**said, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return ArtifactStore("s3://bucket/artifacts")


@pytest.mark.parametrize("size", [1, 12_000_000])
def test_a_bucket_that_is_silent_is_asked_once_and_holds_nobody(
    listener: socket.socket, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(artifacts, "SILENT_S", 0.3)
    monkeypatch.setattr(artifacts, "RETRIED_S", 0.1)
    store = bucket_at(listener.getsockname()[1], monkeypatch)
    source = tmp_path / "file"
    source.write_bytes(b"x" * size)
    with pytest.raises(StoreError):
        store.put_file("a/1", source)
    with pytest.raises(StoreError):
        store.delete_prefix("a/") if size > 1 else store.get("a/1")
    listener.setblocking(False)
    asked = [listener.accept()[0] for _ in range(2)]
    with pytest.raises(BlockingIOError):
        listener.accept()
    for connection in asked:
        connection.close()


def test_limits_are_on_silence_and_what_the_environment_says_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_of(bucket_at(1, monkeypatch))
    assert (options["read_timeout"], options["timeout"], options["allow_http"]) == ("10000ms", "3600000ms", "true")
    options = options_of(bucket_at(1, monkeypatch, READ_TIMEOUT="40s", PROXY_URL="http://127.0.0.1:9"))
    assert (options["read_timeout"], options["proxy_url"]) == ("40s", "http://127.0.0.1:9")


def options_of(store: ArtifactStore) -> dict[str, Any]:
    assert isinstance(store._store, S3Store)
    return dict(store._store.client_options or {})


class Bucket(BaseHTTPRequestHandler):
    """An S3 bucket that lists 250 files and deletes what it is asked to."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, int]]] = []

    def do_GET(self) -> None:
        known = "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag><Size>1</Size>"
        files = "".join(f"<Contents><Key>artifacts/r/{number}</Key>{known}</Contents>" for number in range(250))
        self.answer(f"<ListBucketResult>{files}</ListBucketResult>")

    def do_POST(self) -> None:
        keys = re.findall(rb"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, len(keys)))
        gone = "".join(f"<Deleted><Key>{key.decode()}</Key></Deleted>" for key in keys)
        self.answer(f"<DeleteResult>{gone}</DeleteResult>")

    def do_DELETE(self) -> None:
        self.asked.append((self.path, 1))
        self.answer("")

    def answer(self, body: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_many_files_of_a_bucket_go_by_few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert bucket_at(server.server_port, monkeypatch).delete_prefix("r/") == 250
        server.shutdown()
    assert Bucket.asked == [("/bucket?delete", 100), ("/bucket?delete", 100), ("/bucket?delete", 50)]
