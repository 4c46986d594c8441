"""Files by key, in a folder or an S3-compatible bucket."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CHUNK_BYTES = 1 << 20
SILENT_S = 10.0
"""A bucket has failed a request that it has not begun to answer by then, or whose answer stands still for as long."""
RETRIED_S = 10.0
"""For how long a request is tried again that was refused or cut off; one that met silence has taken as long, and is not."""
PARTS_AT_ONCE = 1
"""Of a large file that is stored, 5 MiB each: the time for an answer runs while a part is sent, so it has the line for itself."""
DELETED_AT_ONCE = 100
"""Keys in one request: a bucket has to have deleted them all before it answers."""
_CONNECT_S = 5.0
_TRANSFER_S = 3600.0
_BACKOFF_S = 2.0
_CLIENT_OPTIONS = (
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "default_content_type",
    "http1_only",
    "http2_keep_alive_interval",
    "http2_keep_alive_timeout",
    "http2_keep_alive_while_idle",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "randomize_addresses",
    "read_timeout",
    "root_certificate",
    "timeout",
    "user_agent",
)
StoreError = BaseError
"""What a store that does not do as it is told raises, FileNotFoundError aside."""


@dataclass(frozen=True)
class Artifact:
    """A stored file."""

    key: str
    size: int


def _local_folder(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(url) if len(parts.scheme) <= 1 else None


def _client_options() -> "ClientConfig":
    """Limits on silence, none that a large file on a slow line would meet; what the environment says goes first.

    Options that are given replace all that obstore would read from there, so that is done here.
    """
    limits_s = {"connect_timeout": _CONNECT_S, "read_timeout": SILENT_S, "timeout": _TRANSFER_S}
    limits = {name: f"{seconds * 1000:.0f}ms" for name, seconds in limits_s.items()}
    said = {name: os.environ[f"AWS_{name.upper()}"] for name in _CLIENT_OPTIONS if f"AWS_{name.upper()}" in os.environ}
    return cast("ClientConfig", limits | said)


def _retries() -> "RetryConfig":
    return {"retry_timeout": timedelta(seconds=RETRIED_S), "backoff": {"max_backoff": timedelta(seconds=_BACKOFF_S)}}


def _checked(key: str) -> str:
    segments = key.removesuffix("/").split("/")
    if any(segment in ("", ".", "..") or "\0" in segment for segment in segments):
        raise ValueError("an artifact key is made of plain, non-empty segments")
    return key


class ArtifactStore:
    """Files by key; a reader sees the whole of a file or nothing of it.

    `url` is a folder (made where it is missing), a file: URL, or s3://bucket/prefix, for which endpoint and credentials
    come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …). Keys have "/" between plain segments; a prefix
    ends with "/". Wrong keys raise ValueError, absent ones FileNotFoundError. A bucket that is silent raises StoreError after
    SILENT_S, one that refuses after RETRIED_S; AWS_READ_TIMEOUT and the like say otherwise.
    """

    def __init__(self, url: str | Path) -> None:
        """Open the store; a folder is made, a bucket must exist."""
        self._folder = _local_folder(str(url))
        self._store: ObjectStore
        if self._folder is not None:
            self._folder = self._folder.absolute()
            # Uploads hold patients' images: only this user may look.
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._store = LocalStore(self._folder)
        else:
            self._store = from_url(str(url), client_options=_client_options(), retry_config=_retries())

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a file at once."""
        obstore.put(self._store, _checked(key), data)

    def put_file(self, key: str, path: Path) -> None:
        """Copy a file in."""
        obstore.put(self._store, _checked(key), path, max_concurrency=PARTS_AT_ONCE)

    def put_folder(self, prefix: str, folder: Path) -> list[str]:
        """Copy a folder's files in, below `prefix`; their keys, sorted. Links are not followed into the store."""
        keys = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                key = prefix.removesuffix("/") + "/" + path.relative_to(folder).as_posix()
                self.put_file(key, path)
                keys.append(key)
        return keys

    def get(self, key: str) -> bytes:
        """A whole file."""
        return bytes(obstore.get(self._store, _checked(key)).bytes())

    def stream(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """A file in pieces. An absent file raises at once, before the first piece is asked for."""
        chunks = obstore.get(self._store, _checked(key)).stream(min_chunk_size=chunk_bytes)
        return (bytes(chunk) for chunk in chunks)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Some bytes of a file, from `start` on."""
        return bytes(obstore.get_range(self._store, _checked(key), start=start, length=length))

    def size(self, key: str) -> int:
        """Bytes of a file."""
        return int(obstore.head(self._store, _checked(key))["size"])

    def exists(self, key: str) -> bool:
        """Whether a file is there."""
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> list[Artifact]:
        """The files below a prefix, sorted by key."""
        pages = obstore.list(self._store, _checked(prefix).removesuffix("/") + "/")
        return sorted((Artifact(meta["path"], int(meta["size"])) for page in pages for meta in page), key=lambda a: a.key)

    def copy_out(self, key: str, folder: Path) -> Path:
        """Copy an artifact into a folder: a file under its last segment, or, for a prefix, all that lies below it.

        Returns the file's path, or the folder. Raises FileNotFoundError where nothing is there.
        """
        if not key.endswith("/"):
            target = folder / PurePosixPath(_checked(key)).name
            self._write_out(key, target)
            return target
        artifacts = self.list(key)
        if not artifacts:
            raise FileNotFoundError("no artifact lies below that prefix")
        for artifact in artifacts:
            self._write_out(artifact.key, folder / _checked(artifact.key.removeprefix(key)))
        return folder

    def delete_prefix(self, prefix: str) -> int:
        """Delete all below a prefix that ends with "/", or the one file of a key. Absent is fine.

        Returns how many files went; S3 does not tell whether the one file of a key was there.
        """
        keys = [artifact.key for artifact in self.list(prefix)] if prefix.endswith("/") else [_checked(prefix)]
        # A bucket deletes many keys by one request, and absent ones too; a folder's files are gone one by one.
        at_once = 1 if self._folder is not None else DELETED_AT_ONCE
        deleted = sum(self._delete(keys[first : first + at_once]) for first in range(0, len(keys), at_once))
        if self._folder is not None and prefix.endswith("/"):
            # Empty folders, and what a killed process left half written, are not artifacts but are here all the same.
            shutil.rmtree(self._folder / _checked(prefix), ignore_errors=True)
        return deleted

    def ping(self) -> None:
        """Raise where the store does not answer."""
        obstore.list_with_delimiter(self._store, "ping/")

    def answers(self) -> bool:
        """Whether the store can be asked at all; where it is away, saying so takes as long as any request's retries."""
        try:
            self.ping()
        except (StoreError, OSError):
            return False
        return True

    def _delete(self, keys: Sequence[str]) -> int:
        try:
            obstore.delete(self._store, keys)
        except FileNotFoundError:
            return 0
        return len(keys)

    def _write_out(self, key: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in self.stream(key):
                file.write(chunk)
