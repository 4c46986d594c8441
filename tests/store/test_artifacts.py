import os
import threading
from pathlib import Path

import pytest

from spinepaint.store import ArtifactStore


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
