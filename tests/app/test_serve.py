"""The whole service as processes: started, stopped, killed in parts, started again."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from spinepaint.app.cli import app
from spinepaint.app.cli.service import is_loopback
from spinepaint.app.serve import READY
from tests.app.conftest import EDIT, Files

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0  # for a process on a busy machine
QUICK = {
    "SPINEPAINT_HEARTBEAT_S": "0.5",
    "SPINEPAINT_STALE_AFTER_S": "5",  # a busy machine may keep a heartbeat waiting
    "SPINEPAINT_PROGRESS_S": "0.1",
    "SPINEPAINT_RETRY_DELAY_S": "0.2",
    "SPINEPAINT_REAP_EVERY_S": "0.5",
    "SPINEPAINT_REANNOUNCE_AFTER_S": "2",
    "SPINEPAINT_SHUTDOWN_GRACE_S": "10",
}


class Service:
    """`spinepaint serve` on a free port, with the stand-in pipeline."""

    def __init__(self, data: Path, pipeline: str = "tests.app.standin:paint") -> None:
        argv = [sys.executable, "-m", "spinepaint.app.cli", "serve", "--port", "0", "--data", str(data)]
        argv += ["--pipeline", pipeline]
        env = {**os.environ, **QUICK, "PYTHONPATH": str(ROOT)}
        self.log = data.parent / "service.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line.startswith(READY):
            self.process.kill()
            self.process.wait()
            raise AssertionError(self.log.read_text())
        self.client = httpx.Client(base_url=line.removeprefix(READY), timeout=PATIENCE_S)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def named(self, part: str) -> psutil.Process:
        """The one process of that name, once there is one and what it replaces is gone."""

        def only() -> psutil.Process | None:
            found = [process for process in self.family() if part in words(process)]
            return found[0] if len(found) == 1 else None

        found: psutil.Process = until(only)
        return found

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Service]]:
    services: list[Service] = []

    def start() -> Service:
        services.append(Service(tmp_path / "data"))
        return services[-1]

    yield start
    for service in services:
        service.close()


def until(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return not any(alive(process) for process in processes)


def words(process: psutil.Process) -> str:
    """Its command line; empty for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two
        return False


def submit(service: Service, series_id: str, steps: int) -> str:
    answer = service.client.post("/v1/jobs", json={"series_id": series_id, **EDIT, "steps": steps})
    return str(answer.raise_for_status().json()["id"])


def test_a_job_cancelled_over_http_frees_the_worker_for_the_next(tmp_path: Path, upload: Files) -> None:
    service = Service(tmp_path / "data", "tests.app.standin:endless")
    try:
        series_id = service.client.post("/v1/series", files=upload).json()["id"]
        cancelled, following = submit(service, series_id, 1), submit(service, series_id, 1)
        until(lambda: _state(service, cancelled) == "running")
        assert _state(service, following) == "queued"
        assert service.client.post(f"/v1/jobs/{cancelled}/cancel").json()["state"] == "cancelled"
        until(lambda: _state(service, following) == "running")  # no job of this pipeline ends by itself
        assert _state(service, cancelled) == "cancelled"
    finally:
        service.close()


