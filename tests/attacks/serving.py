"""`spinepaint serve` as a process of its own: what an attacker has before them, and what can be weighed while they try."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from spinepaint.app.serve import READY
from spinepaint.settings import Settings
from spinepaint.store import ArtifactStore, Ledger

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0  # for a process on a busy machine
MIB = 2**20
_SPARE_FILES = 16  # connections of this client, and of the ledger's pool, that are kept for the next request


@dataclass
class Serving:
    """A gateway that runs, with its ledger and its store, which only a test can reach."""

    url: str
    settings: Settings
    ledger: Ledger
    artifacts: ArtifactStore
    client: httpx.Client
    process: psutil.Process
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.url)
        assert parts.hostname and parts.port
        return parts.hostname, parts.port

    def key(self, **options: object) -> str:
        """A new API key; from the first on the gateway asks for one."""
        return self.ledger.create_key("test", **options)[1]  # type: ignore[arg-type]

    def peak_bytes(self) -> int:
        """The most that the gateway ever had in memory (proc(5), VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    def open_files(self) -> int:
        """How many files and sockets the gateway has open."""
        return int(self.process.num_fds())

    def kept(self) -> tuple[list[str], list[str]]:
        """Whatever lies in the store, and in the folder of uploads that come in."""
        found = []
        for folder in (Path(self.settings.artifacts_url), self.settings.data_dir / "incoming"):
            found.append(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
        return found[0], found[1]

    def rows(self) -> dict[str, int]:
        """How many rows each table has that a refused request might add to."""
        from sqlalchemy import text

        tables = ("series", "jobs", "batches", "events", "outbox", "dicom_series", "dicom_instances")
        with self.ledger.read() as session:
            return {table: int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0) for table in tables}

    def answers(self) -> bool:
        """Whether it is well."""
        return self.client.get("/health/ready").status_code == 200


@contextmanager
def serving(folder: Path, broker_url: str, **settings: str) -> Iterator[Serving]:
    """A gateway without a worker, on a free port of loopback; `settings` by the end of their names in the environment."""
    data = folder / "data"
    env = {**os.environ, "SPINEPAINT_BROKER_URL": broker_url, "PYTHONPATH": str(ROOT)}
    env |= {f"SPINEPAINT_{name.upper()}": value for name, value in settings.items()}
    argv = [sys.executable, "-m", "spinepaint.app.cli", "serve", "--no-worker", "--port", "0", "--data", str(data)]
    log = folder / "gateway.log"
    with log.open("ab") as stderr:
        process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        assert line.startswith(READY), log.read_text()
        url = line.removeprefix(READY)
        of_it = Settings(data_dir=data)
        ledger = Ledger(of_it.database_url)
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            artifacts = ArtifactStore(of_it.artifacts_url)
            yield Serving(url, of_it, ledger, artifacts, client, psutil.Process(process.pid), log)
        ledger.close()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        process.stdout.close()


@contextmanager
def unharmed(gateway: Serving, *, more_mib: int = 48) -> Iterator[None]:
    """What is done inside leaves no row, no artifact, no file and no open file behind, and a gateway that answers.

    `more_mib` is by how much the most memory that it ever had may have grown.
    """
    rows, kept, peak, files = gateway.rows(), gateway.kept(), gateway.peak_bytes(), gateway.open_files()
    yield
    assert gateway.answers()
    assert gateway.rows() == rows
    assert gateway.kept() == kept
    assert gateway.peak_bytes() - peak < more_mib * MIB
    assert gateway.open_files() <= files + _SPARE_FILES


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and slug of a problem document, after checking that it is one and gives away nothing of the machine."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:500]
    document = answer.json()
    assert document["status"] == answer.status_code
    assert "Traceback" not in answer.text and "/work" not in answer.text and "root:" not in answer.text
    return answer.status_code, str(document["type"].removeprefix("https://spinepaint.invalid/problems/"))
