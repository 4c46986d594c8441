"""A deployment from its first install on: what docker-compose.yml and docs/10-runbook.md say, done with real stores."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.servers import weed
from tests.docker.described import DOCKER, manifests
from tests.docker.parts import SERVICES, Parts, job, until
from tests.docker.recovery import database_restored, dumped, on_the_bucket_s_volume
from tests.imaging.series_factory import make_series

EDIT = {"pathology": "disc_herniation", "fsu": "L4-L5", "severity": "small"}


@pytest.fixture(scope="module")
def parts() -> Iterator[Parts]:
    """The stores, with their bucket; the database is empty."""
    with ExitStack() as stack:
        # Not below pytest's folder, which only its user may enter: PostgreSQL has a user of its own.
        parts = Parts(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spinepaint-"))), stack)
        parts.start_postgres()
        parts.start_valkey()
        parts.start_objects()
        for _again in range(2):  # it does no harm where the bucket is
            done = parts.make_bucket()
            assert done.returncode == 0, done.stdout + done.stderr
        yield parts


@pytest.fixture(scope="module")
def client(parts: Parts) -> httpx.Client:
    """The gateway, once the database has been migrated by the one-shot service."""
    unready = parts.once("gateway", "migrate", "--check")
    assert unready.returncode == 1
    assert "schema none" in unready.stderr
    done = parts.once("migrate", *SERVICES["migrate"]["command"])
    assert done.returncode == 0, done.stderr
    assert parts.once("gateway", "migrate", "--check").returncode == 0
    # It listens to others, so it does not start until somebody needs a key.
    refused = parts.once("gateway", "serve", "--no-worker", "--port", "0")
    assert refused.returncode == 2, refused.stderr
    assert "keys create" in refused.stderr
    made = parts.once("migrate", "keys", "create", "--name", "first")
    assert made.returncode == 0, made.stderr
    _, client = parts.start_gateway(made.stdout.strip())
    assert httpx.get(f"{client.base_url}/v1/jobs").status_code == 401
    return client


def upload(client: httpx.Client, folder: Path) -> str:
    paths = make_series(folder, slices=7, rows=64, columns=64, spacing_mm=(4.4, 2.0, 2.0))
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    return str(client.post("/v1/series", files=files).raise_for_status().json()["id"])


def submit(client: httpx.Client, series_id: str, steps: int) -> str:
    answer = client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "steps": steps})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def finished(client: httpx.Client, job_id: str) -> dict[str, Any]:
    return dict(until(lambda: (view := job(client, job_id))["finished_at"] and view))


def test_the_image_s_store_is_the_one_that_is_rehearsed() -> None:
    version = re.search(r"(\d+\.\d+)", subprocess.run([weed(), "version"], capture_output=True, text=True, check=True).stdout)
    assert version is not None
    assert SERVICES["objects"]["image"].endswith(f":{version.group(1)}")


def test_a_job_from_gateway_to_worker(parts: Parts, client: httpx.Client, tmp_path: Path) -> None:
    assert client.get("/health/ready").json() == {"status": "ready"}
    port = str(client.base_url.port)
    argv = [sys.executable, str(DOCKER / "healthcheck.py"), "gateway"]
    assert subprocess.run(argv, env={**os.environ, "SPINEPAINT_PORT": port}, check=False).returncode == 0
    series_id = upload(client, tmp_path)
    waiting = submit(client, series_id, 1)
    assert job(client, waiting)["state"] == "queued"  # nobody works yet: the gateway is alone
    worker = parts.start_worker()
    view = finished(client, waiting)
    assert view["state"] == "succeeded", view["problem"]
    assert client.get(f"/v1/jobs/{waiting}/result").content.startswith(b"PK")
    # A worker that is asked to stop gives its job back; another takes it up.
    long = submit(client, series_id, 900)
    until(lambda: job(client, long)["progress"])
    worker.terminate()
    assert worker.wait(120) == 0
    assert job(client, long)["state"] == "queued"
    parts.start_worker("second")
    until(lambda: job(client, long)["state"] == "running")
    assert client.post(f"/v1/jobs/{long}/cancel").status_code < 300
    assert finished(client, long)["state"] == "cancelled"


def test_the_database_asks_for_its_password_and_nobody_prints_it(parts: Parts, client: httpx.Client) -> None:
    assert parts.tool("psql", "--dbname=spinepaint", "--command=SELECT 1", password="wrong").returncode != 0
    assert parts.tool("psql", "--dbname=spinepaint", "--command=SELECT 1").returncode == 0
    secrets = [path.read_text() for path in parts.secrets.iterdir() if path.name not in ("valkey_conf", "s3_config")]
    for log in parts.folder.glob("*.log"):
        assert not [secret for secret in secrets if secret in log.read_text(errors="replace")], log.name


def test_the_store_gives_nothing_without_a_key(parts: Parts, client: httpx.Client) -> None:
    base = f"http://127.0.0.1:{parts.ports['s3']}"
    assert httpx.get(f"{base}/spinepaint?list-type=2").status_code == 403
    assert httpx.get(f"{base}/").status_code == 403


def test_what_scales_the_workers_can_be_asked_of_the_ledger(parts: Parts, client: httpx.Client) -> None:
    (scaled,) = [one for one in manifests() if one["kind"] == "ScaledObject"]
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    done = parts.tool("psql", "--dbname=spinepaint", "--tuples-only", f"--command={query}")
    assert done.stdout.strip() == b"0"


def test_a_lost_broker_loses_no_job(parts: Parts, client: httpx.Client, tmp_path: Path) -> None:
    series_id = upload(client, tmp_path)
    parts.stop_valkey()
    until(lambda: client.get("/health/ready").json()["status"] == "degraded")
    assert client.get("/health/ready").status_code == 200  # a probe sends nobody away for it
    waiting = submit(client, series_id, 1)
    parts.start_valkey()
    assert finished(client, waiting)["state"] == "succeeded"
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_back_up_and_restore(parts: Parts, client: httpx.Client, tmp_path: Path) -> None:
    job_id = submit(client, upload(client, tmp_path / "first"), 1)
    finished(client, job_id)
    result = client.get(f"/v1/jobs/{job_id}/result").content
    dump = dumped(parts)
    (tmp_path / "copies").mkdir()
    parts.stop_objects()
    assert on_the_bucket_s_volume("Back up", parts.folder / "objects", tmp_path / "copies")
    parts.start_objects()
    # What comes after it lies in both stores when they are restored over it.
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    since = submit(client, upload(client, tmp_path / "second"), 2)
    assert finished(client, since)["state"] == "succeeded"
    assert database_restored(parts, dump)
    parts.stop_objects()
    assert on_the_bucket_s_volume("Restore", parts.folder / "objects", tmp_path / "copies")
    parts.start_objects()
    assert job(client, job_id)["state"] == "succeeded"
    assert client.get(f"/v1/jobs/{job_id}/result").content == result
    assert client.get(f"/v1/jobs/{since}").status_code == 404
    assert parts.once("gateway", "migrate", "--check").returncode == 0
    later = submit(client, upload(client, tmp_path / "third"), 3)
    assert finished(client, later)["state"] == "succeeded"


def test_a_step_back_of_the_schema_and_forth(parts: Parts, client: httpx.Client) -> None:
    done = parts.once("migrate", "migrate", "--to", "0003")
    assert done.returncode == 0, done.stderr
    assert parts.once("gateway", "migrate", "--check").returncode == 1
    assert parts.once("migrate", "migrate").returncode == 0
    assert parts.once("gateway", "migrate", "--check").returncode == 0
    # The older schema had no scopes: what keys may do is lost with them, so they are made again.
    key = parts.once("migrate", "keys", "create", "--name", "again").stdout.strip()
    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