def test_a_job_from_end_to_end_and_a_clean_stop(start: Callable[[], Service], upload: Files, tmp_path: Path) -> None:
    service = start()
    family = service.family()
    # Until a worker is up a result takes as long as that; the wait that is asked for below is for a result alone.
    series_id = service.client.post("/v1/series", files=upload).json()["id"]
    first = submit(service, series_id, 1)
    until(lambda: _finished(service, first))
    spec = '{"pathology":"disc_herniation","fsu":"L4-L5","severity":"small"}'
    answer = service.client.post("/v1/inpaint", files=upload, data={"spec": spec}, headers={"Prefer": "wait=25"})
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert len([name for name in archive.namelist() if name.startswith("sample-01/series/")]) == 7
    assert set(service.client.get("/health/ready").json().get("failing", [])) <= {"bundle"}

    second = subprocess.run(
        [sys.executable, "-m", "spinepaint.app.cli", "serve", "--port", "0", "--data", str(tmp_path / "data")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "another service runs" in second.stderr
    assert "Traceback" not in second.stderr

    too_much = service.client.post("/v1/series", content=iter([b"x" * 2**20] * 8), headers={"Content-Type": "text/plain"})
    assert too_much.status_code == 415

    family += service.family()
    service.process.terminate()
    assert service.process.wait(PATIENCE_S) == 0
    assert gone(family)
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "Invented" not in log
    assert "IM00" not in log


def test_ctrl_c_gives_a_running_job_back_and_the_next_start_finishes_it(start: Callable[[], Service], upload: Files) -> None:
    service = start()
    series_id = service.client.post("/v1/series", files=upload).json()["id"]
    job = submit(service, series_id, 40)
    until(partial(_progress, service, job))
    with service.client.stream("GET", f"/v1/jobs/{job}/events"):  # a follower does not hold the stop up
        family = service.family()
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(PATIENCE_S) == 0
    assert gone(family)
    again = start()
    view = until(lambda: _finished(again, job))
    assert (view["state"], view["attempts"]) == ("succeeded", 1)


def _state(service: Service, job: str) -> str:
    return str(service.client.get(f"/v1/jobs/{job}").json()["state"])


def _finished(service: Service, job: str) -> dict[str, Any] | None:
    view: dict[str, Any] = service.client.get(f"/v1/jobs/{job}").json()
    return view if view["finished_at"] else None


def test_whatever_is_killed_each_job_is_finished_once(start: Callable[[], Service], upload: Files) -> None:
    service = start()
    series_id = service.client.post("/v1/series", files=upload).json()["id"]
    for killed in ("spawn_main", "worker", "valkey-server", "gateway", "all"):
        running, queued = submit(service, series_id, 20), submit(service, series_id, 1)
        until(partial(_progress, service, running))
        family = service.family()
        if killed in ("gateway", "all"):
            for process in [service.process, *(family if killed == "all" else [])]:
                process.kill()
            service.process.wait()
            service = start()
            until(partial(gone, family))
        else:
            service.named(killed).kill()
        for job in (running, queued):
            _assert_delivered_once(service, job)


def _progress(service: Service, job: str) -> float:
    return float(service.client.get(f"/v1/jobs/{job}").json()["progress"])


def _assert_delivered_once(service: Service, job: str) -> None:
    view = until(lambda: _finished(service, job))
    assert view["state"] == "succeeded"
    assert view["attempts"] <= 2
    assert service.client.get(f"/v1/jobs/{job}/events").text.count('"succeeded"') == 1
    with zipfile.ZipFile(io.BytesIO(service.client.get(f"/v1/jobs/{job}/result").content)) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_addresses_need_keys(tmp_path: Path, host: str) -> None:
    arguments = ["serve", "--data", str(tmp_path / "data")]
    done = CliRunner().invoke(app, [*arguments, "--host", host])
    assert done.exit_code == 2
    assert "reached by others" in done.stderr
    assert CliRunner().invoke(app, arguments, env={"SPINEPAINT_HOST": host}).exit_code == 2
    assert not (tmp_path / "data").exists()


def test_loopback_addresses() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "", "10.0.0.1", "localhost.example.org"))


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_wrong_setting_is_named(command: str) -> None:
    done = CliRunner().invoke(app, [command], env={"SPINEPAINT_MAX_ATTEMPTS": "none"})
    assert done.exit_code == 2
    assert "SPINEPAINT_MAX_ATTEMPTS" in done.stderr


@pytest.mark.parametrize("name", ["SPINEPAINT_DESTINATIONS", "SPINEPAINT_CAPS"])
@pytest.mark.parametrize("value", ["notjson", "7"])
def test_a_setting_that_is_not_json_is_named(name: str, value: str) -> None:
    done = CliRunner().invoke(app, ["serve"], env={name: value})
    assert done.exit_code == 2
    assert name in done.stderr


def test_a_worker_needs_a_broker(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["worker", "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert "SPINEPAINT_BROKER_URL" in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        argv = [sys.executable, "-m", "spinepaint.app.cli", "serve", "--data", str(tmp_path / "data")]
        argv += ["--port", str(taken.getsockname()[1])]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
