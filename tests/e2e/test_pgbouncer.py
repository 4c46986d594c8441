"""Gateway and workers behind PgBouncer in transaction mode, which gives each transaction another connection of a few."""

import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pwd import getpwuid

import httpx
from sqlalchemy import make_url

from bench.load import SPEC
from bench.servers import Servers, end, free_ports, until
from spinepaint.store import Ledger
from spinepaint.training.phantom import make_phantom, write_series

JOBS, WORKERS, CONNECTIONS = 30, 3, 4


@contextmanager
def pooled(database_url: str, folder: Path) -> Iterator[str]:
    """The URL of a database through a pool of a few connections, as PgBouncer has it where it keeps no sessions."""
    url, (port,) = make_url(database_url), free_ports(1)
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\nspinepaint = host={url.query['host']} dbname={url.database} user={url.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\nmax_client_conn = 200\n"
    )
    config.chmod(0o644)
    # It does not run as root, and PostgreSQL's socket is open to its own user alone.
    owner = getpwuid((folder / "postgres").stat().st_uid).pw_name
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    assert program is not None
    with (folder / "pgbouncer.log").open("ab") as log:
        process = subprocess.Popen([program, "-u", owner, str(config)], stdout=log, stderr=log)
    try:
        yield str(url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False))
    finally:
        end(process)


def test_every_job_ends_where_each_transaction_has_another_connection() -> None:
    # Not below pytest's own folder, which PostgreSQL's user may not enter.
    with tempfile.TemporaryDirectory(prefix="spinepaint-") as name, Servers(Path(name)) as servers:
        folder = Path(name)
        (direct_url,) = servers.postgres("spinepaint")
        with pooled(direct_url, folder) as url:
            servers.environment["SPINEPAINT_DATABASE_URL"] = url
            servers.valkey()
            servers.objects()
            _, gateway_url = servers.gateway()
            for number in range(WORKERS):
                servers.worker(f"worker-{number}")
            paths = write_series(make_phantom(4, slices=18, matrix=128), folder / "source", seed=4)
            files = [("files", (path.name, path.read_bytes())) for path in paths]
            with httpx.Client(base_url=gateway_url, timeout=120) as client:
                for seed in range(JOBS):
                    told = {"spec": json.dumps(SPEC | {"steps": 10, "seed": seed})}
                    client.post("/v1/inpaint", files=files, data=told).raise_for_status()
                ledger = Ledger(direct_url)
                until(lambda: ledger.queue_depth() == 0 and not ledger.count_states()["running"])
                states = ledger.count_states()
                attempts = Counter(job.attempts for job in ledger.list_jobs(limit=JOBS).jobs)
                ledger.close()
                assert states["succeeded"] == JOBS
                assert attempts == {1: JOBS}
                assert client.get("/health/ready").status_code == 200
        logs = "".join(path.read_text() for path in folder.glob("*.log"))
        assert "prepared statement" not in logs
        assert "ProgrammingError" not in logs
